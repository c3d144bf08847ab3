"""Whether what SVR gains over InfoNCE grows with size and with data, from the runs of a ladder.

    supclap sweep ladder --out=runs/ladder --jobs=2
    python benchmarks/ladder.py runs/ladder --out=benchmarks/results/ladder

A gain is the entropy of InfoNCE less that of the same size, budget and seed with SVR, in nats, the
mean of both directions. The budgets of one size branch from one trunk and share its luck, so a
trunk, not a run, is the unit: how the gain changes with data is the mean of each trunk's slope over
log2 of the clips seen; its level, and how it changes with size, are a line over log2 of the
encoders' parameters, about their middle, through the trunks' means, and at each budget through its
runs. All intervals are Student's t at 95 %, of what the trunks scatter. Writes gain.json, gain.png
and a copy of results.csv.
"""

import argparse
import csv
import json
import shutil
from collections import defaultdict
from functools import partial
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


def answers(trunks: dict[tuple, dict[int, float]]) -> dict[str, dict]:
    """Level of the gain, and its changes per doubling of size and of data."""
    budgets = sorted({clips for of in trunks.values() for clips in of})
    slopes = [np.polyfit(np.log2(list(of)), list(of.values()), 1)[0] for of in trunks.values()]
    spread = np.std(slopes, ddof=1) / np.sqrt(len(slopes))
    over_sizes = partial(line_over_sizes, [size for size, _ in trunks])
    return {
        **over_sizes([np.mean(list(of.values())) for of in trunks.values()]),
        "per_doubling_of_data": interval(np.mean(slopes), spread, len(slopes) - 1),
        "at_clips": {clips: over_sizes([of[clips] for of in trunks.values()]) for clips in budgets},
    }


def line_over_sizes(sizes: list[int], values: list[float]) -> dict[str, dict[str, float]]:
    """A value a trunk as a line over log2 of the sizes: at their middle, and per doubling."""
    doublings, freedom = np.log2(sizes), len(values) - 2
    design = np.stack([np.ones(len(values)), doublings - doublings.mean()], axis=1)
    line, *_ = np.linalg.lstsq(design, np.array(values))
    variance = np.square(values - design @ line).sum() / freedom
    errors = np.sqrt(variance * np.diag(np.linalg.inv(design.T @ design)))
    return {
        "gain": interval(line[0], errors[0], freedom),
        "per_doubling_of_size": interval(line[1], errors[1], freedom),
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
        for (size, seed), of in trunks.items():
            shade = (1 + sizes.index(size)) / len(sizes)
            label = (
                f"{size / 1e3:,.0f}k" if seed == min(s for n, s in trunks if n == size) else None
            )
            style = {"color": COLOURS[variant], "alpha": shade, "label": label}
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
        by_clips = answer["at_clips"].items()
        shown = {"": answer} | {f" at {clips:,} clips": value for clips, value in by_clips}
        for place, values in shown.items():
            for name in ("gain", "per_doubling_of_size", "per_doubling_of_data"):
                if name in values:
                    text = "{value:+.3f} [{low:+.3f}, {high:+.3f}]".format(**values[name])
                    print(f"{variant:8} {name.replace('_', ' ') + place:42} {text} nats")
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "gain.json").write_text(json.dumps(told, indent=2) + "\n")
    draw(found, options.out / "gain.png")
    shutil.copy(results, options.out / "results.csv")


if __name__ == "__main__":
    main()
