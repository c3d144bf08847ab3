"""`supclap fit`: its files, the published exponents, and one line for whatever it cannot use."""

import json
from pathlib import Path

import numpy as np
import pytest

from supclap_jax.cli.main import main

PUBLISHED = Path(__file__).parents[1] / "golden" / "openclip_runs.csv"


@pytest.fixture
def ladder(tmp_path):
    """A sweep's folder: 5 sizes by 4 budgets, 1 % noise, and a run that failed."""
    rng = np.random.default_rng(0)
    lines = ["name,parameters,clips,entropy,exit"]
    for n in np.geomspace(1e5, 5e6, 5):
        for d in np.geomspace(1e4, 8e4, 4):
            y = (0.5 + 30 * n**-0.35 + 60 * d**-0.45) * np.exp(0.01 * rng.normal())
            lines.append(f"{n:.0f}-{d:.0f},{n:.0f},{d:.0f},{y:.6f},0")
    lines.append("failed,5000000,160000,,4")
    (tmp_path / "results.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def fit(points, *options, x="clips", y="entropy", law="power"):
    words = [f"--points={points}", f"--x={x}", f"--y={y}", f"--law={law}", "--resamples=60"]
    return main(["fit", *words, *options])


def test_a_law_of_two_columns(ladder, capsys):
    told, figure = ladder / "law.json", ladder / "law.png"
    options = ["--where=exit == 0", "--hold-out=parameters > 4e6", "--hold-out=clips > 7e4"]
    files = [f"--json={told}", f"--figure={figure}", "--budgets=1e10,1e12"]
    assert fit(ladder, *options, *files, x="parameters,clips", law="chinchilla") == 0
    found = json.loads(told.read_text())
    assert found["law"] == "chinchilla"
    assert found["points"] == 12
    assert list(found["coefficients"]) == ["e", "a", "b", "alpha", "beta"]
    for name, truth in {"alpha": 0.35, "beta": 0.45}.items():
        assert found["coefficients"][name]["low"] < truth < found["coefficients"][name]["high"]
    assert len(found["held_out"]) == 8
    assert all(held["low"] < held["measured"] < held["high"] for held in found["held_out"])
    assert [best["budget"] for best in found["compute_optimal"]] == [1e10, 1e12]
    assert figure.read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "entropy at 12 points: y = " in printed
    assert all(name in printed for name in ("alpha", "Held out", "Compute-optimal"))


def test_a_law_of_one_column_with_its_warnings(ladder, capsys):
    told, figure = ladder / "law.json", ladder / "law.png"
    options = ["--where=exit = 0", "--where=parameters = 1e5", "--hold-out=clips = 20000"]
    assert fit(ladder, *options, f"--json={told}", f"--figure={figure}") == 0
    found = json.loads(told.read_text())
    assert len(found["warnings"]) == 2  # few points, held out inside
    printed = capsys.readouterr().out
    assert all(f"Warning: {warning}." in printed for warning in found["warnings"])
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_seeds_decide_the_intervals_alone(ladder):
    found = []
    for number, seed in enumerate((0, 0, 1)):
        told = ladder / f"{number}.json"
        assert fit(ladder, "--where=exit = 0", f"--seed={seed}", f"--json={told}") == 0
        found.append(json.loads(told.read_text()))
    assert found[0] == found[1] != found[2]
    values = [{k: v["value"] for k, v in one["coefficients"].items()} for one in found]
    assert values[0] == values[2]


@pytest.mark.parametrize(
    ("column", "published"), [("imagenet_error", 0.11), ("coco_image_retrieval_error_at_5", 0.08)]
)
def test_published_exponents(column, published, tmp_path):
    """Cherti et al., arXiv 2212.07143, figure 1."""
    told = tmp_path / "law.json"
    options = ["--frontier=5", f"--json={told}"]
    assert fit(PUBLISHED, *options, x="gmacs_total", y=column) == 0
    b = json.loads(told.read_text())["coefficients"]["b"]
    assert b["value"] == pytest.approx(published, abs=0.012)
    assert b["low"] < published < b["high"]


TWO = ("--x=parameters,clips", "--law=chinchilla")
BAD = [
    ((), "row 22 of"),  # the failed run has no entropy
    (("--where=exit",), "--where='exit' is no condition"),
    (("--where=speed > 1",), "names no column"),
    (("--where=exit = 7",), "there are 0 points"),
    (("--where=clips < 15000", *TWO), "clips is 10000 for all points"),
    (("--hold-out=exit > no",), "expected a number"),
    (("--where=exit = 0", "--frontier=0"), "--frontier is 0"),
    (("--where=exit = 0", "--frontier=2"), "there are 2 points"),
    (("--where=exit = 0", "--frontier=3", *TWO), "--frontier has bins of one x"),
    (("--x=clips,parameters",), "--x=clips,parameters with --law=power; y = a x^-b takes 1 column"),
    (
        ("--law=chinchilla",),
        "--x=clips with --law=chinchilla; y = e + a n^-alpha + b d^-beta takes 2 columns",
    ),
    (("--x=seconds",), "expected seconds as well"),
    (("--y=loss",), "expected loss as well"),
    (("--resamples=3",), "--resamples is 3"),
    (("--seed=-1",), "--seed -1"),
    (("--budgets=1e9",), "--budgets=1e9 with --law=power"),
    (("--budgets=many", *TWO), "--budgets=many with --law=chinchilla"),
    (("--points=nowhere.csv",), "nowhere.csv cannot be read"),
]


@pytest.mark.parametrize(("options", "message"), BAD, ids=[message for _, message in BAD])
def test_bad_input_is_one_line(ladder, capsys, options, message):
    assert fit(ladder, f"--json={ladder / 'law.json'}", *options) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("supclap: ")
    assert printed.err.count("\n") == 1
    assert message in printed.err
    assert not printed.out
    assert not (ladder / "law.json").exists()


def test_an_unknown_law_is_wrong_usage(ladder, capsys):
    with pytest.raises(SystemExit) as stop:
        fit(ladder, law="parabola")
    assert stop.value.code == 2
    assert "parabola" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--json=no/law.json", "--figure=/"])
def test_where_no_file_can_be_is_said_before_the_work(ladder, capsys, option):
    assert fit(ladder, "--where=exit = 0", option) == 2
    printed = capsys.readouterr()
    assert "expected a file in an existing folder" in printed.err
    assert not printed.out


@pytest.mark.parametrize("option", ["--json=/dev/full", "--figure=/dev/full"])
def test_files_that_cannot_be_written(ladder, capsys, option):
    assert fit(ladder, "--where=exit = 0", option) == 6
    assert capsys.readouterr().err.startswith("supclap: a file cannot be written: ")
