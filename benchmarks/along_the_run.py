"""What the runs of a sweep did on their way, cell by cell: forces, radii, speed of learning.

    python benchmarks/along_the_run.py runs/study_scratch --recall=5 \\
        --out=benchmarks/results/study/scratch/along_the_run.csv

For each cell, the name of a run without its seed: the first validation at which R@1 of text to
audio is at least `--recall` percent, the mean over the seeds, nan where one does not reach it; and
means over the seeds and both modalities of a metric in the first and the last quarter of the
steps.
"""

import argparse
import csv
from collections import defaultdict
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from supclap_jax.evaluate.training_figures import Curve, Curves, read_curves

METRICS = {
    "drift cosine": ("force/text_drift_cosine", "force/audio_drift_cosine"),
    "pull": ("force/text_pull", "force/audio_pull"),
    "push along": ("force/text_push_parallel", "force/audio_push_parallel"),
    "push across": ("force/text_push_perpendicular", "force/audio_push_perpendicular"),
    "1 - R/d": ("contraction/text", "contraction/audio"),
    "d": ("distance",),
    "gradient norm": ("gradient_norm",),
}
VALIDATION = "validation/text_to_audio/R@1"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sweep", type=Path, help="its folder")
    parser.add_argument("--recall", type=float, default=5.0, help="percent; default: 5")
    parser.add_argument("--out", type=Path, help="CSV file for the results")
    options = parser.parse_args()
    cells = defaultdict(list)
    with (options.sweep / "results.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if row["exit_code"] == "0":
                path = options.sweep / "runs" / row["name"] / "metrics.jsonl"
                cells[row["name"].rpartition("-")[0]].append(read_curves(path))
    table = Table("cell", "seeds", "steps", *METRICS, title="First and last quarter of the steps")
    rows = []
    for name, runs in cells.items():
        steps, quarters = steps_to(options.recall, runs), measure(runs)
        shown = (f"{first:.2f} {last:.2f}" for first, last in quarters.values())
        table.add_row(name, str(len(runs)), f"{steps:.0f}", *shown)
        flat = {
            f"{metric}, {which}": value
            for metric, values in quarters.items()
            for which, value in zip(("first", "last"), values, strict=True)
        }
        reached = {f"steps to R@1 {options.recall:g} %": steps}
        rows.append({"cell": name, "seeds": len(runs), **reached, **flat})
    Console().print(table)
    if options.out:
        with options.out.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)


def steps_to(recall: float, runs: list[Curves]) -> float:
    curves = [run[VALIDATION] for run in runs]
    return np.mean([next(iter(steps[r >= recall]), np.nan) for steps, r in curves])


def measure(runs: list[Curves]) -> dict[str, tuple[float, float]]:
    found = {}
    for name, keys in METRICS.items():
        quarters = [quarter(run[key]) for run in runs for key in keys if key in run]
        found[name] = tuple(np.mean(quarters, axis=0)) if quarters else (np.nan, np.nan)
    return found


def quarter(curve: Curve) -> tuple[float, float]:
    """Means over the first and over the last quarter of the steps."""
    last = curve.steps[-1]
    first = curve.values[curve.steps <= last / 4].mean()
    return float(first), float(curve.values[curve.steps > 3 * last / 4].mean())


if __name__ == "__main__":
    main()
