"""The figure of a fitted law."""

import io

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter, NullLocator, ScalarFormatter

from supclap_jax.evaluate.bootstrap import interval
from supclap_jax.experiments.law_fit import Fit
from supclap_jax.experiments.law_report import formula_of
from supclap_jax.experiments.points import Points

_COLOURS = ("#0b6e99", "#d9730d", "#448361", "#9065b0", "#cb912f", "#337ea9", "#d44c47", "#787774")
_PLACES = 100  # of a curve
_STYLE = {
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e9e9e7",
    "legend.frameon": False,
}


def law_figure(report: dict, fit: Fit, points: Points) -> bytes:
    """A PNG on log axes: points, the law with its 95 % band, held-out points hollow.

    The band is of single runs. With two columns the second is x, and each value of the first, or
    eight of them, has its curve.
    """
    with rc_context(_STYLE):
        figure = Figure(figsize=(7.2, 4.6), layout="tight")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        if len(points.x_columns) == 1:
            _curve(axes, fit, points, _COLOURS[0], "law")
        else:
            sizes = np.unique(np.concatenate([points.x[:, 0], points.held_x[:, 0]]))
            places = np.linspace(0, len(sizes) - 1, min(len(sizes), len(_COLOURS))).round()
            for colour, size in zip(_COLOURS, sizes[places.astype(int)], strict=False):
                chosen, held = points.x[:, 0] == size, points.held_x[:, 0] == size
                part = points._replace(
                    x=points.x[chosen],
                    y=points.y[chosen],
                    held_x=points.held_x[held],
                    held_y=points.held_y[held],
                )
                _curve(axes, fit, part, colour, f"{points.x_columns[0]} {size:.3g}")
        axes.set(xscale="log", yscale="log", xlabel=points.x_columns[-1], ylabel=points.y_column)
        for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            axis.set_minor_formatter(NullFormatter())
            if high < 10 * low:  # powers of ten say too little
                axis.set_major_locator(MaxNLocator(6))
                axis.set_major_formatter(ScalarFormatter())
                axis.set_minor_locator(NullLocator())
        axes.set_title(formula_of(report))
        if len(points.held_y):
            axes.plot([], [], "o", color="#37352f", markerfacecolor="none", label="held out")
        axes.legend(title="band: 95 % of runs")
        content = io.BytesIO()
        figure.savefig(content, dpi=150)
    return content.getvalue()


def _curve(axes: Axes, fit: Fit, points: Points, colour: str, label: str) -> None:
    """The points, all with the same x but for its last column, and the law through them."""
    everywhere = np.concatenate([points.x, points.held_x])
    last = np.geomspace(everywhere[:, -1].min(), everywhere[:, -1].max(), _PLACES)
    x = np.column_stack([np.tile(everywhere[0, :-1], (_PLACES, 1)), last])
    law = [interval(estimate) for estimate in fit.predict(x, noise=True)]
    axes.plot(last, [place["value"] for place in law], color=colour, label=label)
    low, high = ([place[side] for place in law] for side in ("low", "high"))
    axes.fill_between(last, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.plot(points.x[:, -1], points.y, "o", color=colour, markersize=4)
    axes.plot(points.held_x[:, -1], points.held_y, "o", color=colour, markerfacecolor="none")
