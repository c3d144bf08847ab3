"""What is told of a law: its numbers for JSON, and each warning where it is due and only there."""

import json

import numpy as np
import pytest

from supclap_jax.experiments.law_fit import fit
from supclap_jax.experiments.law_report import formula_of, headline, report, tables
from supclap_jax.experiments.points import Points, Row


def points_of(x, y, held_x=(), held_y=(), **columns):
    """Points with one column x, and rows with further columns."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    fields = {"x": [f"{one:g}" for one in x], "y": y.astype(str), **columns}
    rows = [
        Row(number, dict(zip(fields, values, strict=True)))
        for number, values in enumerate(zip(*fields.values(), strict=True), start=2)
    ]
    held_x = np.asarray(held_x, float)[:, None]
    return Points(("x",), "y", x[:, None], y, held_x, np.asarray(held_y, float), rows)


def told(points, law="power"):
    return report(law, fit(law, points.x, points.y, resamples=50, seed=0), points)


X = np.geomspace(1e3, 1e6, 8)
Y = 5 * X**-0.2 * np.exp(0.01 * np.random.default_rng(0).normal(size=8))


def test_a_report_is_json_with_all_its_numbers():
    found = told(points_of(X, Y, held_x=[1e7], held_y=[0.2]))
    assert json.loads(json.dumps(found)) == found
    assert (found["points"], found["runs"], found["warnings"]) == (8, 8, [])
    assert (found["law"], found["x"], found["y"]) == ("power", ["x"], "y")
    b = found["coefficients"]["b"]
    assert b["low"] < b["value"] < b["high"]
    (held,) = found["held_out"]
    assert (held["x"], held["measured"]) == (1e7, 0.2)
    assert held["low"] < held["predicted"] < held["high"]
    assert held["predicted"] == pytest.approx(
        found["coefficients"]["a"]["value"] * 1e7 ** -b["value"]
    )
    assert 0.004 < found["error"] < 0.02
    assert headline(found).startswith("y at 8 points: y = ")
    assert len(tables(found)) == 2


def test_the_two_columns_of_a_point_are_a_list():
    n, d = np.meshgrid([1.0, 3.0, 10.0], [2.0, 8.0, 32.0])
    x = np.stack([n.ravel(), d.ravel()], axis=-1)
    y = 1 + x[:, 0] ** -0.5 + x[:, 1] ** -0.3
    rows = [Row(k, {"n": str(one), "d": str(two)}) for k, (one, two) in enumerate(x, start=2)]
    points = Points(("n", "d"), "y", x, y, np.array([[30.0, 64.0]]), np.array([1.4]), rows)
    fitted = fit("chinchilla", x, y, resamples=3, seed=0)
    found = report("chinchilla", fitted, points, [1e3])
    assert json.loads(json.dumps(found)) == found
    assert found["held_out"][0]["x"] == [30.0, 64.0]
    (best,) = found["compute_optimal"]
    assert best["n"]["value"] * best["d"]["value"] == pytest.approx(best["budget"])
    assert len(tables(found)) == 3


def test_the_formula_shows_a_rise_without_two_signs():
    numbers = {"a": {"value": 2.0}, "b": {"value": -0.5}}
    assert formula_of({"formula": "y = a x^-b", "coefficients": numbers}) == "y = 2 x^0.5"


def test_few_points():
    assert told(points_of(X[:4], Y[:4]))["warnings"] == []
    (warning,) = told(points_of(X[:3], Y[:3]))["warnings"]
    assert warning.startswith("3 points for 2 coefficients: with fewer than 4")
    seeds = points_of(np.repeat(X[:3], 3), np.repeat(Y[:3], 3) * np.tile([1, 1.01, 1.02], 3))
    found = told(seeds)
    assert (found["points"], found["runs"]) == (3, 9)
    assert found["warnings"] == [warning]


def test_an_exponent_at_the_edge():
    rising = told(points_of(X, 1 + 0.01 * np.log(X)), "saturating")
    (warning,) = rising["warnings"]
    assert warning.startswith("b or its interval is at the edge of where it is sought, 0.01 to 3:")
    noise = told(points_of(X, Y / Y.mean() * X**0.2), "shifted")
    assert any("100000 times the smallest x" in warning for warning in noise["warnings"])


def test_held_out_points_inside_the_range():
    held = points_of(X, Y, held_x=[X[0], 2e4, 1e7], held_y=[1, 1, 1])
    (warning,) = told(held)["warnings"]
    assert warning.startswith("2 of 3 held-out points lie inside the fitted range")


def test_repeated_epochs():
    once = points_of(X, Y, epochs=["1", "0.5", "", *["1.0"] * 5])
    assert told(once)["warnings"] == []
    more = points_of(X, Y, epochs=["1", "0.5", "", *["1.0"] * 3, "2", "3.5"])
    (warning,) = told(more)["warnings"]
    assert warning.startswith("2 of 8 runs saw clips more than once, up to 3.5 epochs")


@pytest.mark.parametrize(
    ("losses", "warned"),
    [((3.0, 2.0, 2.5), False), ((3.0, 2.5, 2.0), True), ((2.0, 2.5, 3.0), True)],
)
def test_the_best_learning_rate_at_the_edge_of_its_sweep(losses, warned):
    rates = {"optimizer.learning_rate": ["1e-4", "3e-4", "1e-3", *["3e-4"] * 7]}
    points = points_of([1e3, 1e3, *X], [*losses, *Y[1:]], **rates)
    found = told(points)["warnings"]
    best = (1e-4, 3e-4, 1e-3)[losses.index(2.0)]
    expected = f"at x 1000 the best learning rate, {best:g}, is the edge of its sweep"
    assert [warning.startswith(expected) for warning in found] == [True] * warned


def test_runs_that_differ_in_more_than_the_rate_are_no_sweep():
    columns = {
        "optimizer.learning_rate": ["1e-4", "1e-3", *["3e-4"] * 7],
        "batch_size": ["32", "64", *["32"] * 7],
    }
    points = points_of([1e3, *X], [1.5, *Y], **columns)
    assert not any("learning rate" in warning for warning in told(points)["warnings"])


def test_two_columns_that_go_together_are_a_warning():
    n = np.geomspace(1, 1e3, 9)
    x = np.stack([n, 20 * n * np.resize([1.0, 1.1], 9)], axis=-1)
    y = 1 + x[:, 0] ** -0.5 + x[:, 1] ** -0.3
    rows = [Row(k, {"n": str(one), "d": str(two)}) for k, (one, two) in enumerate(x, start=2)]
    points = Points(("n", "d"), "y", x, y, np.zeros((0, 2)), np.zeros(0), rows)
    warnings = report("chinchilla", fit("chinchilla", x, y, resamples=3, seed=0), points)[
        "warnings"
    ]
    assert any("n and d go together, with a correlation of 1.000" in line for line in warnings)


def test_variants_are_no_sweep_of_the_learning_rate():
    """Runs that differ in words of another column are not compared in their rates."""
    rates = {"optimizer.learning_rate": np.resize(["1e-3", "1e-2"], 8)}
    twice = np.repeat(X[:4], 2), np.repeat(Y[:4], 2)
    alike = told(points_of(*twice, **rates))["warnings"]
    assert sum("is the edge of its sweep" in line for line in alike) == 4
    apart = told(points_of(*twice, **rates, variant=np.resize(["a", "b"], 8)))["warnings"]
    assert not any("is the edge of its sweep" in line for line in apart)
