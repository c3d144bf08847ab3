"""What SVR and its kin cost a step: on a TPU slice, compiled ahead of time, and on this CPU.

    PYTHONPATH=.venv/libtpu python benchmarks/svr_cost.py --out=benchmarks/results/study/cost.json

Compiles `configs/pretrain.py` for v5e:16x16 with each way to use SVR: operations of all chips, and
bytes that a chip moves to and from its memory, sends, and holds. Then the steps of
`configs/soundscape.py` on the CPU, in turns, each with states of its own: medians of the seconds,
and of the ratios to the InfoNCE step of the same turn. Each figure is kept as it comes, and a file
that is there is gone on with.
"""

import argparse
import json
import os
import statistics
import time
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from inputs import make_batch, recipe
from supclap_jax.config.conditions import OFFLINE
from supclap_jax.planning.planner import plan
from supclap_jax.runs.mesh import make_mesh, put_batch
from supclap_jax.runs.states import init_states
from supclap_jax.train.step import make_train_step

TOPOLOGY = "v5e:16x16"
BOUNDED = {"loss__svr__bound": "distance"}
# Recipe's argument and what is otherwise.
WAYS = {
    "InfoNCE": ("info_nce", {}),
    "static": ("static", {}),
    "dynamic": ("dynamic", {}),
    "dynamic, bounded": ("dynamic", BOUNDED),
    "intra-modal": ("info_nce", {"loss__intra_modal": 1.0}),
}
OFFLINE_WAY = {"loss__svr__similarity": "offline", "loss__svr__reference": "of random embeddings"}
ON_CPU = WAYS | {"dynamic, offline": ("dynamic", OFFLINE_WAY)}  # on slices tiles rule it out
REFERENCE_DIM = 128
TURNS = 15
COLUMNS = ("operations", "bytes moved", "bytes sent", "memory", "floor")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="JSON file for the results")
    parser.add_argument("--topology", default=TOPOLOGY, help="default: %(default)s")
    options = parser.parse_args()
    found = {"topology": options.topology, "tpu": {}, "cpu": {}}
    if options.out.is_file():
        found = json.loads(options.out.read_text())
    for name, (variant, changes) in WAYS.items():
        if name not in found["tpu"]:
            found["tpu"][name] = of_tpu(recipe("pretrain", variant, **changes), options.topology)
            options.out.write_text(json.dumps(found, indent=2) + "\n")
    if not found["cpu"]:
        found["cpu"] = on_cpu()
        options.out.write_text(json.dumps(found, indent=2) + "\n")
    show(found)


def of_tpu(config, topology: str) -> dict:
    result = plan(config, topology)
    figures = (
        sum(result["flops"].values()),
        result["hbm_bytes"],
        sum(kind["bytes"] for kind in result["collectives"].values()),
        result["memory"]["total"],
        result["floor"]["seconds"],
    )
    return dict(zip(COLUMNS, figures, strict=True))


def on_cpu() -> dict:
    steps, states, batches = {}, {}, {}
    rng = np.random.default_rng(0)
    for name, (variant, changes) in ON_CPU.items():
        config = recipe("soundscape", variant, **changes)
        mesh = make_mesh(1, config.batch_size)
        steps[name], states[name] = make_train_step(config, mesh), init_states(config, mesh)
        batch = make_batch(config)
        if OFFLINE.holds(config):
            shape = config.batch_size, REFERENCE_DIM
            batch |= {f"reference_{x}": unit_rows(rng, shape) for x in ("audio", "text")}
        batches[name] = put_batch(batch, mesh)
    seconds = {name: [] for name in ON_CPU}
    for turn in range(TURNS + 1):
        for name in ON_CPU:
            began = time.perf_counter()
            states[name], metrics = steps[name](states[name], batches[name])
            jax.block_until_ready(metrics)
            if turn:  # the first compiles
                seconds[name].append(time.perf_counter() - began)
    base = seconds["InfoNCE"]
    return {
        name: {
            "seconds": statistics.median(runs),
            "ratio": statistics.median(x / y for x, y in zip(runs, base, strict=True)),
        }
        for name, runs in seconds.items()
    }


def unit_rows(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    rows = rng.standard_normal(shape, np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def show(found: dict) -> None:
    base = found["tpu"]["InfoNCE"]
    table = Table(title=f"A step of configs/pretrain.py on {found['topology']}; of InfoNCE's")
    for name in ("", *COLUMNS, "CPU, soundscape"):
        table.add_column(name, justify="right" if name else "left")
    for name, timed in found["cpu"].items():
        figures = found["tpu"].get(name)
        ratios = (f"{figures[key] / base[key]:.4f}" if figures else "" for key in COLUMNS)
        table.add_row(name, *ratios, f"{timed['ratio']:.3f}")
    Console().print(table)


if __name__ == "__main__":
    main()
