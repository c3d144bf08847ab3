"""Figures of similarities, of zero-shot errors, and of labels over time."""

import textwrap
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import font_manager, rc_context
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from supclap_jax.evaluate.figure_style import NEUTRAL_COLOUR, PLAIN, STYLE, Print, new_figure, save

LABEL_COLUMNS = 52
CLASS_COLUMNS = 28
LINES = (2, 3)  # of a caption, as many as make all differ
ANNOTATED_PAIRS = 12
ANNOTATED_CLASSES = 20
MANY_CLASSES = 60
MOST_LABELS = 12
FONTS = (
    "DejaVu Sans",  # comes with matplotlib
    "Noto Sans CJK JP",
    "Noto Sans CJK SC",
    "WenQuanYi Zen Hei",
    "IPAGothic",
    "Noto Sans Arabic",
    "Noto Sans Devanagari",
    "Noto Sans Thai",
)


def similarity_figure(
    similarity: np.ndarray, labels: Sequence[str], path: str | Path, style: Print = PLAIN
) -> list[Path]:
    """Draws how similar each caption is to each of a few clips; own pairs are framed.

    Args:
      similarity: `[k, k]`, captions x clips, pair i on the diagonal; cosines in [-1, 1].
      labels: `[k]` captions in any script. Long ones are shortened; one with letters of which no
        installed font knows is numbered, and the figure says so.
      path: the PNG file to write.
      style: small print, and whether there is PDF, too.

    Returns:
      The files written.
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
    with rc_context({**STYLE, "axes.grid": False}):
        figure = new_figure(width=1.5 + 0.55 * count, height=1.0 + 0.55 * count, layout=None)
        axes = figure.subplots()
        _draw_matrix(axes, similarity)
        without_font = _label_pairs(axes, labels)
        note = style.note
        if without_font:
            note += (
                f"\nNumbered captions: {without_font}, since no font of their script is "
                "installed, such as Noto Sans CJK"
            )
        return save(figure, Path(path), style._replace(note=note))


def confusion_figure(
    count: np.ndarray, names: Sequence[str], path: str | Path, style: Print = PLAIN
) -> list[Path]:
    """Draws which class the clips of each class were taken for.

    Args:
      count: int `[classes, classes]`, clips of the row's class that were taken for the column's.
        Rows are drawn as shares; a row without clips stays blank.
      names: `[classes]`, shortened to 28 columns; clips of the class stand behind the row's.
      path: the PNG file to write. It grows with the number of classes, so that names stay legible.
      style: small print, and whether there is PDF, too.

    Returns:
      The files written.
    """
    count = np.asarray(count)
    classes = len(names)
    if count.shape != (classes, classes) or count.min() < 0:
        raise ValueError(
            f"count must hold no negative numbers and have shape [{classes}, {classes}] for "
            f"{classes} names, got {list(count.shape)}."
        )
    annotated = classes <= ANNOTATED_CLASSES
    inches, font = (0.42, 9) if annotated else (0.2, 8) if classes <= MANY_CLASSES else (0.085, 5)
    clips = count.sum(axis=1)
    share = count / np.maximum(clips[:, None], 1)
    with rc_context({**STYLE, "axes.grid": False}):
        side = max(inches * classes, 2.5)
        figure = new_figure(width=side, height=side, layout=None)
        axes = figure.add_axes((0, 0, 1, 1))  # names lie outside; saving makes room for them
        image = axes.imshow(100 * share, cmap="Blues", vmin=0, vmax=100, interpolation="nearest")
        bar = figure.add_axes((1 + 0.2 / side, 0.25, 0.15 / side, 0.5))
        figure.colorbar(image, cax=bar, label="Clips of the class (%)")
        labels = [shorten(name.replace("_", " "), CLASS_COLUMNS) for name in names]
        rows = [f"{label}  {of_class:,}" for label, of_class in zip(labels, clips, strict=True)]
        axes.set_yticks(range(classes), rows, fontsize=font, parse_math=False)
        axes.set_xticks(range(classes), labels, fontsize=font, rotation=90, parse_math=False)
        axes.tick_params(length=0, pad=2)
        axes.set_xlabel("Taken for")
        axes.set_ylabel("Class and its clips")
        if annotated:
            for (row, column), value in np.ndenumerate(share):
                if count[row, column]:
                    colour = "white" if value > 0.6 else "black"
                    text = f"{100 * value:.0f}"
                    axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
        right = np.trace(count) / max(count.sum(), 1)
        axes.set_title(f"Zero-shot: {count.sum():,} clips, {100 * right:.1f} % right")
        return save(figure, Path(path), style)


def over_time_figure(
    times: np.ndarray,
    shares: np.ndarray,
    labels: Sequence[str],
    path: str | Path,
    style: Print = PLAIN,
) -> list[Path]:
    """Draws how likely the labels are in the course of a sound.

    Args:
      times: starts and ends of windows `[windows, 2]`, in seconds, in order. Where windows overlap,
        each is drawn about its middle.
      shares: `[windows, labels]` in [0, 1]. The `MOST_LABELS` are drawn that are likeliest in some
        window.
      labels: `[labels]`.
      path: the PNG file to write.
      style: small print, and whether there is PDF, too.

    Returns:
      The files written.
    """
    if shares.shape != (len(times), len(labels)) or not len(times):
        raise ValueError(
            f"shares must have shape [{len(times)}, {len(labels)}] for {len(times)} windows and "
            f"{len(labels)} labels, got {list(shares.shape)}."
        )
    chosen = np.argsort(-shares.max(axis=0), kind="stable")[:MOST_LABELS]
    chosen = chosen[np.argsort(shares[:, chosen].argmax(axis=0), kind="stable")]
    middles = times.mean(axis=1)
    edges = [times[0, 0], *(middles[1:] + middles[:-1]) / 2, times[-1, 1]]
    with rc_context({**STYLE, "axes.grid": False}):
        figure = new_figure(width=9, height=1.4 + 0.3 * len(chosen))
        axes = figure.subplots()
        image = axes.pcolormesh(
            edges, np.arange(len(chosen) + 1), 100 * shares[:, chosen].T, cmap="Blues", vmin=0,
            vmax=100
        )  # fmt: skip
        axes.invert_yaxis()
        names = [shorten(labels[place].replace("_", " "), CLASS_COLUMNS) for place in chosen]
        axes.set_yticks(np.arange(len(chosen)) + 0.5, names, parse_math=False)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("Seconds")
        axes.set_title("What is heard when")
        figure.colorbar(image, ax=axes, label="Share (%)", pad=0.02)
        return save(figure, Path(path), style)


def shorten(label: str, columns: int = LABEL_COLUMNS) -> str:
    """`label` on one line of at most `columns` columns; East Asian wide letters take two."""
    label = " ".join(label.split())
    ends = np.cumsum([_columns(letter) for letter in label])
    if label and ends[-1] > columns:
        return label[: np.searchsorted(ends, columns - 1, side="right")].rstrip() + "…"
    return label


def _columns(letter: str) -> int:
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1


def _draw_matrix(axes: Axes, similarity: np.ndarray) -> None:
    most = max(np.abs(similarity).max(), 0.01)
    image = axes.imshow(similarity, cmap="RdBu_r", vmin=-most, vmax=most)
    axes.figure.colorbar(image, ax=axes, label="Cosine similarity", shrink=0.8, pad=0.04)
    for pair in range(len(similarity)):
        frame = Rectangle(
            (pair - 0.5, pair - 0.5), 1, 1, fill=False, edgecolor=NEUTRAL_COLOUR, lw=2
        )
        axes.add_patch(frame)
    if len(similarity) <= ANNOTATED_PAIRS:
        for (row, column), value in np.ndenumerate(similarity):
            colour = "white" if abs(value) > 0.6 * most else "black"
            axes.text(
                column, row, f"{value:z.2f}", ha="center", va="center", color=colour, fontsize=8
            )


def _label_pairs(axes: Axes, labels: Sequence[str]) -> int:
    """Names rows and columns; returns how many captions no font can show."""
    places = np.arange(len(labels))
    installed = set(font_manager.get_font_names())
    fonts = [font for font in FONTS if font in installed]
    known = set()
    for font in fonts:
        known |= set(font_manager.get_font(font_manager.findfont(font)).get_charmap())
    labels = [" ".join(label.split()) for label in labels]
    shown = _wrapped(labels)
    for place, label in enumerate(labels):
        if not {ord(letter) for letter in label} <= known:
            shown[place] = f"caption {1 + place}"
    axes.set_title("Captions and clips, own pairs framed", pad=10)
    axes.set_xlabel("Clip")
    axes.set_xticks(places, [str(1 + place) for place in places])
    axes.set_yticks(places, shown, parse_math=False, fontfamily=fonts, fontsize=9)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return sum(not {ord(letter) for letter in label} <= known for label in labels)


def _wrapped(labels: Sequence[str]) -> list[str]:
    """Captions on so few lines that different ones differ, where `LINES` are enough."""
    for lines in LINES:
        shown = []
        for label in labels:
            wide = any(_columns(letter) == 2 for letter in label)
            width = LABEL_COLUMNS // 2 if wide else LABEL_COLUMNS
            shown.append(textwrap.fill(shorten(label, lines * LABEL_COLUMNS - 12), width))
        if len(set(shown)) == len(set(labels)):
            break
    return shown
