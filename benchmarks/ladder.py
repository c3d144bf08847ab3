"""Whether what SVR gains over InfoNCE grows with size and with data, from the runs of a ladder.

    supclap sweep configs/sweeps/ladder.py --out=runs/ladder --jobs=2
    python benchmarks/ladder.py runs/ladder --out=benchmarks/results/ladder

A gain is the entropy of InfoNCE less that of the same size, budget and seed with SVR, in nats, the
mean of both directions. The budgets of one size branch from one trunk and share its luck, so a
trunk, not a run, is the unit: how the gain changes with data is the mean of each trunk's slope over
log2 of the clips seen; its level, and how it changes with size, are a line through the trunks'
means over log2 of the encoders' parameters, about the middle of the sizes. All intervals are
Student's t at 95 %, of what the trunks scatter. Writes gain.json, gain.png, a copy of results.csv.
"""

import argparse
import csv
import json
import shutil
from collections import defaultdict
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from scipy import stats

DIRECTIONS = ("text_to_audio", "audio_to_text")
COLOURS = {"static": "#d9730d", "dynamic": "#0b6e99"}


def gains(rows: list[dict], variant: str) -> dict[tuple, dict[int, float]]:
    """Of each trunk, by (encoders' parameters, seed): clips seen -> gain in nats."""
    entropy = {
        (row["loss.svr.radius"], *unit(row), int(row["clips_seen"])): np.mean(
            [float(row[f"entropy_{direction}"]) for direction in DIRECTIONS]
        )
        for row in rows
    }
    found = defaultdict(dict)
    for (radius, *trunk, clips), value in sorted(entropy.items()):
        if radius == variant:
            found[tuple(trunk)][clips] = float(entropy["none", *trunk, clips] - value)
    return found


def unit(row: dict) -> tuple[int, str]:
    return int(row["encoder_parameters"]), row.get("seed", "")


def answers(trunks: dict[tuple, dict[int, float]]) -> dict[str, dict[str, float]]:
    """Level of the gain, and its changes per doubling of data and of size."""
    slopes = [np.polyfit(np.log2(list(of)), list(of.values()), 1)[0] for of in trunks.values()]
    means = np.array([np.mean(list(of.values())) for of in trunks.values()])
    sizes = np.log2([size for size, _ in trunks])
    design = np.stack([np.ones(len(sizes)), sizes - sizes.mean()], axis=1)
    line, *_ = np.linalg.lstsq(design, means)
    freedom = len(means) - 2
    variance = np.square(means - design @ line).sum() / freedom
    errors = np.sqrt(variance * np.diag(np.linalg.inv(design.T @ design)))
    return {
        "gain": interval(line[0], errors[0], freedom),
        "per_doubling_of_size": interval(line[1], errors[1], freedom),
        "per_doubling_of_data": interval(
            np.mean(slopes), np.std(slopes, ddof=1) / np.sqrt(len(slopes)), len(slopes) - 1
        ),
    }


def interval(value: float, error: float, freedom: int) -> dict[str, float]:
    reach = float(error * stats.t.ppf(0.975, freedom))
    return {"value": float(value), "low": float(value) - reach, "high": float(value) + reach}


def draw(found: dict[str, dict], path: Path) -> None:
    """Gain over clips seen, a line a trunk, the darker the larger."""
    figure = Figure(figsize=(8, 3.4), layout="tight")
    panels = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
    for axes, (variant, trunks) in zip(panels, found.items(), strict=True):
        sizes = sorted({size for size, _ in trunks})
        for (size, _), of in trunks.items():
            shade = (1 + sizes.index(size)) / len(sizes)
            style = {"color": COLOURS[variant], "alpha": shade, "label": f"{size / 1e3:,.0f}k"}
            axes.plot(list(of), list(of.values()), "o-", **style)
        axes.axhline(0, color="#555555", lw=0.8)
        axes.set(xscale="log", xlabel="clips seen", title=f"InfoNCE less InfoNCE + {variant} SVR")
        clips = sorted({clips for of in trunks.values() for clips in of})
        axes.set_xticks(clips, [f"{count:,}" for count in clips])
        axes.minorticks_off()
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, title="parameters", fontsize=8)
    panels[0].set_ylabel("entropy gained, nats")
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("sweep", type=Path, help="folder of the ladder's sweep")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    options = parser.parse_args()
    results = options.sweep / "results.csv"
    with results.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["exit_code"] == "0"]
    rows = [row for row in rows if row["optimizer.schedule"] == "wsd"]
    found = {variant: gains(rows, variant) for variant in COLOURS}
    told = {variant: answers(trunks) for variant, trunks in found.items()}
    for variant, answer in told.items():
        for name, value in answer.items():
            shown = "{value:+.3f} [{low:+.3f}, {high:+.3f}]".format(**value)
            print(f"{variant:8} {name.replace('_', ' '):22} {shown} nats")
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "gain.json").write_text(json.dumps(told, indent=2) + "\n")
    draw(found, options.out / "gain.png")
    shutil.copy(results, options.out / "results.csv")


if __name__ == "__main__":
    main()
