"""Figures of a training run, of a few test pairs and of zero-shot errors, written as PNG files."""

import unicodedata
import warnings
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib import font_manager, rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import EngFormatter, MaxNLocator

from supclap_jax.runs.metrics import read_lines

DPI = 150
LABEL_COLUMNS = 56
CLASS_COLUMNS = 28

_TEXT_COLOUR = "#0b6e99"
_AUDIO_COLOUR = "#d9730d"
_NEUTRAL_COLOUR = "#37352f"
_SMOOTHING_SHARE = 0.02
_FEW_POINTS = 30
_ANNOTATED_PAIRS = 12
_ANNOTATED_CLASSES = 20
_MANY_CLASSES = 60
_FONTS_BY_SCRIPT = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "WenQuanYi Zen Hei",
    "Noto Sans Arabic",
    "Noto Sans Devanagari",
    "Noto Sans Thai",
)
_STYLE = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#9b9a97",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e9e9e7",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
}


class Curve(NamedTuple):
    """One logged quantity: int `[points]` ascending steps and float64 `[points]` values."""

    steps: np.ndarray
    values: np.ndarray


def training_figures(metrics_path: str | Path, out_dir: str | Path) -> list[Path]:
    """Draws the losses, recall, radii and forces of a run over its training steps.

    Args:
      metrics_path: `metrics.jsonl`, one JSON object per line with "step" and any metrics. Where a
        resumed run logged a step twice, the later line counts.
      out_dir: folder for `loss.png`, `recall.png`, `radius.png` and `forces.png`; created if
        missing.

    Returns:
      The figures drawn. A figure, or a part of one, whose metrics were not logged is left out.
    """
    curves = read_curves(metrics_path)
    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    paths = []
    with rc_context(_STYLE):
        for draw in (_loss_figure, _recall_figure, _radius_figure, _forces_figure):
            figure = draw(curves)
            if figure is not None:
                path = out_dir / f"{draw.__name__.strip('_').removesuffix('_figure')}.png"
                paths.append(_save(figure, path))
    return paths


def similarity_figure(similarity: np.ndarray, labels: Sequence[str], path: str | Path) -> Path:
    """Draws how similar each caption is to each of a few clips; own pairs are framed.

    Args:
      similarity: `[k, k]`, captions x clips, pair i on the diagonal; cosines in [-1, 1].
      labels: `[k]` captions in any script. Long ones are shortened; a script for which no font is
        installed shows as boxes.
      path: the PNG file to write.
    """
    similarity = np.asarray(similarity, np.float64)
    count = len(labels)
    if similarity.shape != (count, count) or count == 0:
        raise ValueError(
            f"similarity must have shape [{count}, {count}] for {count} labels and at least one "
            f"label, got {list(similarity.shape)}."
        )
    if not np.isfinite(similarity).all():
        raise ValueError("similarity must be finite, but contains NaN or infinite values.")
    with rc_context({**_STYLE, "axes.grid": False}):
        figure = _figure(width=1.5 + 0.55 * count, height=1.0 + 0.55 * count, layout=None)
        axes = figure.subplots()
        _draw_matrix(axes, similarity)
        _label_pairs(axes, labels)
        return _save(figure, Path(path))


def confusion_figure(count: np.ndarray, names: Sequence[str], path: str | Path) -> Path:
    """Draws which class the clips of each class were taken for.

    Args:
      count: int `[classes, classes]`, clips of the row's class that were taken for the column's.
        Rows are drawn as shares; a row without clips stays blank.
      names: `[classes]`, shortened to 28 columns.
      path: the PNG file to write. It grows with the number of classes, so that names stay legible.
    """
    count = np.asarray(count)
    classes = len(names)
    if count.shape != (classes, classes) or count.min() < 0:
        raise ValueError(
            f"count must hold no negative numbers and have shape [{classes}, {classes}] for "
            f"{classes} names, got {list(count.shape)}."
        )
    annotated = classes <= _ANNOTATED_CLASSES
    inches, font = (0.42, 9) if annotated else (0.2, 8) if classes <= _MANY_CLASSES else (0.085, 5)
    share = count / np.maximum(count.sum(axis=1, keepdims=True), 1)
    with rc_context({**_STYLE, "axes.grid": False}):
        side = max(inches * classes, 2.5)
        figure = _figure(width=side, height=side, layout=None)
        axes = figure.add_axes((0, 0, 1, 1))  # names lie outside; saving makes room for them
        image = axes.imshow(100 * share, cmap="Blues", vmin=0, vmax=100, interpolation="nearest")
        bar = figure.add_axes((1 + 0.2 / side, 0.25, 0.15 / side, 0.5))
        figure.colorbar(image, cax=bar, label="Clips of the class (%)")
        labels = [shorten(name.replace("_", " "), CLASS_COLUMNS) for name in names]
        axes.set_yticks(range(classes), labels, fontsize=font)
        axes.set_xticks(range(classes), labels, fontsize=font, rotation=90)
        axes.tick_params(length=0, pad=2)
        axes.set_xlabel("Taken for")
        axes.set_ylabel("Class")
        if annotated:
            for (row, column), value in np.ndenumerate(share):
                if count[row, column]:
                    colour = "white" if value > 0.6 else "black"
                    text = f"{100 * value:.0f}"
                    axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
        right = np.trace(count) / max(count.sum(), 1)
        axes.set_title(f"Zero-shot: {count.sum():,} clips, {100 * right:.1f} % right")
        return _save(figure, Path(path))


def read_curves(metrics_path: str | Path) -> dict[str, Curve]:
    """Reads `metrics.jsonl` into one curve per key, without what a kill cut off."""
    points: dict[str, dict[int, float]] = defaultdict(dict)
    for metrics in read_lines(Path(metrics_path)):
        step = metrics.pop("step", None)
        for key, value in metrics.items() if step is not None else ():
            if isinstance(value, int | float):
                points[key][step] = value
    return {
        key: Curve(np.array(sorted(values)), np.array([values[step] for step in sorted(values)]))
        for key, values in points.items()
    }


def smooth(values: np.ndarray) -> np.ndarray:
    """Centred running mean of `values [points]` over 2 % of them; near the ends over fewer."""
    window = np.ones(2 * round(_SMOOTHING_SHARE * len(values) / 2) + 1)
    return np.convolve(values, window, "same") / np.convolve(np.ones(len(values)), window, "same")


def shorten(label: str, columns: int = LABEL_COLUMNS) -> str:
    """`label` on one line of at most `columns` columns; East Asian wide letters take two."""
    label = " ".join(label.split())
    ends = np.cumsum([2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in label])
    if label and ends[-1] > columns:
        return label[: np.searchsorted(ends, columns - 1, side="right")].rstrip() + "…"
    return label


def _loss_figure(curves: dict[str, Curve]) -> Figure | None:
    titles = {
        "loss": "Total loss",
        "loss/base": "Contrastive loss",
        "loss/svr": "Support vector loss",
        "loss/constraint": "Radius constraint",
    }
    drawn = [key for key in titles if key in curves]
    if not drawn:
        return None
    figure = _figure(width=5.2 * min(len(drawn), 2), height=3.2 * ((len(drawn) + 1) // 2))
    for place, key in enumerate(drawn, start=1):
        axes = figure.add_subplot((len(drawn) + 1) // 2, min(len(drawn), 2), place)
        _plot(axes, curves[key], _NEUTRAL_COLOUR if key == "loss" else _TEXT_COLOUR)
        _finish(axes, titles[key], "Loss (nats)" if key != "loss/constraint" else "Mean violation")
    return figure


def _recall_figure(curves: dict[str, Curve]) -> Figure | None:
    panels = {
        "In-batch recall (training)": ("recall/{}", 100.0),
        "Validation recall": ("validation/{}/R@1", 1.0),
    }
    directions = {
        "text_to_audio": ("text → audio", _TEXT_COLOUR),
        "audio_to_text": ("audio → text", _AUDIO_COLOUR),
    }
    drawn = {
        title: (key, percent)
        for title, (key, percent) in panels.items()
        if any(key.format(direction) in curves for direction in directions)
    }
    if not drawn:
        return None
    figure = _figure(width=5.2 * len(drawn), height=3.6)
    for place, (title, (key, percent)) in enumerate(drawn.items(), start=1):
        axes = figure.add_subplot(1, len(drawn), place)
        for direction, (label, colour) in directions.items():
            if (curve := curves.get(key.format(direction))) is not None:
                _plot(axes, Curve(curve.steps, percent * curve.values), colour, label)
        axes.set_ylim(bottom=0)
        _finish(axes, title, "R@1 (%)")
    return figure


def _radius_figure(curves: dict[str, Curve]) -> Figure | None:
    radii = {"text": _TEXT_COLOUR, "audio": _AUDIO_COLOUR}
    if not any(f"radius/{name}_mean" in curves for name in radii):
        return None
    figure = _figure(width=7.2, height=4.0)
    axes = figure.subplots()
    if "distance" in curves:
        _plot(axes, curves["distance"], _NEUTRAL_COLOUR, "audio–text distance (mean)")
    for name, colour in radii.items():
        if f"radius/{name}_mean" in curves:
            mean = curves[f"radius/{name}_mean"]
            _plot(axes, mean, colour, f"{name} radius (mean ± std)")
            _band(axes, mean, curves.get(f"radius/{name}_std"), colour)
    axes.axhline(0, color="#9b9a97", linewidth=0.8)
    _finish(axes, "Support vector radius and pair distance", "Euclidean length (unit sphere)")
    return figure


def _forces_figure(curves: dict[str, Curve]) -> Figure | None:
    panels = {
        "pull": ("Pull towards the own pair", "Mean force"),
        "push_parallel": ("Push along that line", "Mean force"),
        "push_perpendicular": ("Push across it", "Mean force"),
        "drift_cosine": ("Update against pull direction", "Cosine (higher: less drift)"),
    }
    colours = {"text": _TEXT_COLOUR, "audio": _AUDIO_COLOUR}
    drawn = [name for name in panels if any(f"force/{side}_{name}" in curves for side in colours)]
    if not drawn:
        return None
    figure = _figure(width=10.4, height=3.2 * ((len(drawn) + 1) // 2))
    for place, name in enumerate(drawn, start=1):
        axes = figure.add_subplot((len(drawn) + 1) // 2, 2, place)
        for side, colour in colours.items():
            if (curve := curves.get(f"force/{side}_{name}")) is not None:
                _plot(axes, curve, colour, side)
        _finish(axes, *panels[name])
    return figure


def _draw_matrix(axes: Axes, similarity: np.ndarray) -> None:
    image = axes.imshow(similarity, cmap="viridis")
    axes.figure.colorbar(image, ax=axes, label="Cosine similarity", shrink=0.8, pad=0.04)
    for pair in range(len(similarity)):
        frame = Rectangle((pair - 0.5, pair - 0.5), 1, 1, fill=False, edgecolor="white", lw=2)
        axes.add_patch(frame)
    if len(similarity) <= _ANNOTATED_PAIRS:
        for (row, column), value in np.ndenumerate(similarity):
            colour = "black" if image.norm(value) > 0.6 else "white"
            axes.text(
                column, row, f"{value:z.2f}", ha="center", va="center", color=colour, fontsize=8
            )


def _label_pairs(axes: Axes, labels: Sequence[str]) -> None:
    places = np.arange(len(labels))
    installed = set(font_manager.get_font_names())
    fonts = ["DejaVu Sans", *(font for font in _FONTS_BY_SCRIPT if font in installed)]
    captions = [shorten(label) for label in labels]
    axes.set_title("Captions and clips, own pairs framed", pad=10)
    axes.set_xlabel("Clip")
    axes.set_xticks(places, [str(1 + place) for place in places])
    axes.set_yticks(places, captions, parse_math=False, fontfamily=fonts)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _plot(axes: Axes, curve: Curve, colour: str, label: str | None = None) -> None:
    """A few points as they are; many as a smoothed line over the faint raw one."""
    if len(curve.steps) <= _FEW_POINTS:
        axes.plot(*curve, color=colour, label=label, marker="o", markersize=4)
    else:
        axes.plot(*curve, color=colour, alpha=0.22, linewidth=0.8)
        axes.plot(curve.steps, smooth(curve.values), color=colour, label=label)


def _band(axes: Axes, mean: Curve, std: Curve | None, colour: str) -> None:
    """Shades mean ± std where both were logged."""
    if std is not None:
        steps, at_mean, at_std = np.intersect1d(mean.steps, std.steps, return_indices=True)
        centre, spread = smooth(mean.values)[at_mean], smooth(std.values)[at_std]
        axes.fill_between(
            steps, centre - spread, centre + spread, color=colour, alpha=0.15, linewidth=0
        )


def _finish(axes: Axes, title: str, unit: str) -> None:
    axes.set_title(title)
    axes.set_xlabel("Training step")
    axes.set_ylabel(unit)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.margins(x=0.02)
    if axes.get_legend_handles_labels()[1]:
        axes.legend()


def _figure(width: float, height: float, layout: str | None = "tight") -> Figure:
    figure = Figure(figsize=(width, height), layout=layout)
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(path, dpi=DPI, bbox_inches="tight")
    return path
