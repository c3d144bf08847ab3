"""Figures of a training run over its steps."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from supclap_jax.evaluate.bootstrap import OF_95_PERCENT
from supclap_jax.evaluate.figure_style import (
    AUDIO_COLOUR,
    DIRECTIONS,
    NEUTRAL_COLOUR,
    PLAIN,
    QUIET_COLOUR,
    STYLE,
    TEXT_COLOUR,
    Print,
    new_figure,
    save,
)
from supclap_jax.runs.metrics import read_steps

SIDES = {"text": TEXT_COLOUR, "audio": AUDIO_COLOUR}
SMOOTHING_SHARE = 0.02
FEW_POINTS = 30
# Scheduled or summed up already: drawn as they are.
SMOOTH = ("learning_rate", "temperature", "goodput")


class Curve(NamedTuple):
    """One logged quantity: int `[points]` ascending steps and float64 `[points]` values."""

    steps: np.ndarray
    values: np.ndarray


Curves = Mapping[str, Curve]
# Label -> key of the metric and its colour.
Lines = Mapping[str, tuple[str, str]]
_Panel = tuple[str, str, Lines]


def training_figures(
    metrics_path: str | Path, out_dir: str | Path, style: Print = PLAIN
) -> list[Path]:
    """Draws what a run logged over its training steps.

    Args:
      metrics_path: `metrics.jsonl`, one JSON object per line with "step" and any metrics. Where a
        resumed run logged a step twice, the later line counts.
      out_dir: folder for `loss.png`, `recall.png`, `radius.png`, `forces.png` and `training.png`;
        created if missing.
      style: small print, to which the last step is added, and whether there is PDF, too.

    Returns:
      The files written. A figure, or a panel of one, whose metrics were not logged, or were zero
      throughout, is left out.
    """
    curves = read_curves(metrics_path)
    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    figures: dict[str, Callable[[Curves], Figure | None]] = {
        "loss": lambda curves: _panels(curves, _LOSS),
        "recall": _recall_figure,
        "radius": _radius_figure,
        "forces": lambda curves: _panels(curves, _FORCES),
        "training": lambda curves: _panels(curves, _TRAINING),
    }
    paths = []
    last = max((curve.steps[-1] for curve in curves.values()), default=0)
    note = f"{style.note} · to step {last:,}" if style.note else ""
    with rc_context(STYLE):
        for name, draw in figures.items():
            if (figure := draw(curves)) is not None:
                paths += save(figure, out_dir / f"{name}.png", style._replace(note=note))
    return paths


def read_curves(metrics_path: str | Path) -> dict[str, Curve]:
    """Reads `metrics.jsonl` into one curve per key, without what a kill cut off."""
    points: dict[str, dict[int, float]] = defaultdict(dict)
    for metrics in read_steps(Path(metrics_path)):
        step = metrics.pop("step")
        for key, value in metrics.items():
            if isinstance(value, int | float):
                points[key][step] = value
    return {
        key: Curve(np.array(sorted(values)), np.array([values[step] for step in sorted(values)]))
        for key, values in points.items()
    }


def smooth(values: np.ndarray) -> np.ndarray:
    """Centred running mean of `values [points]` over 2 % of them; near the ends over fewer."""
    window = np.ones(2 * round(SMOOTHING_SHARE * len(values) / 2) + 1)
    return np.convolve(values, window, "same") / np.convolve(np.ones(len(values)), window, "same")


def _of_sides(key: str) -> Lines:
    return {side: (key.format(side), colour) for side, colour in SIDES.items()}


def _of_directions(key: str) -> Lines:
    return {label: (key.format(name), colour) for name, (label, colour) in DIRECTIONS.items()}


def _alone(key: str, colour: str = NEUTRAL_COLOUR) -> Lines:
    return {"": (key, colour)}


# Title, unit and lines of each panel. Forces are named as in docs/method.md.
_LOSS: tuple[_Panel, ...] = (
    ("Total loss", "Loss (nats)", _alone("loss")),
    ("Contrastive loss", "Loss (nats)", _alone("loss/base", TEXT_COLOUR)),
    ("Support vector loss", "Loss (nats)", _alone("loss/svr", TEXT_COLOUR)),
    ("Radius constraint", "Mean violation (length)", _alone("loss/constraint", TEXT_COLOUR)),
    ("Validation entropy", "Entropy (nats)", _of_directions("validation/{}/entropy")),
)
_FORCE = "Force (nats per unit length)"
_FORCES: tuple[_Panel, ...] = (
    ("Pull towards the positive", _FORCE, _of_sides("force/{}_pull")),
    ("Push along u", _FORCE, _of_sides("force/{}_push_parallel")),
    ("Push across u", _FORCE, _of_sides("force/{}_push_perpendicular")),
    ("Update and u: higher is less drift", "Cosine", _of_sides("force/{}_drift_cosine")),
)
_TRAINING: tuple[_Panel, ...] = (
    ("Temperature", "Temperature", _alone("temperature")),
    ("Learning rate", "Rate", _alone("learning_rate")),
    ("Norm of the gradient", "Norm (nats per unit)", _alone("gradient_norm")),
    ("Contraction of the push across u", "1 - R/d", _of_sides("contraction/{}")),
    ("Recall within the batch", "R@1 (%)", _of_directions("R@1/{}")),
    ("Goodput since the first start", "Share of time in kept steps", _alone("goodput")),
)


def _panels(curves: Curves, panels: tuple[_Panel, ...]) -> Figure | None:
    """Those panels of which something but zero was logged, two a row."""
    curves = {key: curve for key, curve in curves.items() if curve.values.any()}
    drawn = [panel for panel in panels if any(key in curves for key, _ in panel[2].values())]
    if not drawn:
        return None
    columns, rows = min(len(drawn), 2), (len(drawn) + 1) // 2
    figure = new_figure(width=5.2 * columns, height=3.2 * rows)
    for place, (title, unit, lines) in enumerate(drawn, start=1):
        axes = figure.add_subplot(rows, columns, place)
        for label, (key, colour) in lines.items():
            if key in SMOOTH and key in curves:
                axes.plot(*curves[key], color=colour)
            elif key in curves:
                _plot(axes, curves[key], colour, label)
        _finish(axes, title, unit)
    return figure


def _recall_figure(curves: Curves) -> Figure | None:
    """R@1 where it was evaluated, with its 95 % interval."""
    lines = _of_directions("validation/{}/R@1")
    if not any(key in curves for key, _ in lines.values()):
        return None
    figure = new_figure(width=7.2, height=4.0)
    axes = figure.subplots()
    title = "Validation recall"
    for label, (key, colour) in lines.items():
        if key not in curves:
            continue
        curve, error = curves[key], curves.get(f"{key}_error")
        axes.plot(*curve, color=colour, label=label, marker="o", markersize=4)
        if error is not None:
            title = "Validation recall, 95 % interval over clips"
            steps, at_curve, at_error = np.intersect1d(
                curve.steps, error.steps, return_indices=True
            )
            centre, spread = curve.values[at_curve], OF_95_PERCENT * error.values[at_error]
            low, high = np.clip([centre - spread, centre + spread], 0, 100)
            axes.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.set_ylim(bottom=0)
    _finish(axes, title, "R@1 (%)")
    return figure


def _radius_figure(curves: Curves) -> Figure | None:
    if not any(f"radius/{side}_mean" in curves for side in SIDES):
        return None
    figure = new_figure(width=7.2, height=4.0)
    axes = figure.subplots()
    if "distance" in curves:
        _plot(axes, curves["distance"], NEUTRAL_COLOUR, "distance d (mean)")
    for side, colour in SIDES.items():
        if f"radius/{side}_mean" not in curves:
            continue
        mean, std = curves[f"radius/{side}_mean"], curves.get(f"radius/{side}_std")
        is_fan = std is not None and std.values.any()
        _plot(axes, mean, colour, f"{side} radius R ({'mean ± std' if is_fan else 'mean'})")
        if is_fan:
            steps, at_mean, at_std = np.intersect1d(mean.steps, std.steps, return_indices=True)
            centre, spread = smooth(mean.values)[at_mean], smooth(std.values)[at_std]
            axes.fill_between(
                steps, centre - spread, centre + spread, color=colour, alpha=0.15, linewidth=0
            )
    axes.axhline(0, color=QUIET_COLOUR, linewidth=0.8)
    _finish(axes, "Support vector radius and pair distance", "Length (unit sphere)")
    return figure


def _plot(axes: Axes, curve: Curve, colour: str, label: str) -> None:
    """A few points as they are; many as a smoothed line over the faint raw one."""
    if len(curve.steps) <= FEW_POINTS:
        axes.plot(*curve, color=colour, label=label, marker="o", markersize=4)
    else:
        axes.plot(*curve, color=colour, alpha=0.22, linewidth=0.8)
        axes.plot(curve.steps, smooth(curve.values), color=colour, label=label)


def _finish(axes: Axes, title: str, unit: str) -> None:
    axes.set_title(title)
    axes.set_xlabel("Training step")
    axes.set_ylabel(unit)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.margins(x=0.02)
    if any(axes.get_legend_handles_labels()[1]):
        axes.legend()
