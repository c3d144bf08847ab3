"""What the losses cost: time in units of one matrix product, memory, and PyTorch beside them.

    python benchmarks/losses.py --quick
    python benchmarks/losses.py --torch=other-venv/bin/python --out=benchmarks/results/losses.json

Memory on TPUs comes from compiling for a topology that is not there; it needs
`pip install libtpu==0.0.42.1` and is left out without it. The comparison needs an interpreter that
has torch 2.13.0; without --torch it is left out.
"""

import argparse
import importlib.util
import json
import math
import os
import statistics
import subprocess
import tempfile
import time
from functools import partial
from pathlib import Path
from unittest import mock

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from rich.console import Console
from rich.table import Table

from supclap_jax.losses import sharded, siglip, supclap, symmetric_info_nce, tiles
from supclap_jax.planning import hlo

SCALE, BIAS = 1 / 0.07, -10.0
MIB = 2**20


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small shapes, under 2 minutes")
    parser.add_argument("--torch", help="a Python interpreter that has torch 2.13.0")
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    options = parser.parse_args()

    results = {"processors": os.cpu_count(), "jax": jax.__version__}
    results["products"] = products(batch=2048 if options.quick else 8192, dim=512)
    show(
        "Value and gradients on the CPU, float32, in units of one batch x batch x dim product",
        results["products"],
    )
    if importlib.util.find_spec("libtpu"):
        results["tpu"] = tpu_memory(quick=options.quick)
        show("Temporary memory a TPU chip, bfloat16, value and gradients", results["tpu"])
        results["exchange"] = exchanges(quick=options.quick)
        show("Round a ring or gathered, symmetric InfoNCE, a step of a chip", results["exchange"])
    if options.torch:
        batches = (256, 1024) if options.quick else (256, 1024, 4096)
        results["torch"] = against_torch(options.torch, batches, dim=512)
        show("block_size='auto' against PyTorch's dense form, paired runs", results["torch"])
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(results, indent=2) + "\n")


def products(batch: int, dim: int) -> list[dict]:
    """Dense and tiled forms, timed in turn with the matrix product that is the unit."""
    audio, text = unit_rows(batch, dim)

    def loss(block_size):
        return jax.jit(
            jax.value_and_grad(
                lambda a, t: symmetric_info_nce(a, t, SCALE, block_size=block_size), argnums=(0, 1)
            )
        )

    functions = {
        "one product": jax.jit(lambda a, t: a @ t.T),
        "dense": loss(None),
        "tiled": loss(1024 if batch > 1024 else batch // 4),
    }
    seconds = {name: [] for name in functions}
    for run in range(8):
        for name, function in functions.items():
            elapsed = seconds_of(function, audio, text)
            if run >= 2:
                seconds[name].append(elapsed)
    rows = []
    for name, function in functions.items():
        memory = function.lower(audio, text).compile().memory_analysis()
        rows.append(
            {
                "form": name,
                "batch": batch,
                "dim": dim,
                "seconds": statistics.median(seconds[name]),
                "products": statistics.median(
                    a / b for a, b in zip(seconds[name], seconds["one product"], strict=True)
                ),
                "temporaries MiB": memory.temp_size_in_bytes / MIB,
            }
        )
    return rows


def tpu_memory(quick: bool) -> list[dict]:
    """Temporaries a chip of the compiled program, without a TPU."""
    cases = [
        ("InfoNCE", "v5e:2x4", 262_144, 768, symmetric_info_nce),
        ("SupCLAP, both directions", "v5e:2x4", 262_144, 768, objective),
        ("InfoNCE", "v5e:4x8", 1_048_576, 768, symmetric_info_nce),
    ]
    rows = []
    for name, topology, batch, dim, loss in cases[: 1 if quick else None]:
        compiled = compile_for(topology, batch, dim, loss)
        memory = compiled.memory_analysis()
        rows.append(
            {
                "loss": name,
                "topology": topology,
                "batch": batch,
                "dim": dim,
                "temporaries MiB": memory.temp_size_in_bytes / MIB,
                "arguments MiB": memory.argument_size_in_bytes / MIB,
            }
        )
    return rows


def exchanges(quick: bool) -> list[dict]:
    """Both ways for keys to meet queries, on both sides of where "auto" changes over."""
    cases = [
        ("v5e:2x4", (2**13, 2**14, 2**15 - 2**11, 2**15)),
        ("v5e:4x8", (2**13, 2**15, 2**16, 2**17)),
        ("v5e:16x16", (2**15, 2**16, 2**17, 2**20)),
    ]
    rows = []
    for topology, batches in cases[: 1 if quick else None]:
        for batch in batches:
            for way, limits in (("ring", (0, 0)), ("gathered", (math.inf, math.inf))):
                with (
                    mock.patch.object(tiles, "RING_FROM", limits[0]),
                    mock.patch.object(tiles, "GATHERED_UP_TO", limits[1]),
                ):
                    compiled = compile_for(topology, batch, 768, symmetric_info_nce, "auto")
                sent = hlo.collectives(hlo.parse(compiled.as_text())).values()
                rows.append(
                    {
                        "topology": topology,
                        "batch": batch,
                        "way": way,
                        "collectives": sum(kind["count"] for kind in sent),
                        "sent MiB": sum(kind["bytes"] for kind in sent) / MIB,
                        "temporaries MiB": compiled.memory_analysis().temp_size_in_bytes / MIB,
                    }
                )
    return rows


def objective(audio, text, logit_scale, **options):
    """The whole bilateral SupCLAP objective with static radii."""
    return supclap(audio, text, logit_scale, audio_radius=0.3, text_radius=0.3, **options)[0]


def compile_for(topology: str, batch: int, dim: int, loss, block_size=1024):
    """Value and gradients on global arrays, compiled for every chip of a topology."""
    devices = np.array(topologies.get_topology_desc(platform="tpu", topology_name=topology).devices)
    mesh = Mesh(devices, ("data",), axis_types=(AxisType.Auto,))
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    rows = jax.ShapeDtypeStruct((batch, dim), jnp.bfloat16, sharding=sharding)
    on_mesh = sharded(partial(loss, logit_scale=SCALE, block_size=block_size), mesh)
    return jax.jit(jax.value_and_grad(on_mesh, argnums=(0, 1))).lower(rows, rows).compile()


class Torch:
    """The process that runs `open_clip_losses.py`."""

    def __init__(self, python: str):
        script = str(Path(__file__).with_name("open_clip_losses.py"))
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._process = subprocess.Popen([python, script], **pipes)

    def run(self, **request) -> dict[str, float]:
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()


def against_torch(python: str, batches: tuple[int, ...], dim: int) -> list[dict]:
    """Paired blocks of runs, ours and PyTorch's in turn, on the same inputs.

    Blocks, not single runs: for some milliseconds after a run the threads of either library still
    spin on the processors that the other now needs. The first runs of a block are not counted.
    """
    torch = Torch(python)
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            beside(torch, loss, batch, dim, Path(folder) / f"{batch}.npy")
            for batch in batches
            for loss in ("info_nce", "siglip")
        ]
    torch.close()
    return rows


def beside(torch: Torch, name: str, batch: int, dim: int, path: Path) -> dict:
    """One loss at one batch size."""
    inputs = unit_rows(batch, dim)
    np.save(path, np.stack(inputs), allow_pickle=False)
    scale = {"info_nce": SCALE, "siglip": 10.0}[name]

    def loss(audio, text, scale, bias):
        if name == "info_nce":
            return symmetric_info_nce(audio, text, scale, block_size="auto")
        return siglip(audio, text, scale, bias, block_size="auto")

    ours = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2, 3)))
    request = {"loss": name, "inputs": str(path), "scale": scale, "bias": BIAS}
    arrays = [jnp.asarray(x, jnp.float32) for x in (*inputs, scale, BIAS)]
    runs, uncounted = (20, 5) if batch <= 1024 else (4, 1)
    jax_seconds, torch_seconds = [], []
    for _ in range(9):
        block = [seconds_of(ours, *arrays) for _ in range(runs)]
        jax_seconds.append(statistics.median(block[uncounted:]))
        answers = [torch.run(**request) for _ in range(runs)]
        block = [answer["seconds"] for answer in answers]
        torch_seconds.append(statistics.median(block[uncounted:]))
    ratios = [a / b for a, b in zip(torch_seconds, jax_seconds, strict=True)]
    value = float(ours(*arrays)[0])
    return {
        "loss": name,
        "batch": batch,
        "dim": dim,
        "jax ms": 1e3 * statistics.median(jax_seconds),
        "torch ms": 1e3 * statistics.median(torch_seconds),
        "torch / jax": statistics.median(ratios),
        "value error": abs(value - answers[-1]["value"]) / abs(value),
    }


def seconds_of(function, *arguments) -> float:
    began = time.perf_counter()
    jax.block_until_ready(function(*arguments))
    return time.perf_counter() - began


def unit_rows(batch: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Audio and text as unit rows, half alike in each pair, so that the loss is a usual one."""
    rng = np.random.default_rng(0)
    audio = rng.normal(size=(batch, dim))
    text = audio + rng.normal(size=(batch, dim))
    return tuple(
        (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32) for x in (audio, text)
    )


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
