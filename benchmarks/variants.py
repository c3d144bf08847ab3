"""Retrieval on the soundscape with and without Support Vector Regularization, over seeds.

Trains every variant with every seed on the same data, for the same steps and batch, and compares
the evaluation split (R@1 in percent, mean and range over seeds). A run that is already there is
continued, so a finished one is just read, and one with other settings is refused.

    supclap synthesize --out=runs/soundscape --clips=5000
    python benchmarks/variants.py --data=runs/soundscape --runs=runs/variants
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

VARIANTS = ("info_nce", "static", "dynamic", "siglip", "siglip_dynamic")
NAMES = ("InfoNCE", "+ static\nradii", "+ dynamic\nradii", "SigLIP", "+ dynamic\nradii")
DIRECTIONS = {"text_to_audio": "text → audio", "audio_to_text": "audio → text"}
COLOURS = ("#0b6e99", "#d9730d")  # of the directions
RADIUS = {
    "distance": "distance",
    "text radius": "radius/text_mean",
    "audio radius": "radius/audio_mean",
    "1 - R/d, text": "contraction/text",
    "1 - R/d, audio": "contraction/audio",
}
RECIPE = Path(__file__).parents[1] / "configs" / "soundscape.py"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder that synthesize wrote")
    parser.add_argument("--runs", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--steps", type=int, default=600, help="default: 600")
    parser.add_argument("--seeds", type=int, default=3, help="default: 3")
    parser.add_argument(
        "--out", type=Path, help="default: RUNS/variants.json; a figure goes beside it"
    )
    options = parser.parse_args()

    results = {variant: [] for variant in VARIANTS}
    for seed in range(options.seeds):
        for variant in VARIANTS:
            workdir = options.runs / f"{variant}-{seed}"
            train(variant, seed, workdir, options)
            results[variant].append(read(workdir))
            Console().print(f"{workdir.name}: {results[variant][-1]}", soft_wrap=True)
    Console().print(table(results))
    Console().print(radius_table(results))
    out = options.out or options.runs / "variants.json"
    out.write_text(json.dumps({"steps": options.steps, "results": results}, indent=2) + "\n")
    draw(results, out.with_suffix(".png"))


def train(variant: str, seed: int, workdir: Path, options: argparse.Namespace) -> None:
    """One run, its output beside its folder."""
    options.runs.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable, "-m", "supclap_jax.cli", "train", f"--config={RECIPE}:{variant}",
        f"--workdir={workdir}", f"--config.data.path={options.data}", f"--config.seed={seed}",
        f"--config.total_steps={options.steps}", f"--config.eval_every={options.steps // 3}",
    ]  # fmt: skip
    with workdir.with_suffix(".log").open("w") as log:
        subprocess.run(command, check=True, stdout=log, stderr=subprocess.STDOUT)


def read(workdir: Path) -> dict[str, float]:
    """R@1 both ways, zero-shot accuracy, median speed and wait for data, radii of the last step."""
    report = json.loads((workdir / "evaluation.json").read_text())
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    timed = [line for line in lines if "steps_per_second" in line]
    last = [line for line in lines if "loss" in line][-1]
    return {
        **{direction: report["retrieval"][direction]["R@1"]["value"] for direction in DIRECTIONS},
        "zero_shot": report["zero_shot"]["accuracy"]["value"],
        "clips": report["clips"],
        **{
            name: statistics.median(line[name] for line in timed)
            for name in ("steps_per_second", "clips_per_second", "data_wait")
        },
        **{name: last[key] for name, key in RADIUS.items() if key in last},
    }


def table(results: dict[str, list[dict[str, float]]]) -> Table:
    """One row a variant: mean R@1, its range, and the gain over the base loss, seed by seed."""
    clips = next(iter(results.values()))[0]["clips"]
    shown = Table(title=f"R@1 on {clips:,} held-out clips: mean and range over seeds")
    shown.add_column("")
    for name in DIRECTIONS.values():
        shown.add_column(name, justify="right")
        shown.add_column("over base", justify="right")
    for variant, runs in results.items():
        base = results["siglip" if variant.startswith("siglip") else "info_nce"]
        cells = []
        for direction in DIRECTIONS:
            values = [run[direction] for run in runs]
            gains = [value - other[direction] for value, other in zip(values, base, strict=True)]
            cells.append(f"{statistics.mean(values):.1f} [{min(values):.1f}, {max(values):.1f}]")
            cells.append(f"{statistics.mean(gains):+.1f}" if base is not runs else "")
        shown.add_row(variant, *cells)
    return shown


def radius_table(results: dict[str, list[dict[str, float]]]) -> Table:
    """Where training ended: distance, radius and contraction factor, means over batch and seeds."""
    shown = Table(title="In the last batch of training, mean over seeds")
    shown.add_column("")
    for name in RADIUS:
        shown.add_column(name, justify="right")
    for variant, runs in results.items():
        means = (statistics.mean(run[name] for run in runs) for name in RADIUS if name in runs[0])
        shown.add_row(variant, *(f"{mean:.2f}" for mean in means))
    return shown


def draw(results: dict[str, list[dict[str, float]]], path: Path) -> None:
    """R@1 of every run, a point a seed, and the mean over seeds as a line."""
    figure = Figure(figsize=(7.2, 3.2), layout="tight")
    axes = figure.subplots()
    for side, (direction, name) in enumerate(DIRECTIONS.items()):
        for place, runs in enumerate(results.values()):
            values, x = [run[direction] for run in runs], place + 0.24 * side - 0.12
            style = {"color": COLOURS[side], "label": name if place == 0 else None}
            axes.plot([x] * len(values), values, "o", alpha=0.7, **style)
            axes.hlines(statistics.mean(values), x - 0.1, x + 0.1, color=COLOURS[side], lw=2)
    axes.set_xticks(range(len(results)), NAMES)
    axes.set_ylabel("R@1 (%)")
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e9e9e7")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
