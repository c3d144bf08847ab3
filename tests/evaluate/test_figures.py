import json
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure
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


@pytest.fixture
def saved(monkeypatch):
    """The figures that were written, by the name of their file."""
    figures, write = {}, Figure.savefig

    def keep(figure, path, **options):
        write(figure, path, **options)
        figures[path.name] = figure

    monkeypatch.setattr(Figure, "savefig", keep)
    return figures


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
    keys = [*LOSS, *RECALL, *RADIUS, *FORCES, "distance", "validation/text_to_audio/R@1"]
    logged = {key: rng.random(20) for key in keys}
    logged["loss"][5] = np.nan
    lines = [{"step": i, **{key: logged[key][i] for key in keys}} for i in range(20)]
    metrics = write_metrics(tmp_path / "metrics.jsonl", lines)
    paths = training_figures(metrics, tmp_path / "new" / "figures")
    assert [path.name for path in paths] == ["loss.png", "recall.png", "radius.png", "forces.png"]
    assert all(min(imread(path).shape[:2]) > 300 for path in paths)

    losses = list(panels(saved["loss.png"]).values())
    for key, (values,) in zip(LOSS, (panel.values() for panel in losses), strict=True):
        np.testing.assert_array_equal(values, logged[key])
    recall = panels(saved["recall.png"])
    in_batch, validation = recall["In-batch recall (training)"], recall["Validation recall"]
    np.testing.assert_array_equal(in_batch["text → audio"], 100 * logged[RECALL[0]])
    np.testing.assert_array_equal(in_batch["audio → text"], 100 * logged[RECALL[1]])
    np.testing.assert_array_equal(validation["text → audio"], logged[keys[-1]])
    (radius,) = panels(saved["radius.png"]).values()
    np.testing.assert_array_equal(radius["audio–text distance (mean)"], logged["distance"])
    np.testing.assert_array_equal(radius["text radius (mean ± std)"], logged[RADIUS[0]])
    forces = panels(saved["forces.png"])
    np.testing.assert_array_equal(
        forces["Push across it"]["audio"], logged["force/audio_push_perpendicular"]
    )
    assert len(forces) == 4


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


def test_shorten():
    assert shorten("  a dog\nbarks ", 20) == "a dog barks"
    assert shorten("a dog barks", 11) == "a dog barks"
    assert shorten("a dog barks", 10) == "a dog bar…"
    assert shorten("雨が屋根に降る", 9) == "雨が屋根…"
    assert shorten("", 5) == ""


@pytest.mark.filterwarnings("error")
def test_similarity_figure_draws_any_script(tmp_path, saved):
    labels = [
        "A dog barks " * 20,
        "雨が屋根に降り、遠くで雷が鳴っている",
        "كلب ينبح مرتين",
        "costs $^_{ \\frac$\nmore",
        "बारिश \U0001f327 \x00",
        "",
    ]
    similarity = np.linspace(-1, 1, 36).reshape(6, 6)
    path = similarity_figure(similarity, labels, tmp_path / "similarity.png")
    assert min(imread(path).shape[:2]) > 300
    axes = saved["similarity.png"].axes[0]
    np.testing.assert_array_equal(axes.images[0].get_array(), similarity)
    captions = [tick.get_text() for tick in axes.get_yticklabels()]
    assert captions[1:4] == [labels[1], labels[2], "costs $^_{ \\frac$ more"]
    assert [text.get_text() for text in axes.texts][:2] == ["-1.00", "-0.94"]


@pytest.mark.parametrize(("count", "numbers"), [(1, 1), (16, 0)])
def test_numbers_are_written_where_there_is_room(tmp_path, saved, count, numbers):
    labels = [f"caption {i}" for i in range(count)]
    similarity_figure(np.zeros((count, count)), labels, tmp_path / "s.png")
    assert len(saved["s.png"].axes[0].texts) == numbers


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
@pytest.mark.parametrize(("classes", "inches"), [(1, 2.5), (10, 4.2), (309, 26)])
def test_confusion_of_few_and_of_many_classes(tmp_path, monkeypatch, classes, inches):
    """Shares of each class, in percent; the figure grows so that names stay legible."""
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: figures.append(figure))
    rng = np.random.default_rng(classes)
    count = rng.integers(3, size=(classes, classes)) + 20 * np.eye(classes, dtype=int)
    count[-1] = 0
    names = [f"class number {k} with_a_long_name, and a comma" for k in range(classes)]
    confusion_figure(count, names, tmp_path / "confusion.png")
    (figure,) = figures
    axes = figure.axes[0]
    shown = axes.images[0].get_array()
    assert not shown[-1].any()
    for row in range(classes - 1):
        np.testing.assert_allclose(shown[row], 100 * count[row] / count[row].sum())
    right = 100 * np.trace(count) / max(count.sum(), 1)
    assert axes.get_title(loc="left") == f"Zero-shot: {count.sum():,} clips, {right:.1f} % right"
    assert axes.get_yticklabels()[0].get_text() == "class number 0 with a long…"
    assert figure.get_size_inches().tolist() == [pytest.approx(inches, rel=0.02)] * 2


def test_a_confusion_is_written(tmp_path):
    path = confusion_figure(np.eye(3, dtype=int), ["a", "b", "c"], tmp_path / "confusion.png")
    assert min(imread(path).shape[:2]) > 350


@pytest.mark.parametrize("count", [np.zeros((2, 3), int), np.zeros((3, 3), int), -np.eye(2)])
def test_confusion_that_does_not_fit_is_refused(tmp_path, count):
    with pytest.raises(ValueError, match=r"shape \[2, 2\] for 2 names"):
        confusion_figure(count, ["a", "b"], tmp_path / "x.png")
