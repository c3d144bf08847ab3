"""A comparison as tables, JSON and a figure with the points themselves."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from rich.table import Table

from supclap_jax.experiments.comparison import UNITS, Group, baseline_of, difference
from supclap_jax.experiments.points import number_of

COLOURS = ("#0b6e99", "#d9730d")  # of the directions
PREFERRED = ("entropy_text_to_audio", "R@1_text_to_audio")  # to tell which value is best
NAMES = {"text_to_audio": "text → audio", "audio_to_text": "audio → text"}


def report(groups: list[Group], by: str, baseline: str) -> dict:
    """What `--json` writes: for each group its mean of every metric, and the difference.

    Returns:
      `{"by", "baseline", "groups": [{"value", "others", "seeds", metric: {"mean", "by_seed",
      "difference": {"seeds", "value", "low", "high"} | None}}], "warnings": [...]}`; R@1 in
      percent, entropies in nats; warnings are sentences.
    """
    found = []
    for group in groups:
        base = baseline_of(group, groups, baseline)
        row = {"value": group.value, "others": group.others, "seeds": group.seeds}
        for metric in group.metrics:
            less = None
            if base is not None and base is not group:
                less = difference(group, base, metric)
            by_seed = group.metrics[metric].mean(axis=1)
            row[metric] = {
                "mean": float(by_seed.mean()),
                "by_seed": by_seed.tolist(),
                "difference": less and less._asdict(),
            }
        found.append(row)
    result = {"by": by, "baseline": baseline, "groups": found}
    return result | {"warnings": _edges(result)}


def _edges(result: dict) -> list[str]:
    """Where the best of three or more numbers, such as learning rates, is the first or last."""
    places = defaultdict(dict)
    for row in result["groups"]:
        metric = next(metric for metric in PREFERRED if metric in row)
        sign = 1 if metric.startswith("entropy") else -1
        number = number_of(row["value"])
        if number is None:
            return []
        places[tuple(row["others"].items())][number] = sign * row[metric]["mean"]
    warnings = []
    for others, costs in places.items():
        best = min(costs, key=costs.get)
        if len(costs) > 2 and best in (min(costs), max(costs)):
            where = "".join(f" at {name} {value}" for name, value in others)
            warnings.append(
                f"the best {result['by']}{where}, {best:g}, is the edge of its sweep, "
                f"{min(costs):g} to {max(costs):g}: a better one may lie beyond"
            )
    return warnings


def tables(result: dict) -> Iterator[Table]:
    """One for each metric."""
    for metric, unit in UNITS.items():
        rows = [row for row in result["groups"] if metric in row]
        if not rows:
            continue
        kind, _, direction = metric.partition("_")
        table = Table(title=f"{kind} {NAMES[direction]}, {unit}")
        others = list(rows[0]["others"])
        for name in (*others, result["by"]):
            table.add_column(name, overflow="fold")
        for name in ("seeds", "mean", "range", f"less {result['baseline']}, 95 %"):
            table.add_column(name, justify="right")
        for row in rows:
            one = row[metric]
            low, high = min(one["by_seed"]), max(one["by_seed"])
            less = one["difference"]
            shown = (
                f"{less['value']:+.3g}  [{less['low']:+.3g}, {less['high']:+.3g}]" if less else ""
            )
            table.add_row(
                *row["others"].values(), row["value"], str(len(row["seeds"])),
                f"{one['mean']:.3g}", f"{low:.3g} to {high:.3g}", shown,
            )  # fmt: skip
        yield table


def draw(result: dict, path: Path) -> Path:
    """Every run as a point, the mean over seeds as a line: R@1 above, entropy below."""
    rows = result["groups"]
    labels = ["\n".join([row["value"], *row["others"].values()]) for row in rows]
    kinds = [k for k in ("R@1", "entropy") if any(m.startswith(k) and m in rows[0] for m in UNITS)]
    figure = Figure(figsize=(max(7.2, 0.9 * len(rows)), 2.8 * len(kinds)), layout="tight")
    for axes, kind in zip(np.atleast_1d(figure.subplots(len(kinds))), kinds, strict=True):
        for side, (direction, name) in enumerate(NAMES.items()):
            metric = f"{kind}_{direction}"
            for place, row in enumerate(rows):
                x, values = place + 0.24 * side - 0.12, row[metric]["by_seed"]
                style = {"color": COLOURS[side], "label": name if place == 0 else None}
                axes.plot([x] * len(values), values, "o", alpha=0.7, **style)
                mean = row[metric]["mean"]
                axes.hlines(mean, x - 0.1, x + 0.1, color=COLOURS[side], lw=2)
        axes.set_xticks(range(len(rows)), labels)
        axes.set_ylabel(f"{kind} ({UNITS[f'{kind}_text_to_audio']})")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#e9e9e7")
        axes.legend(frameon=False)
    figure.savefig(path, dpi=150, format="png")
    return path
