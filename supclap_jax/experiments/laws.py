"""Scaling laws: how an error falls with size, data or compute.

A law is a curve of log y with few parameters. Inside, x is in units of its smallest value and y in
units of its geometric mean, so neither the units of the points nor their order change a fit. The
parameters are those in which the curve is well behaved: a factor by its logarithm, an offset as it
is. `Law.coefficients_of` gives the numbers that the formula has in the units of the points.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

STEEPEST = 3.0  # exponents are sought up to here
FLATTEST = 0.01  # and from here where an offset stands beside the power, which takes its place
_FARTHEST = 1e5  # c of the shifted law, in units of the smallest x
_LARGEST = 30.0  # logarithm of a factor


@dataclass(frozen=True)
class Law:
    """A family of curves y(x).

    Attributes:
      formula: in the names of the coefficients.
      names: of the coefficients `[p]`, in the order of the parameters.
      exponents: those of them that are exponents.
      columns: numbers that x has, 1 or 2.
      curve: (parameters `[..., p]`, log x `[..., points, columns]`) -> log y `[..., points]` and
        its derivatives `[..., points, p]`.
      low, high: bounds of the parameters, `[p]`.
      grid: `[cells, p]`, where a search begins: the parameters that stand in `held` on a grid, and
        a guess of the others.
      held: of each parameter whether it stays on the grid while the others are fitted.
    """

    formula: str
    names: tuple[str, ...]
    exponents: tuple[str, ...]
    columns: int
    curve: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
    low: np.ndarray
    high: np.ndarray
    grid: np.ndarray
    held: np.ndarray

    def coefficients_of(
        self, parameters: np.ndarray, unit_x: np.ndarray, unit_y: float
    ) -> dict[str, np.ndarray]:
        """The coefficients of the formula, by name.

        Args:
          parameters: `[..., p]`.
          unit_x: `[columns]`, in which x was measured.
          unit_y: in which y was.
        """
        found = {name: parameters[..., place] for place, name in enumerate(self.names)}
        shift = found.get("c", np.zeros(()))
        factors = [name for name in ("a", "b") if name in {*self.names} - {*self.exponents}]
        for factor, power, unit in zip(factors, self.exponents, unit_x, strict=True):
            found[factor] = unit_y * np.exp(found[factor]) * (unit * (1 + shift)) ** found[power]
        if "e" in found:
            found["e"] = unit_y * found["e"]
        if "c" in found:
            found["c"] = unit_x[0] * shift
        return found


def _shifted(parameters: np.ndarray, log_x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """log y = log a - b log((x + c) / (1 + c)), with parameters log a, b and c."""
    log_a, b, c = np.moveaxis(parameters[..., None], -2, 0)
    x = np.exp(log_x[..., 0])
    distance = np.log((x + c) / (1 + c))
    by_c = -b * (1 / (x + c) - 1 / (1 + c))
    return log_a - b * distance, np.stack([np.ones_like(distance + c), -distance, by_c], axis=-1)


def _power(parameters: np.ndarray, log_x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """log y = log a - b log x, with parameters log a and b."""
    unshifted = np.concatenate([parameters, np.zeros_like(parameters[..., :1])], axis=-1)
    log_y, derivatives = _shifted(unshifted, log_x)
    return log_y, derivatives[..., :2]


def _offset(parameters: np.ndarray, log_x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """log y = log(e + sum_k a_k x_k^-b_k), with parameters e, then all log a_k, then all b_k."""
    columns = log_x.shape[-1]
    offset, log_factors, powers = np.split(parameters[..., None, :], [1, 1 + columns], axis=-1)
    terms = np.exp(log_factors - powers * log_x)
    y = offset + terms.sum(axis=-1, keepdims=True)
    shares = terms / y
    return np.log(y[..., 0]), np.concatenate([1 / y, shares, -shares * log_x], axis=-1)


def _grid(*values: float | np.ndarray) -> np.ndarray:
    """All combinations `[cells, p]` of the values of each parameter."""
    return np.stack([axis.ravel() for axis in np.meshgrid(*values, indexing="ij")], axis=-1)


_COARSE, _FINE = (np.geomspace(FLATTEST, STEEPEST, cells) for cells in (8, 24))
_SHIFTS = np.concatenate([[0.0], np.geomspace(0.01, 0.1 * _FARTHEST, 22)])

LAWS = {
    "power": Law(
        formula="y = a x^-b",
        names=("a", "b"),
        exponents=("b",),
        columns=1,
        curve=_power,
        low=np.array([-_LARGEST, -STEEPEST]),
        high=np.array([_LARGEST, STEEPEST]),
        grid=_grid(0.0, 0.0),  # convex: any start will do
        held=np.array([False, False]),
    ),
    "shifted": Law(
        formula="y = a (x + c)^-b",
        names=("a", "b", "c"),
        exponents=("b",),
        columns=1,
        curve=_shifted,
        low=np.array([-_LARGEST, -STEEPEST, 0.0]),
        high=np.array([_LARGEST, STEEPEST, _FARTHEST]),
        grid=_grid(0.0, 0.0, _SHIFTS),  # convex in the others
        held=np.array([False, False, True]),
    ),
    "saturating": Law(
        formula="y = e + a x^-b",
        names=("e", "a", "b"),
        exponents=("b",),
        columns=1,
        curve=_offset,
        low=np.array([0.0, -_LARGEST, FLATTEST]),
        high=np.array([np.inf, _LARGEST, STEEPEST]),
        grid=_grid(0.5, 0.0, _FINE),
        held=np.array([False, False, True]),
    ),
    "chinchilla": Law(
        formula="y = e + a n^-alpha + b d^-beta",
        names=("e", "a", "b", "alpha", "beta"),
        exponents=("alpha", "beta"),
        columns=2,
        curve=_offset,
        low=np.array([0.0, -_LARGEST, -_LARGEST, FLATTEST, FLATTEST]),
        high=np.array([np.inf, _LARGEST, _LARGEST, STEEPEST, STEEPEST]),
        grid=_grid(0.3, -0.5, -0.5, _COARSE, _COARSE),
        held=np.array([False, False, False, True, True]),
    ),
}
