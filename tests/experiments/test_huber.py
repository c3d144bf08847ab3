"""Robust fits against the best line through two points, least squares, and bounds."""

import itertools

import numpy as np
import pytest

from supclap_jax.experiments.huber import EXACTLY, LEAST_SQUARES, ROUGHLY, huber, minimise


def line(parameters, x):
    values = parameters[:, :1] + parameters[:, 1:] * x
    return values, np.broadcast_to(np.stack([np.ones_like(x), x], axis=-1), (*values.shape, 2))


def fit_line(x, y, low=-100.0, high=100.0, **options):
    starts = np.zeros((len(y), 2))
    bounds = np.full(2, low), np.full(2, high)
    return minimise(line, starts, x, y, *bounds, ROUGHLY + EXACTLY, **options)


@pytest.fixture
def lines():
    """20 noisy lines through 9 points each."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, 9)
    return x, 0.7 - 0.3 * x + 0.1 * rng.normal(size=(20, 9))


def test_a_small_delta_is_the_least_absolute_deviation(lines):
    """Whose best line goes through two of the points: all pairs are tried."""
    x, y = lines
    found, _ = fit_line(x, y, delta=1e-7)
    for (intercept, slope), points in zip(found, y, strict=True):
        through = [
            np.polyfit(x[list(pair)], points[list(pair)], 1)
            for pair in itertools.combinations(range(len(x)), 2)
        ]
        best = min(through, key=lambda one: np.abs(np.polyval(one, x) - points).sum())
        np.testing.assert_allclose([slope, intercept], best, atol=1e-6)


def test_a_large_delta_is_least_squares(lines):
    x, y = lines
    found, loss = fit_line(x, y, delta=LEAST_SQUARES)
    expected = np.polyfit(x, y.T, 1)
    np.testing.assert_allclose(found[:, ::-1], expected.T, atol=1e-10)
    residuals = np.outer(expected[0], x) + expected[1][:, None] - y
    np.testing.assert_allclose(loss, np.sum(residuals**2, axis=1) / 2, rtol=1e-10)


def test_bounds_hold_and_the_rest_is_fitted(lines):
    x, y = lines
    found, _ = fit_line(x, y, low=0.0, delta=LEAST_SQUARES)
    assert np.all(found[:, 1] == 0)  # the slope is negative
    np.testing.assert_allclose(found[:, 0], y.mean(axis=1), atol=1e-10)


def test_each_search_is_alone(lines):
    x, y = lines
    together, _ = fit_line(x, y)
    alone = np.concatenate([fit_line(x, points[None])[0] for points in y])
    np.testing.assert_allclose(together, alone, rtol=1e-9)


def test_the_loss_is_quadratic_then_linear():
    residuals = np.array([[0.5, -0.5], [2.0, -3.0]])
    np.testing.assert_allclose(huber(residuals, 1.0), [0.25, 1.5 + 2.5])
