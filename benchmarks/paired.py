"""Tables of runs beside the runs of the same seed without SVR."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import stats


def write(rows: list[dict], path: Path, metrics: Sequence[str], pair: Sequence[str]) -> None:
    """Writes a CSV file, and prints means over the runs.

    Args:
      rows: of each run, perhaps several; "radius" is "none" of those without SVR, which others are
        compared with.
      path: of the file. A column METRIC_difference holds what a run has more than the one without.
      metrics: columns that are compared.
      pair: columns that are the same in two rows that are compared, "seed" among them. In the table
        rows that differ in their seed alone are one, its interval Student's t of the differences.
    """
    plain = {tuple(row[key] for key in pair): row for row in rows if row["radius"] == "none"}
    groups: dict[tuple, list[dict]] = {}
    for row in rows:
        other = plain.get(tuple(row[key] for key in pair))
        for metric in metrics:
            row[f"{metric}_difference"] = row[metric] - other[metric] if other else ""
        kind = *(row[key] for key in pair if key != "seed"), row["radius"]
        groups.setdefault(kind, []).append(row)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    table = Table(*(key for key in pair if key != "seed"), "radius", "seeds", *metrics)
    for kind, members in sorted(groups.items()):
        cells = (_cell([row[metric] for row in members], members, metric) for metric in metrics)
        table.add_row(*kind, str(len(members)), *cells)
    Console(width=160).print(table)


def _cell(values: list[float], rows: list[dict], metric: str) -> str:
    differences = [row[f"{metric}_difference"] for row in rows]
    if rows[0]["radius"] == "none" or len(rows) < 2 or "" in differences:
        return f"{np.mean(values):.1f}"
    mean, error = np.mean(differences), stats.sem(differences)
    low, high = stats.t.interval(0.95, len(rows) - 1, mean, error)
    return f"{np.mean(values):.1f}, {mean:+.1f} [{low:+.1f}, {high:+.1f}]"
