"""The curves of the laws: their formulas, and derivatives against differences."""

import numpy as np
import pytest

from supclap_jax.experiments.laws import LAWS

# law -> parameters, and the formula in numpy with unit_x 10 (and 100), unit_y 2
CASES = {
    "power": ([0.3, 0.4], lambda c, x: c["a"] * x[:, 0] ** -c["b"]),
    "shifted": ([0.3, 0.4, 2.0], lambda c, x: c["a"] * (x[:, 0] + c["c"]) ** -c["b"]),
    "saturating": ([0.5, 0.3, 0.4], lambda c, x: c["e"] + c["a"] * x[:, 0] ** -c["b"]),
    "chinchilla": (
        [0.5, 0.3, -0.2, 0.4, 0.6],
        lambda c, x: c["e"] + c["a"] * x[:, 0] ** -c["alpha"] + c["b"] * x[:, 1] ** -c["beta"],
    ),
}


def points_of(law):
    rng = np.random.default_rng(0)
    unit = np.array([10.0, 100.0])[: LAWS[law].columns]
    return unit, unit * np.exp(rng.uniform(0, 5, (7, len(unit))))


@pytest.mark.parametrize("law", LAWS)
def test_the_curve_is_the_formula(law):
    parameters, formula = CASES[law]
    unit, x = points_of(law)
    log_y, _ = LAWS[law].curve(np.array(parameters), np.log(x / unit))
    coefficients = LAWS[law].coefficients_of(np.array(parameters), unit, 2.0)
    assert list(coefficients) == list(LAWS[law].names)
    np.testing.assert_allclose(2 * np.exp(log_y), formula(coefficients, x), rtol=1e-12)


@pytest.mark.parametrize("law", LAWS)
def test_derivatives_are_those_of_the_curve(law):
    curve = LAWS[law].curve
    parameters = np.array([CASES[law][0], CASES[law][0]])
    unit, x = points_of(law)
    log_x, step = np.log(x / unit), 1e-6
    _, derivatives = curve(parameters, log_x)
    assert derivatives.shape == (2, len(x), parameters.shape[1])
    for place, move in enumerate(step * np.eye(parameters.shape[1])):
        difference = (curve(parameters + move, log_x)[0] - curve(parameters - move, log_x)[0]) / 2
        np.testing.assert_allclose(derivatives[..., place], difference / step, atol=1e-8)


@pytest.mark.parametrize("law", LAWS)
def test_the_grid_lies_within_the_bounds(law):
    form = LAWS[law]
    assert form.grid.shape[1] == len(form.names) == len(form.low) == len(form.high)
    assert np.all((form.low <= form.grid) & (form.grid <= form.high))
