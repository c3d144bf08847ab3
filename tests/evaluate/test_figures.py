import json
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.image import imread

from supclap_jax.evaluate.figures import (
    confusion_figure,
    read_curves,
    shorten,
    similarity_figure,
    smooth,
    training_figures,
)

LOSS = ["loss", "loss/base", "loss/svr", "loss/constraint"]
RECALL = ["recall/text_to_audio", "recall/audio_to_text"]
RADIUS = ["radius/text_mean", "radius/text_std", "radius/audio_mean", "radius/audio_std"]

FORCES = [
    f"force/{side}_{name}"
    for side in ("text", "audio")
    for name in ("pull", "push_parallel", "push_perpendicular", "drift_cosine")
]


def write_metrics(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def assert_drawn(path):
    pixels = imread(path)
    assert pixels.shape[0] > 300 and pixels.shape[1] > 400
    assert len(np.unique(pixels.reshape(-1, pixels.shape[-1]), axis=0)) > 50


@pytest.mark.filterwarnings("error")
def test_all_figures_of_a_full_run(tmp_path):
    rng = np.random.default_rng(0)
    keys = [*LOSS, *RECALL, *RADIUS, *FORCES, "distance"]
    lines = [{"step": i, **dict(zip(keys, rng.random(len(keys)), strict=True))} for i in range(90)]
    lines[50]["loss"] = float("nan")
    lines += [{"step": i, "validation/text_to_audio/R@1": 3.0 * i} for i in (0, 45, 90)]
    metrics = write_metrics(tmp_path / "metrics.jsonl", lines)
    paths = training_figures(metrics, tmp_path / "new" / "figures")
    names = ["loss.png", "recall.png", "radius.png", "forces.png"]
    assert [path.name for path in paths] == names
    for path in paths:
        assert_drawn(path)


@pytest.mark.parametrize(
    ("keys", "drawn"),
    [
        (["loss"], ["loss.png"]),
        (["recall/audio_to_text"], ["recall.png"]),
        (["validation/audio_to_text/R@1", "distance"], ["recall.png"]),
        (["radius/text_mean", "distance"], ["radius.png"]),
        (["force/text_pull"], ["forces.png"]),
        (["learning_rate"], []),
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


@pytest.mark.parametrize("line", ['{"step": 1, "lo', '{"loss": 1.0}', "[1]"])
def test_broken_lines_are_named(tmp_path, line):
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text('{"step": 0}\n\n' + line + "\n")
    with pytest.raises(ValueError, match=r"metrics\.jsonl:3 "):
        training_figures(metrics, tmp_path)


def test_smooth_is_a_centred_mean():
    np.testing.assert_allclose(smooth(np.full(500, 3.0)), 3.0)
    line = np.arange(500.0)
    np.testing.assert_allclose(smooth(line)[10:-10], line[10:-10])
    assert smooth(line)[0] == pytest.approx(2.5)
    noise = np.random.default_rng(0).standard_normal(5000)
    assert smooth(noise).std() == pytest.approx(1 / np.sqrt(101), rel=0.3)


def test_shorten():
    assert shorten("  a dog\nbarks ", 20) == "a dog barks"
    assert shorten("a dog barks", 11) == "a dog barks"
    assert shorten("a dog barks", 10) == "a dog bar…"
    assert shorten("雨が屋根に降る", 9) == "雨が屋根…"
    assert shorten("", 5) == ""


@pytest.mark.filterwarnings("error")
def test_similarity_figure_draws_any_script(tmp_path):
    labels = [
        "A dog barks " * 20,
        "雨が屋根に降り、遠くで雷が鳴っている",
        "كلب ينبح مرتين",
        "costs $^_{ \\frac$\nmore",
        "बारिश \U0001f327 \x00",
        "",
    ]
    path = similarity_figure(np.eye(6), labels, tmp_path / "similarity.png")
    assert path == tmp_path / "similarity.png"
    assert_drawn(path)


@pytest.mark.parametrize("count", [1, 16])
def test_similarity_figure_of_one_and_of_many_pairs(tmp_path, count):
    similarity = np.random.default_rng(0).uniform(-1, 1, (count, count))
    labels = [f"caption {i}" for i in range(count)]
    assert imread(similarity_figure(similarity, labels, tmp_path / "s.png")).size > 10_000


@pytest.mark.parametrize(
    ("similarity", "message"),
    [
        (np.eye(3), r"\[2, 2\] for 2 labels .* got \[3, 3\]"),
        (np.full((2, 2), np.nan), "NaN"),
    ],
)
def test_bad_similarities_are_refused(tmp_path, similarity, message):
    with pytest.raises(ValueError, match=message):
        similarity_figure(similarity, ["a", "b"], tmp_path / "s.png")


def test_pyplot_is_not_imported():
    check = "import sys, supclap_jax.evaluate.figures; print('matplotlib.pyplot' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", check], check=True, capture_output=True, text=True)
    assert run.stdout == "False\n"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("classes", "pixels"), [(1, 400), (10, 700), (50, 1500), (309, 3900)])
def test_confusion_of_few_and_of_many_classes(tmp_path, classes, pixels):
    rng = np.random.default_rng(classes)
    count = rng.integers(3, size=(classes, classes)) + 20 * np.eye(classes, dtype=int)
    count[-1] = 0
    names = [f"class number {k} with_a_long_name, and a comma" for k in range(classes)]
    path = confusion_figure(count, names, tmp_path / "confusion.png")
    drawn = imread(path)
    assert min(drawn.shape[:2]) > pixels
    assert len(np.unique(drawn[::5, ::5].reshape(-1, drawn.shape[-1]), axis=0)) > 20


@pytest.mark.parametrize("count", [np.zeros((2, 3), int), np.zeros((3, 3), int), -np.eye(2)])
def test_confusion_that_does_not_fit_is_refused(tmp_path, count):
    with pytest.raises(ValueError, match=r"shape \[2, 2\] for 2 names"):
        confusion_figure(count, ["a", "b"], tmp_path / "x.png")
