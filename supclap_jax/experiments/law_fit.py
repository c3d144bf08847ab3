"""A law fitted to points, with intervals.

The fit is the global minimum of the Huber loss of log y: parameters in which the law is not simple
are held on a grid while the others are fitted (variable projection), and the best cells are then
refined with all of them free, whatever the points, so no start decides.

Intervals are percentiles over resamples, 95 %. A ladder is a design of few points, and without its
ends it says little; so x stays, and noise is drawn anew: residuals of log y, put on the fitted law
at random and with either sign. A fit of p coefficients makes p residuals next to nothing, whatever
the noise; they are left out. How strong the noise is, n points say only roughly: each resample
draws its strength, `sqrt((n - p) / chi2(n - p))` times the measured one, which turns normal
intervals into Student's.
"""

from typing import NamedTuple

import numpy as np

from supclap_jax.evaluate.bootstrap import Estimate
from supclap_jax.experiments.huber import DELTA, EXACTLY, ROUGHLY, minimise
from supclap_jax.experiments.laws import LAWS, Law

_CELLS = 8  # of the grid, refined
_AT_ONCE = 3200  # searches, so that their arrays stay in the cache


class Fit(NamedTuple):
    """A law and how sure it is.

    Attributes:
      law: of `LAWS`.
      unit_x, unit_y: `[columns]` and a number, in which the law sees the points.
      parameters: `[1 + resamples, p]`: of the points as they are, then of each resample.
      noise: `[resamples]`, of log y: one draw of what a single run adds to the law.
      error: standard deviation of log y about the law, `sqrt(sum r^2 / (n - p))`.
    """

    law: Law
    unit_x: np.ndarray
    unit_y: float
    parameters: np.ndarray
    noise: np.ndarray
    error: float

    @property
    def coefficients(self) -> dict[str, Estimate]:
        """The coefficients of the formula by name."""
        found = self.law.coefficients_of(self.parameters, self.unit_x, self.unit_y)
        return {name: Estimate(values[0], values[1:]) for name, values in found.items()}

    def predict(self, x: np.ndarray, *, noise: bool) -> list[Estimate]:
        """y at each of `x [points, columns]`: of the law, or with `noise` of one more run there."""
        log_y, _ = self.law.curve(self.parameters, np.log(x / self.unit_x))
        if noise:
            log_y[1:] += self.noise[:, None]
        return [Estimate(y[0], y[1:]) for y in self.unit_y * np.exp(log_y.T)]


def fit(
    law: str, x: np.ndarray, y: np.ndarray, *, resamples: int, seed: int, delta: float = DELTA
) -> Fit:
    """Fits a law.

    Args:
      law: name, of `LAWS`.
      x: `[points]` or `[points, columns]`, above 0; seeds may repeat an x.
      y: `[points]`, above 0.
      resamples: for the intervals.
      seed: of their draws.
      delta: of the Huber loss of log y.

    Raises:
      ValueError: the shapes differ, or there are not more points than coefficients.
    """
    form = LAWS[law]
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    x = x.reshape(len(x), -1)
    count, freedom = len(y), len(y) - len(form.names)
    if x.shape != (count, form.columns) or freedom < 1:
        raise ValueError(
            f"x has shape {list(x.shape)} and y {list(y.shape)}; expected [points, {form.columns}] "
            f"and [points], with at least {len(form.names) + 1} points."
        )
    order = np.lexsort((y, *x.T))
    x, y = x[order], y[order]
    unit_x, unit_y = x.min(axis=0), np.exp(np.log(y).mean())
    log_x, log_y = np.log(x / unit_x), np.log(y / unit_y)

    best = _search(form, log_x, log_y[None], delta)
    fitted = form.curve(best, log_x)[0][0]
    residuals = log_y - fitted
    kept = residuals[np.argsort(np.abs(residuals))[len(form.names) :]]
    rng = np.random.default_rng(seed)
    strength = np.sqrt(freedom / rng.chisquare(freedom, (resamples, 1)))
    drawn = strength * rng.choice([*kept, *-kept], (resamples, 1 + count))
    parameters = np.concatenate([best, _search(form, log_x, fitted + drawn[:, 1:], delta)])
    error = float(np.sqrt(np.sum(residuals**2) / freedom))
    return Fit(form, unit_x, float(unit_y), parameters, drawn[:, 0], error)


def compute_optimal(fit: Fit, budgets: np.ndarray) -> list[dict[str, Estimate]]:
    """Of the law with two columns: where y is lowest for each budget `n d`.

    `n = (alpha a / (beta b))^(1 / (alpha + beta)) budget^(beta / (alpha + beta))`, `d = budget / n`
    (Hoffmann et al., arXiv 2203.15556, equation 4).

    Returns:
      `{"n": ..., "d": ..., "y": ...}` for each budget; y without the noise of a run.
    """
    coefficients = fit.law.coefficients_of(fit.parameters, fit.unit_x, fit.unit_y)
    e, a, b, alpha, beta = (coefficients[name] for name in fit.law.names)
    found = []
    for budget in budgets:
        log_n = (np.log(alpha * a / (beta * b)) + beta * np.log(budget)) / (alpha + beta)
        n, d = np.exp(log_n), np.exp(np.log(budget) - log_n)
        y = e + a * n**-alpha + b * d**-beta
        parts = {"n": n, "d": d, "y": y}
        found.append({name: Estimate(values[0], values[1:]) for name, values in parts.items()})
    return found


def _search(law: Law, log_x: np.ndarray, log_y: np.ndarray, delta: float) -> np.ndarray:
    """The global minima `[n, p]` for the points `log_y [n, points]`."""
    cells = len(law.grid)
    rows = max(1, _AT_ONCE // cells)
    found = [
        _best_of_grid(law, log_x, log_y[start : start + rows], delta)
        for start in range(0, len(log_y), rows)
    ]
    return np.concatenate(found)


def _best_of_grid(law: Law, log_x: np.ndarray, log_y: np.ndarray, delta: float) -> np.ndarray:
    sets, cells = len(log_y), len(law.grid)
    starts = np.tile(law.grid, (sets, 1))
    low, high = (np.where(law.held, starts, bound) for bound in (law.low, law.high))
    repeated = np.repeat(log_y, cells, axis=0)
    inner, loss = minimise(law.curve, starts, log_x, repeated, low, high, ROUGHLY, delta)
    kept = min(_CELLS, cells)
    best = np.argsort(loss.reshape(sets, cells), axis=1)[:, :kept]
    starts = np.take_along_axis(inner.reshape(sets, cells, -1), best[:, :, None], axis=1)
    refined, loss = minimise(
        law.curve,
        starts.reshape(sets * kept, -1),
        log_x,
        np.repeat(log_y, kept, axis=0),
        law.low,
        law.high,
        EXACTLY,
        delta,
    )
    winner = loss.reshape(sets, kept).argmin(axis=1)
    return refined.reshape(sets, kept, -1)[np.arange(sets), winner]
