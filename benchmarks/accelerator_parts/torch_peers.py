"""Part 4: PyTorch on the same device: dense losses, and encoders of equal size.

The losses as open_clip has them; a vision transformer as CED and a text encoder as SONAR, with
PyTorch's fused attention, under autocast to bfloat16; as they are and with `torch.compile`.
"""

import itertools
import statistics
import time
from collections.abc import Iterator
from functools import partial

import torch
from torch import nn

from accelerator_parts.rows import Case, OutOfMemory, Rows
from open_clip_losses import info_nce, siglip
from torch_encoders import CED, Block

DIM = 768
BATCHES = {"losses": (65_536, 32_768, 16_384, 8_192, 4_096), "encoders": (128, 64, 256)}
LOSSES = {"SigLIP": siglip, "InfoNCE": info_nce}
LEAST_RUNS, LEAST_SECONDS, MOST_RUNS = 5, 0.5, 50
MIB = 2**20
PAD = 1
WHAT = ("forward + backward", "forward")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


class TextEncoder(nn.Module):
    """SONAR's size and order of operations; its positions are learned ones."""

    def __init__(self, vocab_size=8_009, dim=1024, depth=24, heads=16, ffn_dim=8192, length=64):
        super().__init__()
        self.embed = nn.Embedding(vocab_size, dim)
        self.positions = nn.Parameter(torch.zeros(length, dim))
        self.blocks = nn.ModuleList(
            Block(dim, heads, hidden=ffn_dim, activation=torch.relu) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(dim)

    def forward(self, tokens):
        x = self.embed(tokens) + self.positions
        mask = (tokens != PAD)[:, None, None]
        for block in self.blocks:
            x = block(x, mask)
        return self.norm(x).mean(1)


def machine() -> dict:
    name = torch.cuda.get_device_name() if DEVICE == "cuda" else "cpu"
    return {"device": name, "platform": DEVICE, "torch": torch.__version__}


def cases(quick: bool, rows: Rows) -> Iterator[Case]:
    batches = {"losses": (128, 256), "encoders": (4,)} if quick else BATCHES
    forms = ("eager",) if quick else ("eager", "compiled")
    for form in forms:
        for batch in batches["encoders"]:
            for tower, what in itertools.product(("audio", "text"), WHAT):
                yield Case(
                    {"what": f"{tower}, {what}", "batch": batch, "form": form},
                    partial(_encoder, tower, what == WHAT[0], batch, form, quick),
                )
        for batch in batches["losses"]:
            for loss, dtype in itertools.product(LOSSES, ("bfloat16", "float32")):
                yield Case(
                    {"what": loss, "batch": batch, "dtype": dtype, "form": form},
                    partial(_loss, loss, batch, 64 if quick else DIM, dtype, form),
                )


def _loss(name: str, batch: int, dim: int, dtype: str, form: str) -> dict:
    rows = torch.nn.functional.normalize(torch.randn(2, batch, dim, device=DEVICE), dim=-1)
    audio, text = (x.to(getattr(torch, dtype)).requires_grad_() for x in rows)
    scale, bias = (torch.tensor(x, device=DEVICE, requires_grad=True) for x in (14.0, -10.0))
    function = _formed(LOSSES[name], form)
    return _measure(lambda: function(audio, text, scale, bias).backward(), (audio, text))


def _encoder(tower: str, backward: bool, batch: int, form: str, quick: bool) -> dict:
    if tower == "audio":
        model = CED(
            **(
                {"dim": 32, "depth": 1, "heads": 2}
                if quick
                else {"dim": 768, "depth": 12, "heads": 12}
            )
        )
        for parameter in (model.time_pos_embed, model.freq_pos_embed):
            nn.init.normal_(parameter, std=0.02)
        inputs = torch.randn(batch, 1001, 64, device=DEVICE)
    else:
        model = TextEncoder(**({"dim": 32, "depth": 1, "heads": 2, "ffn_dim": 64} if quick else {}))
        inputs = torch.randint(4, 8_000, (batch, 64), device=DEVICE)
    model = model.to(DEVICE).eval()
    function = _formed(model, form)

    def run():
        with torch.set_grad_enabled(backward), torch.autocast(DEVICE, torch.bfloat16):
            output = function(inputs)
        if backward:
            (output.float() ** 2).sum().backward()

    return _measure(run, tuple(model.parameters()))


def _formed(function, form: str):
    """Compiled for these very shapes, as ours is."""
    if form == "eager":
        return function
    torch.compiler.reset()
    return torch.compile(function, dynamic=False)


def _measure(run, leaves) -> dict:
    """The median of at least five runs, after three; gradients are made anew in each."""
    try:
        began = time.perf_counter()
        for _ in range(3):
            _timed(run, leaves)
        compile_seconds = time.perf_counter() - began
        if DEVICE == "cuda":
            torch.cuda.reset_peak_memory_stats()
        seconds = []
        while len(seconds) < LEAST_RUNS or (
            sum(seconds) < LEAST_SECONDS and len(seconds) < MOST_RUNS
        ):
            seconds.append(_timed(run, leaves))
    except torch.OutOfMemoryError as error:
        torch.cuda.empty_cache()
        raise OutOfMemory from error
    peak = torch.cuda.max_memory_allocated() / MIB if DEVICE == "cuda" else None
    return {"ms": 1e3 * statistics.median(seconds), "compile_s": compile_seconds, "peak_mib": peak}


def _timed(run, leaves) -> float:
    for leaf in leaves:
        leaf.grad = None
    _wait()
    began = time.perf_counter()
    run()
    _wait()
    return time.perf_counter() - began


def _wait() -> None:
    if DEVICE == "cuda":
        torch.cuda.synchronize()
