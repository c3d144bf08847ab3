"""Average precision over classes, against plain loops and clips that are really repeated."""

import numpy as np
import pytest

from supclap_jax.evaluate.average_precision import (
    average_precision,
    bootstrap_mean_average_precision,
    rank_clips,
)
from supclap_jax.evaluate.bootstrap import resample_clips


def unit_rows(rng, rows, dim):
    x = rng.standard_normal((rows, dim))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def plain(scores, positive):
    """Of one class, by its definition; of equal scores, clips of the class come last."""
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], positive[i]))
    precisions, hits = [], 0
    for place, clip in enumerate(order, 1):
        hits += positive[clip]
        precisions += [hits / place] * int(positive[clip])
    return np.mean(precisions) if precisions else np.nan


def problem(clips=40, classes=70, seed=0):
    rng = np.random.default_rng(seed)
    audio, text = unit_rows(rng, clips, 6), unit_rows(rng, classes, 6)
    positive = rng.random((clips, classes)) < 0.15
    positive[:, 3] = False
    return audio, text, positive


def test_average_precision_is_that_of_a_loop():
    audio, text, positive = problem()
    found = average_precision(rank_clips(audio, text, positive))
    scores = audio @ text.T
    expected = [plain(scores[:, k], positive[:, k]) for k in range(len(text))]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert np.isnan(found[3]) and not np.isnan(found[4])


def test_clips_of_the_class_lose_every_tie():
    positive = np.array([[True], [False], [True], [False]])
    ranking = rank_clips(np.eye(3)[[0, 0, 1, 2]], np.eye(1, 3), positive)
    assert average_precision(ranking)[0] == pytest.approx((1 / 2 + 2 / 4) / 2)


def test_the_bootstrap_repeats_clips():
    """Each resample, clip by clip from what was drawn; its copies are no hits of each other."""
    audio, text, positive = problem(clips=25, classes=5)
    estimate = bootstrap_mean_average_precision(
        rank_clips(audio, text, positive), seed=4, resamples=130
    )
    assert estimate.resampled.shape == (130,)
    scores = audio @ text.T
    for value, count in zip(estimate.resampled, resample_clips(25, 4, 130), strict=True):
        drawn = np.repeat(np.arange(25), count)
        by_class = []
        for k in (0, 1, 2, 4):
            if not positive[drawn, k].any():
                continue
            precision = []
            for clip in drawn[positive[drawn, k]]:
                above = drawn[(scores[drawn, k] >= scores[clip, k]) & (drawn != clip)]
                precision.append(np.mean([*positive[above, k], True]))
            by_class.append(np.mean(precision))
        assert value == pytest.approx(100 * np.mean(by_class))
    whole = [plain(scores[:, k], positive[:, k]) for k in (0, 1, 2, 4)]
    assert estimate.value == pytest.approx(100 * np.nanmean(whole))


def test_the_interval_holds_the_value():
    """Of classes with few clips too, where copies that are hits of each other would raise it."""
    for clips, classes in ((200, 200), (500, 200), (2_000, 50)):
        rng = np.random.default_rng(clips)
        audio, text = unit_rows(rng, clips, 16), unit_rows(rng, classes, 16)
        label = np.argmax(audio @ text.T + 0.3 * rng.normal(size=(clips, classes)), axis=1)
        ranking = rank_clips(audio, text, np.eye(classes, dtype=bool)[label])
        value, resampled = bootstrap_mean_average_precision(ranking, seed=0, resamples=200)
        assert abs(np.mean(resampled) - value) < np.std(resampled), (clips, classes)


def test_labels_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"positive must have shape \[2, 1\]"):
        rank_clips(np.eye(2), np.eye(1, 2), np.ones((1, 2), bool))
