"""Figures of a run show what it logged."""

import json
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.image import imread

from supclap_jax.evaluate.figure_style import Print
from supclap_jax.evaluate.training_figures import read_curves, smooth, training_figures

LOSS = ["loss", "loss/base", "loss/svr", "loss/constraint"]
RECALL = ["R@1/text_to_audio", "R@1/audio_to_text"]
VALIDATION = [f"validation/text_to_audio/{name}" for name in ("R@1", "R@1_error", "entropy")]
RADIUS = ["radius/text_mean", "radius/text_std", "radius/audio_mean", "radius/audio_std"]

FORCES = [
    f"force/{side}_{name}"
    for side in ("text", "audio")
    for name in ("pull", "push_parallel", "push_perpendicular", "drift_cosine")
]


def write_metrics(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def panels(figure):
    """Title of each panel -> label of each line -> its values."""
    return {
        axes.get_title(loc="left"): {line.get_label(): line.get_ydata() for line in axes.lines}
        for axes in figure.axes
    }


@pytest.mark.filterwarnings("error")
def test_figures_of_a_run_show_what_was_logged(tmp_path, saved):
    """Few points are drawn as they are, in the unit of the axis."""
    rng = np.random.default_rng(0)
    keys = [*LOSS, *RECALL, *RADIUS, *FORCES, *VALIDATION, "distance", "temperature", "goodput"]
    logged = {key: rng.random(20) for key in keys}
    logged["loss"][5] = np.nan
    lines = [{"step": i, **{key: logged[key][i] for key in keys}} for i in range(20)]
    metrics = write_metrics(tmp_path / "metrics.jsonl", lines)
    style = Print("runs/a_$1 · data", pdf=True)
    paths = training_figures(metrics, tmp_path / "new" / "figures", style)
    names = ["loss", "recall", "radius", "forces", "training"]
    assert [path.name for path in paths] == [f"{n}.{s}" for n in names for s in ("png", "pdf")]
    assert all(min(imread(path).shape[:2]) > 300 for path in paths[::2])
    assert all(path.read_bytes().startswith(b"%PDF") for path in paths[1::2])
    assert all(
        figure.texts[-1].get_text() == "runs/a_$1 · data · to step 19" for figure in saved.values()
    )

    losses = list(panels(saved["loss.png"]).values())
    for key, (values,) in zip(LOSS, (panel.values() for panel in losses[:4]), strict=True):
        np.testing.assert_array_equal(values, logged[key])
    np.testing.assert_array_equal(losses[4]["text → audio"], logged[VALIDATION[2]])
    (recall,) = panels(saved["recall.png"]).values()
    np.testing.assert_array_equal(recall["text → audio"], logged[VALIDATION[0]])
    assert list(recall) == ["text → audio"]
    (radius,) = panels(saved["radius.png"]).values()
    np.testing.assert_array_equal(radius["distance d (mean)"], logged["distance"])
    np.testing.assert_array_equal(radius["text radius R (mean ± std)"], logged[RADIUS[0]])
    forces = panels(saved["forces.png"])
    np.testing.assert_array_equal(
        forces["Push across u"]["audio"], logged["force/audio_push_perpendicular"]
    )
    assert len(forces) == 4
    training = panels(saved["training.png"])
    assert list(training) == [
        *("Temperature", "Recall within the batch", "Goodput since the first start")
    ]
    np.testing.assert_array_equal(
        training["Recall within the batch"]["audio → text"], logged[RECALL[1]]
    )


def test_recall_has_its_interval_and_radii_a_fan_only_where_they_differ(tmp_path, saved):
    keys = {"validation/text_to_audio/R@1": 2.0, "validation/text_to_audio/R@1_error": 1.5}
    keys |= {"radius/text_mean": 0.3, "radius/text_std": 0.0}
    keys |= {"radius/audio_mean": 0.4, "radius/audio_std": 0.1}
    lines = [{"step": step, **keys} for step in (10, 20)]
    training_figures(write_metrics(tmp_path / "metrics.jsonl", lines), tmp_path)
    (band,) = saved["recall.png"].axes[0].collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert heights.min() == 0  # not below what can be
    assert heights.max() == pytest.approx(2 + 1.96 * 1.5)
    (fan,) = saved["radius.png"].axes[0].collections
    heights = fan.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == (pytest.approx(0.3), pytest.approx(0.5))
    assert "text radius R (mean)" in next(iter(panels(saved["radius.png"]).values()))


def test_many_points_are_smoothed_over_the_faint_ones(tmp_path, saved):
    """Over 2 % of them: a mean of three where there are 120, fewer at the ends."""
    values = np.random.default_rng(0).random(120)
    lines = [{"step": i, "loss": value} for i, value in enumerate(values)]
    training_figures(write_metrics(tmp_path / "metrics.jsonl", lines), tmp_path)
    raw, smoothed = saved["loss.png"].axes[0].lines
    np.testing.assert_array_equal(raw.get_ydata(), values)
    expected = [values[max(i - 1, 0) : i + 2].mean() for i in range(120)]
    np.testing.assert_allclose(smoothed.get_ydata(), expected)


@pytest.mark.parametrize(
    ("keys", "drawn"),
    [
        (["loss"], ["loss.png"]),
        (["R@1/audio_to_text"], ["training.png"]),
        (["validation/audio_to_text/R@1", "distance"], ["recall.png"]),
        (["radius/text_mean", "distance"], ["radius.png"]),
        (["force/text_pull"], ["forces.png"]),
        (["learning_rate"], ["training.png"]),
        (["step_seconds"], []),
    ],
)
def test_absent_keys_are_not_drawn(tmp_path, keys, drawn):
    lines = [{"step": step, **dict.fromkeys(keys, 0.5)} for step in range(3)]
    metrics = write_metrics(tmp_path / "metrics.jsonl", lines)
    assert [path.name for path in training_figures(metrics, tmp_path / "figures")] == drawn
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == drawn


def test_later_lines_of_a_resumed_run_win(tmp_path):
    lines = [{"step": s, "loss": v} for s, v in [(1, 5.0), (3, 4.0), (2, 3.0), (3, 2.0)]]
    metrics = write_metrics(tmp_path / "metrics.jsonl", [*lines, {"step": 4, "note": "words"}])
    curves = read_curves(metrics)
    assert list(curves) == ["loss"]
    assert curves["loss"].steps.tolist() == [1, 2, 3]
    assert curves["loss"].values.tolist() == [5.0, 3.0, 2.0]


@pytest.mark.parametrize("line", ['{"step": 1, "lo', '{"loss": 1.0}', "[1]", "\udcff"])
def test_broken_lines_are_left_out(tmp_path, line):
    """A kill may cut the last one; the run goes on after it."""
    metrics = tmp_path / "metrics.jsonl"
    lines = ['{"step": 0, "loss": 2.0}', "", line, '{"step": 1, "loss": 1.0}', ""]
    metrics.write_bytes("\n".join(lines).encode(errors="surrogateescape"))
    assert read_curves(metrics)["loss"].values.tolist() == [2.0, 1.0]


def test_smooth_is_a_centred_mean():
    np.testing.assert_allclose(smooth(np.full(500, 3.0)), 3.0)
    line = np.arange(500.0)
    np.testing.assert_allclose(smooth(line)[10:-10], line[10:-10])
    assert smooth(line)[0] == pytest.approx(2.5)
    noise = np.random.default_rng(0).standard_normal(5000)
    assert smooth(noise).std() == pytest.approx(1 / np.sqrt(101), rel=0.3)


def test_pyplot_is_not_imported():
    check = "import sys, supclap_jax.evaluate.evaluation; print('matplotlib.pyplot' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", check], check=True, capture_output=True, text=True)
    assert run.stdout == "False\n"
