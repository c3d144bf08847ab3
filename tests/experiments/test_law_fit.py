"""Fits against the truth that points were made from, least squares, and Student's t."""

import numpy as np
import pytest

from supclap_jax.evaluate.bootstrap import interval
from supclap_jax.experiments.huber import DELTA, LEAST_SQUARES
from supclap_jax.experiments.law_fit import compute_optimal, fit
from supclap_jax.experiments.laws import LAWS

SIZES, CLIPS = np.meshgrid(np.geomspace(1e5, 5e6, 5), np.geomspace(1e4, 3e5, 4))
GRID = np.stack([SIZES.ravel(), CLIPS.ravel()], axis=-1)
COMPUTE = np.geomspace(1e9, 1e12, 16)
# law -> x, coefficients, formula
TRUTHS = {
    "power": (COMPUTE, {"a": 7.0, "b": 0.11}, lambda x, a, b: a * x**-b),
    "shifted": (
        COMPUTE,
        {"a": 7.0, "b": 0.2, "c": 4e9},
        lambda x, a, b, c: a * (x + c) ** -b,
    ),
    "saturating": (
        COMPUTE,
        {"e": 0.4, "a": 3e3, "b": 0.35},
        lambda x, e, a, b: e + a * x**-b,
    ),
    "chinchilla": (
        GRID,
        {"e": 0.5, "a": 40.0, "b": 60.0, "alpha": 0.35, "beta": 0.45},
        lambda x, e, a, b, alpha, beta: e + a * x[:, 0] ** -alpha + b * x[:, 1] ** -beta,
    ),
}


def points_of(law, noise=0.0, seed=0):
    x, truth, formula = TRUTHS[law]
    rng = np.random.default_rng(seed)
    return x, formula(x, **truth) * np.exp(noise * rng.normal(size=len(x))), truth


def values(found):
    return {name: estimate.value for name, estimate in found.coefficients.items()}


def loss_of(law, coefficients, x, y):
    residuals = np.abs(np.log(TRUTHS[law][2](x, **coefficients)) - np.log(y))
    return np.where(residuals < DELTA, residuals**2 / 2, DELTA * residuals - DELTA**2 / 2).sum()


@pytest.mark.parametrize("law", LAWS)
def test_points_without_noise_give_the_law_back(law):
    x, y, truth = points_of(law)
    found = values(fit(law, x, y, resamples=1, seed=0))
    assert found == pytest.approx(truth, rel=1e-6)


@pytest.mark.parametrize("law", LAWS)
def test_no_other_coefficients_are_better(law):
    """Not near the fit, and not anywhere."""
    x, y, truth = points_of(law, noise=0.02)
    found = values(fit(law, x, y, resamples=1, seed=0))
    lowest = loss_of(law, found, x, y)
    rng = np.random.default_rng(1)
    for spread in (1e-6, 1e-4, 1e-2, 0.3):
        for centre in (found, truth):
            for _ in range(200):
                other = {
                    name: value * np.exp(spread * rng.normal()) for name, value in centre.items()
                }
                assert loss_of(law, other, x, y) >= lowest * (1 - 1e-9)


@pytest.mark.parametrize("law", LAWS)
def test_the_order_of_points_changes_nothing(law):
    x, y, _ = points_of(law, noise=0.02)
    mixed = np.random.default_rng(3).permutation(len(y))
    one = fit(law, x, y, resamples=5, seed=0)
    other = fit(law, x[mixed], y[mixed], resamples=5, seed=0)
    np.testing.assert_array_equal(one.parameters, other.parameters)


@pytest.mark.parametrize("law", LAWS)
def test_units_change_no_exponent(law):
    x, y, _ = points_of(law, noise=0.02)
    scale_x, scale_y = 1024.0, 0.25
    one = values(fit(law, x, y, resamples=1, seed=0))
    other = values(fit(law, scale_x * x, scale_y * y, resamples=1, seed=0))
    powers = {"a": one.get("alpha", one["b"])} | ({"b": one["beta"]} if "beta" in one else {})
    expected = {
        name: value * scale_y * scale_x ** powers[name] if name in powers else value
        for name, value in one.items()
    }
    expected |= {"e": one["e"] * scale_y} if "e" in one else {}
    expected |= {"c": one["c"] * scale_x} if "c" in one else {}
    assert other == pytest.approx(expected, rel=1e-7)


def test_one_bad_run_moves_little():
    x, y, truth = points_of("power", noise=0.005)
    y[-1] *= 2
    found = values(fit("power", x, y, resamples=1, seed=0))
    squares = values(fit("power", x, y, resamples=1, seed=0, delta=LEAST_SQUARES))
    assert found["b"] == pytest.approx(truth["b"], abs=0.004)
    assert squares["b"] == pytest.approx(-np.polyfit(np.log(x), np.log(y), 1)[0], rel=1e-9)
    assert abs(squares["b"] - truth["b"]) > 0.01


def test_intervals_of_least_squares_are_students():
    """12 points, 10 degrees of freedom: 2.228 standard errors to each side, of a run too."""
    x, quantile = np.geomspace(1e3, 1e6, 12), 2.228
    log_x = np.log(x) - np.log(x).mean()
    beyond = np.log(1e8) - np.log(x).mean()
    rng = np.random.default_rng(0)
    ratios = []
    for _ in range(40):
        y = np.exp(1 - 0.2 * log_x + 0.02 * rng.normal(size=12))
        slope, level = np.polyfit(log_x, np.log(y), 1)
        variance = np.sum((np.log(y) - slope * log_x - level) ** 2) / 10
        by_slope = 2 * quantile * np.sqrt(variance / np.sum(log_x**2))
        farther = 1 + 1 / 12 + beyond**2 / np.sum(log_x**2)
        of_run = 2 * quantile * np.sqrt(variance * farther)
        found = fit("power", x, y, resamples=400, seed=0, delta=LEAST_SQUARES)
        assert found.error == pytest.approx(np.sqrt(variance), rel=1e-6)
        b = interval(found.coefficients["b"])
        (run,) = map(interval, found.predict(np.array([[1e8]]), noise=True))
        ratios.append(
            [(b["high"] - b["low"]) / by_slope, np.log(run["high"] / run["low"]) / of_run]
        )
    np.testing.assert_allclose(np.mean(ratios, axis=0), 1, atol=0.06)


def test_intervals_hold_what_they_promise():
    """Of 100 at 95 %, fewer than 88 hold once in 700 times; `benchmarks/laws.py` has more."""
    held = 0
    for seed in range(100):
        x, y, truth = points_of("power", noise=0.02, seed=seed)
        b = interval(fit("power", x, y, resamples=100, seed=seed).coefficients["b"])
        held += b["low"] <= truth["b"] <= b["high"]
    assert held >= 88


def test_three_points_say_little():
    """They leave one residual, and Student's t with one degree of freedom reaches far."""
    x, truth = np.geomspace(1, 1000, 3), 0.3
    held = 0
    for seed in range(20):
        noise = 0.02 * np.random.default_rng(seed).normal(size=3)
        found = fit("power", x, x**-truth * np.exp(noise), resamples=100, seed=0)
        b = interval(found.coefficients["b"])
        assert b["low"] < b["value"] < b["high"]
        held += b["low"] <= truth <= b["high"]
    assert held >= 16


def test_seeds_that_repeat_are_runs_of_their_own():
    x, y, truth = points_of("power")
    rng = np.random.default_rng(0)
    three = np.repeat(x, 3), np.repeat(y, 3) * np.exp(0.02 * rng.normal(size=3 * len(x)))
    many = interval(fit("power", *three, resamples=200, seed=0).coefficients["b"])
    few = interval(fit("power", x, three[1][::3], resamples=200, seed=0).coefficients["b"])
    assert many["low"] <= truth["b"] <= many["high"]
    assert many["high"] - many["low"] < 0.8 * (few["high"] - few["low"])


def test_the_law_is_known_better_than_a_run():
    x, y, _ = points_of("saturating", noise=0.02)
    found = fit("saturating", x, y, resamples=200, seed=0)
    place = np.array([[3e11]])
    (law,), (run,) = (map(interval, found.predict(place, noise=noise)) for noise in (False, True))
    assert law["value"] == run["value"]
    assert run["high"] - run["low"] > 1.5 * (law["high"] - law["low"])


def test_the_best_split_of_a_budget_is_the_lowest():
    x, y, truth = points_of("chinchilla")
    found = fit("chinchilla", x, y, resamples=3, seed=0)
    for budget, best in zip((1e11, 1e13), compute_optimal(found, [1e11, 1e13]), strict=True):
        n = np.geomspace(budget / 1e8, budget / 1e3, 200_001)
        everywhere = TRUTHS["chinchilla"][2](np.stack([n, budget / n], axis=-1), **truth)
        assert best["n"].value == pytest.approx(n[everywhere.argmin()], rel=1e-3)
        assert best["n"].value * best["d"].value == pytest.approx(budget)
        assert best["y"].value == pytest.approx(everywhere.min(), rel=1e-6)


@pytest.mark.parametrize(("x", "y"), [(np.ones(3), np.ones(4)), (np.ones(2), np.ones(2))])
def test_wrong_shapes_are_refused(x, y):
    with pytest.raises(ValueError, match=r"expected \[points, 1\]"):
        fit("power", x, y, resamples=1, seed=0)
