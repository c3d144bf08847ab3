"""A comparison as tables and JSON."""

from collections import defaultdict
from collections.abc import Iterator

from rich.table import Table

from supclap_jax.evaluate.tables import DIRECTIONS
from supclap_jax.experiments.comparison import UNITS, Group, baseline_of, difference
from supclap_jax.experiments.points import number_of

PREFERRED = ("entropy_text_to_audio", "R@1_text_to_audio")  # to tell which value is best


def report(groups: list[Group], by: str, baseline: str) -> dict:
    """What comparison.json holds: for each group its mean of every metric, and the difference.

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
        table = Table(title=f"{kind} {DIRECTIONS[direction]}, {unit}")
        others = list(rows[0]["others"])
        for name in (*others, result["by"]):
            table.add_column(name, overflow="fold")
        for name in ("seeds", "mean", "range", f"less {result['baseline']}, 95 %"):
            table.add_column(name, justify="right")
        for row in rows:
            one = row[metric]
            low, high = min(one["by_seed"]), max(one["by_seed"])
            less = one["difference"]
            digits = 1 if kind == "R@1" else 3
            ends = (f"{less[end]:+.{digits}f}" for end in ("value", "low", "high")) if less else ()
            shown = "{}  [{}, {}]".format(*ends) if less else ""
            table.add_row(
                *row["others"].values(), row["value"], str(len(row["seeds"])),
                f"{one['mean']:.{digits}f}", f"{low:.{digits}f} to {high:.{digits}f}", shown,
            )  # fmt: skip
        yield table
