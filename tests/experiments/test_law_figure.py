"""The figure: a PNG for one column and two, few values and many, wide ranges and narrow."""

import io

import numpy as np
import pytest
from matplotlib.image import imread

from supclap_jax.experiments.law_figure import law_figure
from supclap_jax.experiments.law_fit import fit
from supclap_jax.experiments.law_report import report
from supclap_jax.experiments.points import Points, Row


def shown(law, columns, x, y, held):
    """The figure `[height, width, 4]` with the last `held` points held out."""
    rows = [Row(n, dict(zip(columns, map(str, one), strict=True))) for n, one in enumerate(x, 2)]
    points = Points(columns, "loss", x[:-held], y[:-held], x[-held:], y[-held:], rows[:-held])
    fitted = fit(law, points.x, points.y, resamples=5, seed=0)
    return imread(io.BytesIO(law_figure(report(law, fitted, points), fitted, points)))


@pytest.mark.parametrize("power", [0.1, 1.5])  # of ten, y spans less than one and more
def test_one_column(power):
    x = np.geomspace(1e3, 1e6, 9)[:, None]
    noise = np.exp(0.1 * np.random.default_rng(0).normal(size=9))
    assert shown("power", ("flops",), x, x[:, 0] ** -power * noise, 2).shape == (690, 1080, 4)


def test_two_columns_of_more_sizes_than_colours():
    n, d = np.meshgrid(np.geomspace(1e3, 1e6, 11), np.geomspace(1e2, 1e3, 2))
    x = np.stack([n.ravel(), d.ravel()], axis=-1)
    y = 1 + x[:, 0] ** -0.5 + x[:, 1] ** -0.3
    image = shown("chinchilla", ("parameters", "clips"), x, y, 1)
    colours = {tuple(colour) for colour in (255 * image[..., :3]).astype(np.uint8).reshape(-1, 3)}
    assert {(0x0B, 0x6E, 0x99), (0x78, 0x77, 0x74)} <= colours  # the first and the last
