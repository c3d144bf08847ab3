"""Figures of similarities and of zero-shot errors."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from supclap_jax.evaluate import matrix_figures
from supclap_jax.evaluate.figure_style import Print
from supclap_jax.evaluate.matrix_figures import (
    confusion_figure,
    over_time_figure,
    shorten,
    similarity_figure,
)


def test_shorten():
    assert shorten("  a dog\nbarks ", 20) == "a dog barks"
    assert shorten("a dog barks", 11) == "a dog barks"
    assert shorten("a dog barks", 10) == "a dog bar…"
    assert shorten("雨が屋根に降る", 9) == "雨が屋根…"
    assert shorten("", 5) == ""


@pytest.mark.filterwarnings("error")
def test_similarity_figure_draws_any_script(tmp_path, saved, monkeypatch):
    labels = [
        "A dog barks " * 20,
        "雨が屋根に降り、遠くで雷が鳴っている",
        "كلب ينبح مرتين",
        "costs $^_{ \\frac$\nmore",
        "बारिश \U0001f327 \x00",
        "",
    ]
    similarity = np.linspace(-1, 1, 36).reshape(6, 6)
    monkeypatch.setattr(matrix_figures, "FONTS", ("DejaVu Sans",))
    (path,) = similarity_figure(similarity, labels, tmp_path / "similarity.png", Print("a run"))
    assert min(imread(path).shape[:2]) > 300
    axes = saved["similarity.png"].axes[0]
    np.testing.assert_array_equal(axes.images[0].get_array(), similarity)
    captions = [tick.get_text() for tick in axes.get_yticklabels()]
    assert captions[1:] == ["caption 2", labels[2], "costs $^_{ \\frac$ more", "caption 5", ""]
    note = saved["similarity.png"].texts[-1].get_text()
    assert note.startswith("a run\nNumbered captions: 2, since no font")
    assert [text.get_text() for text in axes.texts][:2] == ["-1.00", "-0.94"]


def test_long_captions_are_as_long_as_makes_them_differ(tmp_path, saved):
    labels = ["A microphone picks up " + "a slow sound " * 7 + end for end in ("here", "there")]
    similarity_figure(np.eye(2), [*labels], tmp_path / "s.png")
    first, second = (tick.get_text() for tick in saved["s.png"].axes[0].get_yticklabels())
    assert first != second
    assert max(map(len, first.splitlines())) <= matrix_figures.LABEL_COLUMNS


def test_similarities_are_coloured_alike_around_zero(tmp_path, saved):
    similarity_figure(np.array([[0.2, -0.1], [0.0, 0.1]]), ["a", "b"], tmp_path / "s.png")
    (image,) = saved["s.png"].axes[0].images
    assert image.get_clim() == (-0.2, 0.2)


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
    clips = count[0].sum()
    assert axes.get_yticklabels()[0].get_text() == f"class number 0 with a long…  {clips}"
    assert axes.get_xticklabels()[0].get_text() == "class number 0 with a long…"
    assert figure.get_size_inches().tolist() == [pytest.approx(inches, rel=0.02)] * 2


def test_a_confusion_is_written(tmp_path):
    (path,) = confusion_figure(np.eye(3, dtype=int), ["a", "b", "c"], tmp_path / "confusion.png")
    assert min(imread(path).shape[:2]) > 350


@pytest.mark.parametrize("count", [np.zeros((2, 3), int), np.zeros((3, 3), int), -np.eye(2)])
def test_confusion_that_does_not_fit_is_refused(tmp_path, count):
    with pytest.raises(ValueError, match=r"shape \[2, 2\] for 2 names"):
        confusion_figure(count, ["a", "b"], tmp_path / "x.png")


def test_over_time_figure_draws_windows_about_their_middles(tmp_path, saved):
    times = np.array([[0, 4], [2, 6], [4, 8], [5, 9]])
    shares = np.array([[0.9, 0.1, 0], [0.2, 0.8, 0], [0.5, 0.5, 0], [0.1, 0.2, 0.7]])
    over_time_figure(times, shares, ["rain", "dog_bark", "wind"], tmp_path / "over.png")
    axes = saved["over.png"].axes[0]
    (mesh,) = axes.collections
    np.testing.assert_allclose(mesh.get_coordinates()[0, :, 0], [0, 3, 5, 6.5, 9])
    np.testing.assert_allclose(mesh.get_array(), 100 * shares.T)
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["rain", "dog bark", "wind"]
    many = np.eye(20)
    over_time_figure(
        np.arange(40).reshape(20, 2), many, [f"label {i}" for i in range(20)], tmp_path / "many.png"
    )
    assert len(saved["many.png"].axes[0].get_yticklabels()) == matrix_figures.MOST_LABELS
    with pytest.raises(ValueError, match=r"shape \[4, 2\]"):
        over_time_figure(times, shares, ["rain", "wind"], tmp_path / "x.png")
