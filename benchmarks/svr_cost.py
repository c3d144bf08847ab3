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
import tempfile
import time
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from inputs import make_batch, recipe
from supclap_jax.config.conditions import OFFLINE
from supclap_jax.data.reference_embeddings import write_reference
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
TURNS = 15
REFERENCE_DIM = 512
COLUMNS = ("operations", "bytes moved", "bytes sent", "memory", "floor")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="JSON file for the results")
    parser.add_argument("--topology", default=TOPOLOGY, help="default: %(default)s")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_reference(Path(folder), *made_up_reference())
        offline = {"loss__svr__similarity": "offline", "loss__svr__reference": folder}
        found = measure(WAYS | {"dynamic, offline": ("dynamic", offline)}, options)
    show(found)


def made_up_reference() -> tuple[np.ndarray, np.ndarray, np.ndarray, dict]:
    """Of one clip and caption; its width alone counts."""
    row = np.eye(1, REFERENCE_DIM)
    facts = {"languages": ["eng_Latn"], "asked": ["eng_Latn"], "clips": ""}
    return row, row, np.zeros((1, 1), np.int64), facts


def measure(ways: dict, options: argparse.Namespace) -> dict:
    found = {"topology": options.topology, "tpu": {}, "cpu": {}}
    if options.out.is_file():
        found = json.loads(options.out.read_text())
    for name, (variant, changes) in ways.items():
        if name not in found["tpu"]:
            found["tpu"][name] = of_tpu(recipe("pretrain", variant, **changes), options.topology)
            options.out.write_text(json.dumps(found, indent=2) + "\n")
    if not found["cpu"]:
        found["cpu"] = on_cpu(ways)
        options.out.write_text(json.dumps(found, indent=2) + "\n")
    return found


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


def on_cpu(ways: dict) -> dict:
    steps, states, batches = {}, {}, {}
    for name, (variant, changes) in ways.items():
        config = recipe("soundscape", variant, **changes)
        mesh = make_mesh(1, config.batch_size)
        steps[name], states[name] = make_train_step(config, mesh), init_states(config, mesh)
        batch = make_batch(config)
        if OFFLINE.holds(config):
            unit = np.eye(config.batch_size, REFERENCE_DIM, dtype=np.float32)
            batch |= {"reference_audio": unit, "reference_text": unit}
        batches[name] = put_batch(batch, mesh)
    seconds = {name: [] for name in ways}
    for turn in range(TURNS + 1):
        for name in ways:
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


def show(found: dict) -> None:
    base = found["tpu"]["InfoNCE"]
    table = Table(title=f"A step of configs/pretrain.py on {found['topology']}; of InfoNCE's")
    for name in ("", *COLUMNS, "CPU, soundscape"):
        table.add_column(name, justify="right" if name else "left")
    for name, figures in found["tpu"].items():
        ratios = (f"{figures[key] / base[key]:.4f}" for key in COLUMNS)
        table.add_row(name, *ratios, f"{found['cpu'][name]['ratio']:.3f}")
    Console().print(table)


if __name__ == "__main__":
    main()
