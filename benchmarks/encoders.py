"""What the encoders cost on the CPU: beside PyTorch on equal weights, and to compile.

    python benchmarks/encoders.py --quick --torch=venv/bin/python
    python benchmarks/encoders.py --torch=venv/bin/python --out=benchmarks/results/encoders.json

The comparison needs an interpreter that has torch 2.13.0, transformers and safetensors; without
--torch only compile times are measured. Both sides use all processors, and the same memory
allocator: `source launch/setup.sh` first, for huge pages.
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from functools import partial
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table
from safetensors.numpy import load_file, save_file

from supclap_jax.models.ced import CED, SIZES
from supclap_jax.models.dual_encoder import DualEncoder
from supclap_jax.models.log_mel import log_mel, mel_filterbank
from supclap_jax.models.sonar import SONAR, SonarTextEncoder

TEXT = SONAR | {"vocab_size": 8_000}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small models, under 2 minutes")
    parser.add_argument("--torch", help="a Python interpreter that has torch 2.13.0")
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    options = parser.parse_args()

    results = {
        "processors": os.cpu_count(),
        "jax": jax.__version__,
        "GLIBC_TUNABLES": os.environ.get("GLIBC_TUNABLES", ""),
    }
    if options.torch:
        results["torch"] = against_torch(options.torch, options.quick)
        show("Against PyTorch, float32, paired runs", results["torch"])
    results["compile"] = compile_times(options.quick)
    show("Value and gradients of both encoders: compile time", results["compile"])
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(results, indent=2) + "\n")


def cases(quick: bool):
    """Yields name, sizes, weights, inputs and our function of (weights, inputs)."""
    rng = np.random.default_rng(0)

    sizes = SIZES["tiny" if quick else "base"]
    ced = CED(**sizes)
    inputs = rng.normal(size=(8, 1001, 64)).astype(np.float32)
    variables = jax.jit(ced.init)(jax.random.key(0), inputs[:1])
    statistics = variables["batch_stats"]
    yield (
        "ced",
        sizes,
        variables["params"],
        inputs,
        lambda params, x: ced.apply({"params": params, "batch_stats": statistics}, x),
    )

    sizes = TEXT | {"depth": 2 if quick else 12}
    sonar = SonarTextEncoder(**sizes)
    tokens = rng.integers(4, sizes["vocab_size"], (32, 32), dtype=np.int32)
    params = jax.jit(sonar.init)(jax.random.key(0), tokens)["params"]
    yield "sonar", sizes, params, tokens, lambda params, x: sonar.apply({"params": params}, x)

    waveform = rng.normal(size=(64, 160_000)).astype(np.float32)
    yield "log_mel", {}, {"mel": mel_filterbank()}, waveform, lambda params, x: log_mel(x)


def against_torch(python: str, quick: bool) -> list[dict]:
    """Paired blocks of runs, ours and PyTorch's in turn, on the same weights and inputs.

    Blocks, not single runs: for some milliseconds after a run the threads of either library still
    spin on the processors that the other now needs, and memory that a process left idle is slow to
    touch again. The first runs of a block are not counted.
    """
    torch = Torch(python)
    rows = []
    for name, sizes, weights, inputs, function in cases(quick):
        on_device = jax.device_put((weights, inputs))
        with tempfile.TemporaryDirectory() as folder:
            save_file(flatten(weights), f"{folder}/weights.safetensors")
            save_file({"inputs": inputs}, f"{folder}/inputs.safetensors")
            request = {"model": name, "folder": folder, "threads": os.cpu_count(), **sizes}
            forward = jax.jit(function)
            backward = jax.jit(jax.grad(lambda w, x, f=function: (f(w, x) ** 2).sum()))
            programs = {"forward": forward, "forward + backward": backward}
            for what, ours in list(programs.items())[: 1 if name == "log_mel" else None]:
                seconds = paired(
                    partial(seconds_of, ours, *on_device),
                    partial(torch.run, backward=ours is backward, **request),
                    runs=20 if name == "log_mel" else 3,
                    uncounted=5 if name == "log_mel" else 1,
                )
                rows.append({"model": name, "batch": len(inputs), "what": what, **seconds})
            answer = torch.run(backward=False, **request)
            theirs = load_file(f"{folder}/torch.safetensors")["output"]
            error = float(np.abs(forward(weights, inputs) - theirs).max())
        count = sum(leaf.size for leaf in jax.tree.leaves(weights)) if sizes else 0
        if count != answer["parameters"]:
            raise RuntimeError(f"{name}: {count} parameters, but {answer['parameters']} in PyTorch")
        for row in rows[-2 if sizes else -1 :]:
            row |= {"parameters": count, "largest difference": error}
    torch.close()
    return rows


def paired(ours, theirs, runs: int, uncounted: int) -> dict:
    """Medians of both, and of the ratio, over five blocks of each."""
    mine, other = [], []
    for _ in range(5):
        mine.append(statistics.median([ours() for _ in range(runs)][uncounted:]))
        block = [theirs()["seconds"] for _ in range(runs)]
        other.append(statistics.median(block[uncounted:]))
    return {
        "jax s": statistics.median(mine),
        "torch s": statistics.median(other),
        "torch / jax": statistics.median(b / a for a, b in zip(mine, other, strict=True)),
    }


def compile_times(quick: bool) -> list[dict]:
    """Trace and compile value and gradients of a dual encoder, its layers as a loop or each."""
    depth = 6 if quick else 24
    rows = []
    for scan_layers in (True, False):
        model = DualEncoder(
            audio=CED(**SIZES["tiny" if quick else "base"], scan_layers=scan_layers),
            text=SonarTextEncoder(**TEXT | {"depth": depth}, scan_layers=scan_layers),
            projection_dim=1024,
        )
        waveform = jax.ShapeDtypeStruct((8, 160_000), jnp.float32)
        tokens = jax.ShapeDtypeStruct((8, 32), jnp.int32)
        variables = jax.eval_shape(model.init, jax.random.key(0), waveform, tokens)

        def loss(params, statistics, waveform, tokens, key, model=model):
            (audio, text, scale, _), _ = model.apply(
                {"params": params, "batch_stats": statistics},
                waveform,
                tokens,
                train=True,
                mutable=["batch_stats"],
                rngs={"dropout": key},
            )
            return scale * (audio * text).sum()

        began = time.perf_counter()
        arguments = (variables["params"], variables["batch_stats"], waveform, tokens)
        jax.jit(jax.value_and_grad(loss)).lower(*arguments, jax.random.key(0)).compile()
        seconds = time.perf_counter() - began
        rows.append({"scan_layers": str(scan_layers), "SONAR layers": depth, "seconds": seconds})
    return rows


class Torch:
    """The process that runs `torch_encoders.py`."""

    def __init__(self, python: str):
        script = str(Path(__file__).with_name("torch_encoders.py"))
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._process = subprocess.Popen([python, script], **pipes)

    def run(self, **request) -> dict:
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()


def flatten(tree: dict) -> dict[str, np.ndarray]:
    """Leaves by path, such as "blocks/qkv/kernel"."""
    leaves = jax.tree.leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf)
        for path, leaf in leaves
    }


def seconds_of(function, *arguments) -> float:
    began = time.perf_counter()
    result = jax.block_until_ready(function(*arguments))
    seconds = time.perf_counter() - began
    del result  # the other side does not count the time to free its gradients either
    return seconds


def show(title: str, rows: list[dict]) -> None:
    table = Table(title=title)
    for name in rows[0]:
        table.add_column(name, justify="left" if isinstance(rows[0][name], str) else "right")
    for row in rows:
        table.add_row(
            *(
                f"{x:.3g}" if isinstance(x, float) else f"{x:,}" if isinstance(x, int) else x
                for x in row.values()
            )
        )
    Console().print(table)


if __name__ == "__main__":
    main()
