"""What is told of a fitted law: a dict for JSON, warnings in words, tables for a terminal."""

import re
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from rich.table import Table

from supclap_jax.config.fields import FIELDS
from supclap_jax.evaluate.bootstrap import Estimate, interval
from supclap_jax.experiments.law_fit import Fit, compute_optimal
from supclap_jax.experiments.points import Points, Row, count_points, number_of

EPOCHS = "epochs"  # columns of a sweep's results
LEARNING_RATE = "optimizer.learning_rate"
ALIKE = 0.95  # correlation of two x that is too much
NEAR = 0.05  # of an edge, as a share of it


def report(law: str, fit: Fit, points: Points, budgets: Sequence[float] = ()) -> dict:
    """All that is known of a fit.

    Args:
      law: its name.
      fit: of `points`.
      points: fitted and held out.
      budgets: of the law with two columns, for the best split of each.

    Returns:
      - "law", "formula", "x" (names), "y" (name), "points" (with an x of their own), "runs";
      - "coefficients": `{name: {"value", "low", "high"}}`, 95 % intervals;
      - "held_out": `[{"x", "measured", "predicted", "low", "high"}]`; x is a number, or a list of
        two; the interval is of a single run;
      - "error": standard deviation of log y about the law, so 0.02 is 2 % of y;
      - "warnings": sentences;
      - with budgets, "compute_optimal": `[{"budget", "n", "d", "y"}]`, the last three with
        intervals.
    """
    told = {
        "law": law,
        "formula": fit.law.formula,
        "x": list(points.x_columns),
        "y": points.y_column,
        "points": count_points(points),
        "runs": len(points.y),
        "coefficients": {name: interval(value) for name, value in fit.coefficients.items()},
        "held_out": [
            {
                "x": x[0] if len(x) == 1 else x,
                "measured": measured,
                "predicted": predicted["value"],
                "low": predicted["low"],
                "high": predicted["high"],
            }
            for x, measured, predicted in zip(
                points.held_x.tolist(),
                points.held_y.tolist(),
                map(interval, fit.predict(points.held_x, noise=True)),
                strict=True,
            )
        ],
        "error": fit.error,
        "warnings": warnings(fit, points),
    }
    if budgets:
        told["compute_optimal"] = [
            {"budget": budget, **{name: interval(value) for name, value in split.items()}}
            for budget, split in zip(budgets, compute_optimal(fit, budgets), strict=True)
        ]
    return told


def warnings(fit: Fit, points: Points) -> list[str]:
    """What speaks against the numbers, a sentence each."""
    found = []
    count, coefficients = count_points(points), len(fit.law.names)
    if count < coefficients + 2:
        found.append(
            f"{count} points for {coefficients} coefficients: with fewer than {coefficients + 2} "
            "the fit follows the noise"
        )
    fitted = np.array(
        [[float(row.fields[name]) for name in points.x_columns] for row in points.rows]
    )
    inside = (points.held_x >= fitted.min(axis=0)) & (points.held_x <= fitted.max(axis=0))
    if within := int(inside.all(axis=1).sum()):
        found.append(
            f"{within} of {len(points.held_y)} held-out points lie inside the fitted range: they "
            "do not test what the law says of larger runs"
        )
    if len(points.x_columns) == 2:
        alike = float(np.corrcoef(np.log(points.x.T))[0, 1])
        if abs(alike) > ALIKE:
            found.append(
                f"{' and '.join(points.x_columns)} go together, with a correlation of {alike:.3f} "
                "of their logarithms: the points cannot tell their parts of the law apart"
            )
    return [*found, *_edges(fit), *_repeated_epochs(points.rows), *_learning_rates(points)]


def formula_of(report: dict) -> str:
    """The formula with its numbers.

    >>> numbers = {"a": {"value": 2.5}, "b": {"value": 0.1234}}
    >>> formula_of({"formula": "y = a x^-b", "coefficients": numbers})
    'y = 2.5 x^-0.123'
    """
    values = report["coefficients"]
    names = rf"\b({'|'.join(values)})\b"
    numbers = re.sub(names, lambda match: f"{values[match[1]]['value']:.3g}", report["formula"])
    return numbers.replace("--", "")


def headline(report: dict) -> str:
    """What was fitted, to what, and how far it is from it, on one line."""
    repeated = f", {report['runs']:,} runs" if report["runs"] != report["points"] else ""
    return (
        f"{report['y']} at {report['points']:,} points{repeated}: {formula_of(report)}; a run is "
        f"off by {100 * report['error']:.2g} %."
    )


def tables(report: dict) -> list[Table]:
    """The tables of a `report`."""
    law = Table(title="Coefficients; 95 % interval")
    law.add_column("")
    law.add_column("value", justify="right")
    for name, value in report["coefficients"].items():
        law.add_row(name, _cell(value))
    shown = [law]
    if report["held_out"]:
        held = Table(title="Held out; 95 % interval of a single run")
        for column in (*report["x"], "measured", "predicted", "inside"):
            held.add_column(column, justify="right")
        for row in report["held_out"]:
            x = row["x"] if isinstance(row["x"], list) else [row["x"]]
            inside = row["low"] <= row["measured"] <= row["high"]
            predicted = _cell({**row, "value": row["predicted"]})
            numbers = (f"{number:.4g}" for number in (*x, row["measured"]))
            held.add_row(*numbers, predicted, "yes" if inside else "no")
        shown.append(held)
    if report.get("compute_optimal"):
        best = Table(title="Compute-optimal; 95 % interval of the law")
        for column in ("budget", *report["x"], report["y"]):
            best.add_column(column, justify="right")
        for row in report["compute_optimal"]:
            best.add_row(f"{row['budget']:.4g}", *(_cell(row[name]) for name in ("n", "d", "y")))
        shown.append(best)
    return shown


def _edges(fit: Fit) -> list[str]:
    found = []
    for place, name in enumerate(fit.law.names):
        low, high = float(fit.law.low[place]), float(fit.law.high[place])
        edges = {"c": (high,), **dict.fromkeys(fit.law.exponents, (low, high))}.get(name, ())
        value, *resampled = fit.parameters[:, place]
        reached = interval(Estimate(value, resampled)).values()
        if any(np.isclose(one, edge, rtol=NEAR) for one in reached for edge in edges):
            unit = " times the smallest x" if name == "c" else ""
            found.append(
                f"{name} or its interval is at the edge of where it is sought, {low:g} to {high:g}"
                f"{unit}: the points do not determine it, or follow another law"
            )
    return found


def _repeated_epochs(rows: Sequence[Row]) -> list[str]:
    epochs = [number_of(row.fields.get(EPOCHS, "")) or 0.0 for row in rows]
    repeated = sum(number > 1 for number in epochs)
    if not repeated:
        return []
    return [
        f"{repeated} of {len(rows)} runs saw clips more than once, up to {max(epochs):.3g} epochs: "
        "repeated data bend a law"
    ]


def _learning_rates(points: Points) -> list[str]:
    """Of runs that differ in their learning rate alone: whether an end of the sweep is best."""
    settings = _settings(points.rows)
    sweeps: dict[tuple, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in points.rows:
        fields = row.fields
        rate = number_of(fields.get(LEARNING_RATE, ""))
        if rate is not None:
            others = (name for name in fields if name in settings and not _is_tuned(name))
            same = (*points.x_columns, *others)
            y = float(fields[points.y_column])
            sweeps[tuple(fields[name] for name in same)][rate].append(y)
    found = []
    for place, sweep in sweeps.items():
        best = min(sweep, key=lambda rate: np.mean(sweep[rate]))
        if len(sweep) > 1 and best in (min(sweep), max(sweep)):
            where = ", ".join(
                f"{name} {value}" for name, value in zip(points.x_columns, place, strict=False)
            )
            found.append(
                f"at {where} the best learning rate, {best:g}, is the edge of its sweep, "
                f"{min(sweep):g} to {max(sweep):g}: a better one may lie beyond"
            )
    return found


def _settings(rows: Sequence[Row]) -> set[str]:
    """Columns that are no results: fields of a config, and words that are not of one row alone."""
    found = set()
    for name in rows[0].fields if rows else ():
        values = [row.fields[name] for row in rows]
        are_words = any(number_of(value) is None for value in values if value)
        if name in FIELDS or (are_words and len(set(values)) < len(values)):
            found.add(name)
    return found


def _is_tuned(name: str) -> bool:
    return name == "seed" or name.endswith("learning_rate")


def _cell(value: dict[str, float]) -> str:
    return f"{value['value']:.4g}  [{value['low']:.3g}, {value['high']:.3g}]"
