"""Robust fits of curves, thousands of them at once.

The Huber loss of residuals r is `r^2 / 2` up to DELTA and linear beyond, so that a run that went
wrong pulls no more than any other (Hoffmann et al., arXiv 2203.15556).
"""

from collections.abc import Callable, Sequence

import numpy as np

DELTA = 1e-3
LEAST_SQUARES = 1e3  # a delta beyond every residual
# Deltas, no smaller than the one that is meant, with the most steps of each. The loss has few
# quadratic directions far from its minimum and many near it, so a search comes down from least
# squares.
ROUGHLY = ((1.0, 15), (0.03, 6), (0.01, 6))
EXACTLY = ((0.003, 10), (0.0, 100))
_STILL = 1e-13  # of the loss: a step that gains less gains nothing
_RESTED = 3  # steps in a row that gain nothing end a search

Curve = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def huber(residuals: np.ndarray, delta: float = DELTA) -> np.ndarray:
    """Sum over the last axis of `r^2 / 2` where |r| <= delta and `delta (|r| - delta / 2)` beyond.

    >>> huber(np.array([0.0, 1.0, -3.0]), delta=2.0)
    np.float64(4.5)
    """
    size = np.abs(residuals)
    return np.where(size <= delta, size**2 / 2, delta * (size - delta / 2)).sum(axis=-1)


def minimise(
    curve: Curve,
    starts: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    stages: Sequence[tuple[float, int]],
    delta: float = DELTA,
) -> tuple[np.ndarray, np.ndarray]:
    """Fits a curve from each start to its own points, within bounds.

    Args:
      curve: (parameters `[n, p]`, x `[points, ...]`) -> values `[n, points]` and their derivatives
        `[n, points, p]`.
      starts: `[n, p]`.
      x: `[points, ...]`, the same for all.
      y: `[n, points]`.
      low, high: of the parameters, to broadcast to `[n, p]`; equal ones hold a parameter.
      stages: `ROUGHLY`, from anywhere, or `EXACTLY`, from there.
      delta: of the loss.

    Returns:
      The parameters `[n, p]` and the Huber loss of each, `[n]`.
    """
    low, high = (np.broadcast_to(bound, starts.shape) for bound in (low, high))
    parameters = np.clip(starts, low, high)
    with np.errstate(all="ignore"):  # a step too far is not taken
        for widest, steps in stages:
            stage = max(delta, widest)
            parameters = _descend(curve, parameters, x, y, low, high, stage, steps)
    return parameters, huber(curve(parameters, x)[0] - y, delta)


def _descend(
    curve: Curve,
    parameters: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    delta: float,
    steps: int,
) -> np.ndarray:
    """Levenberg-Marquardt: Newton's step, damped in the metric of reweighted least squares."""
    found = parameters.copy()
    going = np.arange(len(parameters))
    values, slopes = curve(parameters, x)
    residuals = values - y
    loss = huber(residuals, delta)
    damping, rested = np.ones(len(going)), np.zeros(len(going), int)
    for _ in range(steps):
        proposed = np.clip(
            parameters + _step(parameters, residuals, slopes, low, high, damping, delta), low, high
        )
        values, new_slopes = curve(proposed, x)
        new_residuals = values - y
        new_loss = huber(new_residuals, delta)
        better = new_loss <= loss
        rested = np.where(np.abs(loss - new_loss) <= _STILL * loss, rested + 1, 0)
        parameters = np.where(better[:, None], proposed, parameters)
        residuals = np.where(better[:, None], new_residuals, residuals)
        slopes = np.where(better[:, None, None], new_slopes, slopes)
        loss = np.where(better, new_loss, loss)
        damping = np.maximum(damping * np.where(better, 0.2, 5.0), 1e-9)
        found[going] = parameters
        moving = (rested < _RESTED) & (loss > 0) & (damping < 1e10)
        if not moving.any():
            break
        going, parameters, residuals, slopes, loss, damping, rested, y, low, high = (
            array[moving]
            for array in (
                going, parameters, residuals, slopes, loss, damping, rested, y, low, high
            )
        )  # fmt: skip
    return found


def _step(
    parameters: np.ndarray,
    residuals: np.ndarray,
    slopes: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    damping: np.ndarray,
    delta: float,
) -> np.ndarray:
    """The step `[n, p]`; a parameter at a bound that pushes against it stays there."""
    size = np.abs(residuals)
    weights = damping[:, None] * np.minimum(1, delta / np.maximum(size, delta)) + (size <= delta)
    transposed = slopes.swapaxes(-1, -2)
    gradient = (transposed @ np.clip(residuals, -delta, delta)[..., None])[..., 0]
    free = ~((parameters <= low) & (gradient > 0) | (parameters >= high) & (gradient < 0))
    hessian = (transposed * weights[:, None, :]) @ slopes
    hessian = np.where(free[:, :, None] & free[:, None, :], hessian, 0.0)
    diagonal = np.einsum("nii->ni", hessian)
    diagonal += np.where(free, 1e-12 * diagonal + 1e-300, 1.0)
    return np.linalg.solve(hessian, -np.where(free, gradient, 0.0)[..., None])[..., 0]
