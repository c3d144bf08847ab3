"""How figures look, and how they are written. Without matplotlib until one is drawn."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from supclap_jax.evaluate import tables

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

DPI = 150
MARGIN = 0.1  # inches
TEXT_COLOUR = "#0b6e99"
AUDIO_COLOUR = "#d9730d"
NEUTRAL_COLOUR = "#37352f"
QUIET_COLOUR = "#9b9a97"
DIRECTIONS = {
    "text_to_audio": (tables.DIRECTIONS["text_to_audio"], TEXT_COLOUR),
    "audio_to_text": (tables.DIRECTIONS["audio_to_text"], AUDIO_COLOUR),
}
STYLE = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": QUIET_COLOUR,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e9e9e7",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
}


class Print(NamedTuple):
    """What is the same for all figures of an evaluation.

    Attributes:
      note: small print below each: run, step and data set.
      pdf: whether a PDF file is written beside each PNG file.
    """

    note: str = ""
    pdf: bool = False


PLAIN = Print()


def new_figure(width: float, height: float, layout: str | None = "tight") -> Figure:
    """An empty figure of so many inches, without pyplot and its global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout=layout)
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: Path, style: Print) -> list[Path]:
    """Writes a figure as `path`, a PNG file; returns what was written."""
    paths = [path, path.with_suffix(".pdf")] if style.pdf else [path]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        area = put_below(figure, style.note)
        for path in paths:
            figure.savefig(path, dpi=DPI, bbox_inches=area)
    return paths


def put_below(figure: Figure, note: str) -> Bbox:
    """Small print below all that is drawn; returns the area of both, in inches, to save.

    The figure is laid out once, here: left to itself matplotlib would do so at every saving.
    """
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    drawn, height = figure.get_tightbbox(), figure.get_figheight()  # inches
    left, below = drawn.x0 / figure.get_figwidth(), (drawn.y0 - 0.1) / height
    text = figure.text(
        left, below, note, fontsize=7, color=QUIET_COLOUR, va="top", parse_math=False
    )
    of_note = text.get_window_extent().transformed(figure.dpi_scale_trans.inverted())
    return drawn.union([drawn, of_note]).padded(MARGIN)
