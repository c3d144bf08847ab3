"""What SVR adds to a whole training step: CED-Base, 24 SONAR layers, 10 s clips, batch 24.

    python benchmarks/step.py --quick
    python benchmarks/step.py --out=benchmarks/results/step.json

Takes `configs/audiocaps.py` with random weights and inputs, InfoNCE against InfoNCE with bilateral
static SVR. Both steps train the same state in turn, so each pair of runs meets the same machine;
23 GB of memory and ten minutes on two cores. `--quick` takes batch 4 and 14 GB.
"""

import argparse
import json
import os
import resource
import statistics
import time
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
from rich.console import Console
from rich.table import Table

from inputs import make_batch, recipe
from supclap_jax.planning.flops import train_step_flops
from supclap_jax.runs.mesh import make_mesh, put_batch
from supclap_jax.runs.states import init_states
from supclap_jax.train.step import make_train_step

VARIANTS = ("info_nce", "static")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="batch 4, two pairs of runs")
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    options = parser.parse_args()
    batch, pairs = (4, 2) if options.quick else (24, 3)

    configs = {name: recipe("audiocaps", name, batch_size=batch) for name in VARIANTS}
    mesh = make_mesh(1, batch)
    steps = {name: make_train_step(config, mesh) for name, config in configs.items()}
    radius = {}
    for name, config in configs.items():
        states = init_states(config, mesh)
        radius[name] = states.radius
    inputs = put_batch(make_batch(configs["static"]), mesh)
    seconds = {name: [] for name in VARIANTS}
    for run in range(pairs + 1):
        for name in VARIANTS:
            began = time.perf_counter()
            states, metrics = steps[name](states.replace(radius=radius[name]), inputs)
            radius[name] = states.radius
            jax.block_until_ready(metrics)
            if run:
                seconds[name].append(time.perf_counter() - began)
    ratios = [b / a for a, b in zip(*seconds.values(), strict=True)]
    flops = {name: sum(train_step_flops(config).values()) for name, config in configs.items()}
    results = {
        "batch": batch,
        "seconds": {name: statistics.median(runs) for name, runs in seconds.items()},
        "flops": flops,
        "time ratio": statistics.median(ratios),
        "time ratios": ratios,
        "flops ratio": flops["static"] / flops["info_nce"],
        "peak memory GiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }
    show(results)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(results, indent=2) + "\n")


def show(results: dict) -> None:
    table = Table(title=f"One training step, batch {results['batch']}")
    for name in ("", "seconds", "TFLOP"):
        table.add_column(name, justify="right")
    for name in VARIANTS:
        flops = results["flops"][name] / 1e12
        table.add_row(name, f"{results['seconds'][name]:.2f}", f"{flops:.5f}")
    table.add_row("ratio", f"{results['time ratio']:.4f}", f"{results['flops ratio']:.6f}")
    console = Console()
    console.print(table)
    console.print(f"Peak memory {results['peak memory GiB']:.1f} GiB.")


if __name__ == "__main__":
    main()
