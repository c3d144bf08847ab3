import numpy as np
import pytest

from supclap_jax.evaluate.bootstrap import (
    Estimate,
    average,
    bootstrap_mean,
    bootstrap_retrieval,
    difference,
    interval,
    recall_error,
    resample_clips,
)
from supclap_jax.evaluate.retrieval import Queries, rank_similarity

METRICS = ["R@1", "R@5", "R@10", "median_rank", "mean_rank", "mAP@10"]


def retrieval(clips, captions, seed=0):
    rng = np.random.default_rng(seed)
    owner = rng.permutation(np.arange(captions) % clips)
    own = owner[:, None] == np.arange(clips)
    return rank_similarity(rng.standard_normal((captions, clips)) + 1.5 * own, owner)


def reference_metrics(queries, drawn):
    """Metrics of the drawn clips, their queries copied out one by one."""
    copies = [i for clip in drawn for i in np.flatnonzero(queries.clip == clip)]
    rank = queries.rank[copies]
    return [
        *(100 * np.mean(rank <= k) for k in (1, 5, 10)),
        np.median(rank),
        np.mean(rank),
        100 * np.mean(queries.average_precision[copies]),
    ]


def test_matches_a_plain_loop_over_the_same_draws():
    results = retrieval(clips=17, captions=70)
    table = bootstrap_retrieval(results, seed=5, resamples=60)
    assert list(table) == ["text_to_audio", "audio_to_text"]
    for direction, queries in results._asdict().items():
        rng = np.random.default_rng(5)
        resampled = [reference_metrics(queries, rng.integers(17, size=17)) for _ in range(60)]
        low, high = np.percentile(resampled, [2.5, 97.5], axis=0)
        value = reference_metrics(queries, range(17))
        assert list(table[direction]) == METRICS
        for i, metric in enumerate(METRICS):
            expected = {"value": value[i], "low": low[i], "high": high[i]}
            assert interval(table[direction][metric]) == pytest.approx(expected, abs=1e-9)


def test_mean_matches_a_plain_loop_over_the_same_draws():
    values = np.random.default_rng(1).random(23)
    rng = np.random.default_rng(9)
    means = [np.mean(values[rng.integers(23, size=23)]) for _ in range(80)]
    low, high = np.percentile(means, [2.5, 97.5])
    expected = {"value": values.mean(), "low": low, "high": high}
    estimate = bootstrap_mean(values, seed=9, resamples=80)
    assert interval(estimate) == pytest.approx(expected, abs=1e-12)


def test_seed_decides_the_intervals():
    results = retrieval(clips=40, captions=200)
    one, same, other = (
        bootstrap_retrieval(results, seed=seed, resamples=200)["text_to_audio"]["mean_rank"]
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one.resampled, same.resampled)
    assert interval(one) != interval(other)


def test_intervals_contain_the_value():
    table = bootstrap_retrieval(retrieval(clips=100, captions=500), seed=0)
    for metrics in table.values():
        for estimate in metrics.values():
            entry = interval(estimate)
            assert entry["low"] <= entry["value"] <= entry["high"]
        entry = interval(metrics["mAP@10"])
        assert entry["low"] < entry["high"]


def test_width_shrinks_with_the_root_of_the_number_of_clips():
    values = np.random.default_rng(0).standard_normal(6400)
    widths = [
        entry["high"] - entry["low"]
        for entry in (
            interval(bootstrap_mean(values[:n], seed=0, resamples=2000)) for n in (400, 6400)
        )
    ]
    assert widths[0] == pytest.approx(2 * 1.96 / np.sqrt(400), rel=0.15)
    assert widths[0] / widths[1] == pytest.approx(4, rel=0.15)


def test_intervals_cover_the_true_mean_about_95_times_in_100():
    rng = np.random.default_rng(0)
    entries = [interval(bootstrap_mean(rng.random(100), seed=i, resamples=300)) for i in range(300)]
    covered = np.mean([entry["low"] <= 0.5 <= entry["high"] for entry in entries])
    assert 0.90 < covered < 0.98


def test_captions_of_a_clip_are_drawn_together():
    """Five copies of each caption hold no more evidence than one."""
    similarity = np.random.default_rng(3).standard_normal((60, 60)) + 1.5 * np.eye(60)
    one = rank_similarity(similarity, np.arange(60))
    five = rank_similarity(np.repeat(similarity, 5, axis=0), np.repeat(np.arange(60), 5))
    single, copied = (bootstrap_retrieval(r, seed=0)["text_to_audio"] for r in (one, five))
    for metric in METRICS:
        assert interval(copied[metric]) == pytest.approx(interval(single[metric]))


def test_resamples_draw_as_many_clips_as_there_are():
    counts = list(resample_clips(9, seed=0, resamples=50))
    assert len(counts) == 50
    assert all(count.shape == (9,) and count.sum() == 9 for count in counts)
    assert len({tuple(count) for count in counts}) > 40


@pytest.mark.parametrize(("values", "resamples"), [(np.array([]), 10), (np.ones(3), 0)])
def test_empty_bootstraps_are_refused(values, resamples):
    with pytest.raises(ValueError, match=f"got {len(values)} and {resamples}"):
        bootstrap_mean(values, seed=0, resamples=resamples)


def test_average_is_taken_resample_by_resample():
    values = np.random.default_rng(2).random((3, 31))
    estimates = [bootstrap_mean(row, seed=4, resamples=40) for row in values]
    mean, direct = average(estimates), bootstrap_mean(values.mean(axis=0), seed=4, resamples=40)
    assert mean.value == pytest.approx(direct.value)
    np.testing.assert_allclose(mean.resampled, direct.resampled)


def test_difference_matches_a_plain_loop_over_the_same_draws():
    ours, theirs = (retrieval(clips=19, captions=60, seed=seed) for seed in (1, 2))
    pair = [bootstrap_retrieval(r, seed=5, resamples=70)["audio_to_text"] for r in (ours, theirs)]
    rng = np.random.default_rng(5)
    draws = [rng.integers(19, size=19) for _ in range(70)]
    gaps = np.array(
        [
            np.subtract(*(reference_metrics(r.audio_to_text, drawn) for r in (ours, theirs)))
            for drawn in draws
        ]
    )
    for i, metric in enumerate(METRICS):
        result = difference(pair[0][metric], pair[1][metric])
        low, high = np.percentile(gaps[:, i], [2.5, 97.5])
        below, above = (gaps[:, i] <= 1e-12).sum(), (gaps[:, i] >= -1e-12).sum()
        expected = {"low": low, "high": high, "p_value": min(1, 2 * (1 + min(below, above)) / 71)}
        expected |= {"value": result["value"], "resamples": 70}
        assert result == pytest.approx(expected, abs=1e-9)
        assert result["value"] == pytest.approx(pair[0][metric].value - pair[1][metric].value)


def test_p_values_of_runs_that_do_not_differ_are_spread_evenly():
    rng = np.random.default_rng(0)
    p = []
    for seed in range(400):
        hard = rng.standard_normal(80)
        ours, theirs = (hard + 0.3 * rng.standard_normal(80) for _ in range(2))
        pair = (bootstrap_mean(values, seed=seed, resamples=200) for values in (ours, theirs))
        p.append(difference(*pair)["p_value"])
    assert 0.02 < np.mean(np.array(p) < 0.05) < 0.09
    assert 0.42 < np.mean(np.array(p) < 0.5) < 0.58


def test_pairing_finds_what_intervals_of_the_single_runs_hide():
    rng = np.random.default_rng(1)
    hard = 10 * rng.standard_normal(200)
    theirs, ours = (bootstrap_mean(hard + shift, seed=3) for shift in (0, rng.random(200)))
    assert interval(ours)["low"] < interval(theirs)["high"]
    result = difference(ours, theirs)
    assert result["low"] > 0.4
    assert result["p_value"] == pytest.approx(2 / 1001)
    back = difference(theirs, ours)
    assert (back["high"], back["p_value"]) == (-result["low"], result["p_value"])


def test_p_value_and_interval_agree():
    rng = np.random.default_rng(2)
    for shift in np.linspace(-0.4, 0.4, 41):
        resampled = shift + 0.15 * rng.standard_normal(999)
        result = difference(Estimate(shift, resampled), Estimate(0.0, np.zeros(999)))
        outside = result["low"] > 0 or result["high"] < 0
        assert outside == (result["p_value"] < 0.05) or abs(result["p_value"] - 0.05) < 0.005


def test_the_error_of_recall_is_that_of_resampled_clips():
    """Of clips with 1 to 5 captions, the caption's chance depending on its clip."""
    rng = np.random.default_rng(0)
    clips = 600
    owner = np.repeat(np.arange(clips), rng.integers(1, 6, clips))
    rank = np.where(rng.random(len(owner)) < rng.random(clips)[owner] * 0.6, 1, 2)
    queries = Queries(rank, 1 / rank, owner, rank[:, None])
    sums = np.stack([np.bincount(owner, rank == 1), np.bincount(owner)])
    draws = rng.integers(clips, size=(4_000, clips))
    hits, total = sums[:, draws].sum(axis=2)
    assert recall_error(queries) == pytest.approx(100 * np.std(hits / total), rel=0.05)
