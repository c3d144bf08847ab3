"""Figures of a comparison: runs as points, gains with intervals, and runs over their steps."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from supclap_jax.evaluate.figure_style import (
    DIRECTIONS,
    QUIET_COLOUR,
    STYLE,
    new_figure,
    put_below,
)
from supclap_jax.evaluate.training_figures import Curve, read_curves, smooth
from supclap_jax.experiments.comparison import UNITS, Group
from supclap_jax.experiments.sweep_file import workdir_of

LINE_STYLES = ("-", "--", ":")  # of the first ten groups, the next ten, and so on
# Title and unit of each panel of the runs over their steps, and the metric.
OVER_STEPS = (
    ("Validation recall, text → audio", "R@1 (%)", "validation/text_to_audio/R@1"),
    ("Validation recall, audio → text", "R@1 (%)", "validation/audio_to_text/R@1"),
    ("Update and u, text: higher is less drift", "Cosine", "force/text_drift_cosine"),
    ("Push across u, text", "Force (nats per unit length)", "force/text_push_perpendicular"),
    ("Contraction of the push across u, text", "1 - R/d", "contraction/text"),
    ("Norm of the gradient", "Norm", "gradient_norm"),
)


def figures(result: dict, groups: Sequence[Group], out: Path) -> dict[str, Figure]:
    """By name: "comparison", and where there is something to draw "gains" and "steps".

    Args:
      result: of `comparison_report.report`.
      groups: of which it is.
      out: folder of the sweep.
    """
    with rc_context(STYLE):
        drawn = {
            "comparison": _points(result),
            "gains": _gains(result),
            "steps": _over_steps(groups, out),
        }
        drawn = {name: figure for name, figure in drawn.items() if figure is not None}
        seeds = {name for group in groups for name in group.seeds}
        for figure in drawn.values():
            put_below(figure, f"{out} · {len(groups)} groups, {len(seeds)} seeds")
    return drawn


def _points(result: dict) -> Figure:
    """Every run as a point, the mean over seeds as a line."""
    rows = result["groups"]
    labels = ["\n".join([row["value"], *row["others"].values()]) for row in rows]
    kinds = [k for k in ("R@1", "entropy") if any(m.startswith(k) and m in rows[0] for m in UNITS)]
    figure = new_figure(max(7.2, 0.9 * len(rows)), 2.8 * len(kinds))
    for axes, kind in zip(np.atleast_1d(figure.subplots(len(kinds))), kinds, strict=True):
        for side, (direction, (name, colour)) in enumerate(DIRECTIONS.items()):
            metric = f"{kind}_{direction}"
            for place, row in enumerate(rows):
                x, values = place + 0.24 * side - 0.12, row[metric]["by_seed"]
                label = name if place == 0 else None
                axes.plot([x] * len(values), values, "o", alpha=0.7, color=colour, label=label)
                axes.hlines(row[metric]["mean"], x - 0.1, x + 0.1, color=colour, lw=2)
        slanted = {"rotation": 30, "ha": "right"} if len(rows) > 6 else {}
        axes.set_xticks(range(len(rows)), labels, parse_math=False, **slanted)
        axes.set_ylabel(f"{kind} ({UNITS[f'{kind}_text_to_audio']})")
        axes.grid(axis="x", visible=False)
        axes.legend()
    return figure


def _gains(result: dict) -> Figure | None:
    """What each group has more than the baseline, with its 95 % interval, of every metric."""
    rows = [row for row in result["groups"] if any(_gain(row, metric) for metric in UNITS)]
    metrics = [metric for metric in UNITS if any(_gain(row, metric) for row in rows)]
    if not rows:
        return None
    figure = new_figure(max(3.4 * len(metrics), 5.0), 1.2 + 0.32 * len(rows))
    panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    for axes, metric in zip(panels, metrics, strict=True):
        kind, _, direction = metric.partition("_")
        name, colour = DIRECTIONS[direction]
        for place, row in enumerate(rows):
            if less := _gain(row, metric):
                axes.plot([less["low"], less["high"]], [place, place], color=colour)
                axes.plot(less["value"], place, "o", color=colour)
        axes.axvline(0, color=QUIET_COLOUR, linewidth=0.8)
        axes.set_title(f"{kind} {name}", fontsize=9)
        unit = "points; right is better" if kind == "R@1" else "nats; left is better"
        axes.set_xlabel(f"less {result['baseline']} ({unit})")
    labels = [" ".join([row["value"], *row["others"].values()]) for row in rows]
    panels[0].set_yticks(range(len(rows)), labels, parse_math=False)
    panels[0].invert_yaxis()
    return figure


def _over_steps(groups: Sequence[Group], out: Path) -> Figure | None:
    """The mean of each group's runs over their steps, a band from the least to the most of them."""
    curves = [
        [read_curves(workdir_of(out, name) / "metrics.jsonl") for name in group.names]
        for group in groups
    ]
    logged = {metric for runs in curves for run in runs for metric in run}
    panels = [panel for panel in OVER_STEPS if panel[2] in logged]
    if not panels:
        return None
    colours = colormaps["tab10"].colors
    figure = new_figure(11.0, 3.2 * ((len(panels) + 1) // 2))
    for place, (title, unit, metric) in enumerate(panels, start=1):
        axes = figure.add_subplot((len(panels) + 1) // 2, 2, place)
        for number, (group, runs) in enumerate(zip(groups, curves, strict=True)):
            found = [run[metric] for run in runs if metric in run]
            if found:
                label = " ".join([group.value, *group.others.values()])
                style = LINE_STYLES[number // len(colours) % len(LINE_STYLES)]
                _band(axes, found, colours[number % len(colours)], style, label)
        axes.set_title(title)
        axes.set_xlabel("Training step")
        axes.set_ylabel(unit)
    legends = (axes.get_legend_handles_labels() for axes in figure.axes)
    handles, labels = max(legends, key=lambda legend: len(legend[1]))
    figure.legend(handles, labels, loc="upper center", bbox_to_anchor=(0.5, 0), ncols=4, fontsize=8)
    return figure


def _gain(row: dict, metric: str) -> dict | None:
    return row[metric]["difference"] if metric in row else None


def _band(axes: Axes, runs: Sequence[Curve], colour: tuple, style: str, label: str) -> None:
    steps = runs[0].steps
    for run in runs[1:]:
        steps = np.intersect1d(steps, run.steps)
    values = np.stack([smooth(run.values[np.isin(run.steps, steps)]) for run in runs])
    axes.plot(steps, values.mean(axis=0), color=colour, ls=style, label=label, linewidth=1.4)
    if len(runs) > 1:
        low, high = values.min(axis=0), values.max(axis=0)
        axes.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)
