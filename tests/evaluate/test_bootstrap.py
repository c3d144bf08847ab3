import numpy as np
import pytest

from supclap_jax.evaluate.bootstrap import bootstrap_mean, bootstrap_retrieval, resample_clips
from supclap_jax.evaluate.retrieval import rank_similarity

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
            assert table[direction][metric] == pytest.approx(expected, abs=1e-9)


def test_mean_matches_a_plain_loop_over_the_same_draws():
    values = np.random.default_rng(1).random(23)
    rng = np.random.default_rng(9)
    means = [np.mean(values[rng.integers(23, size=23)]) for _ in range(80)]
    low, high = np.percentile(means, [2.5, 97.5])
    expected = {"value": values.mean(), "low": low, "high": high}
    assert bootstrap_mean(values, seed=9, resamples=80) == pytest.approx(expected, abs=1e-12)


def test_seed_decides_the_intervals():
    results = retrieval(clips=40, captions=200)
    table = bootstrap_retrieval(results, seed=1, resamples=200)
    assert table == bootstrap_retrieval(results, seed=1, resamples=200)
    other = bootstrap_retrieval(results, seed=2, resamples=200)
    assert table["text_to_audio"]["mean_rank"] != other["text_to_audio"]["mean_rank"]


def test_intervals_contain_the_value():
    table = bootstrap_retrieval(retrieval(clips=100, captions=500), seed=0)
    for metrics in table.values():
        for entry in metrics.values():
            assert entry["low"] <= entry["value"] <= entry["high"]
        assert metrics["mAP@10"]["low"] < metrics["mAP@10"]["high"]


def test_width_shrinks_with_the_root_of_the_number_of_clips():
    values = np.random.default_rng(0).standard_normal(6400)
    widths = [
        entry["high"] - entry["low"]
        for entry in (bootstrap_mean(values[:n], seed=0, resamples=2000) for n in (400, 6400))
    ]
    assert widths[0] == pytest.approx(2 * 1.96 / np.sqrt(400), rel=0.15)
    assert widths[0] / widths[1] == pytest.approx(4, rel=0.15)


def test_intervals_cover_the_true_mean_about_95_times_in_100():
    rng = np.random.default_rng(0)
    entries = [bootstrap_mean(rng.random(100), seed=i, resamples=300) for i in range(300)]
    covered = np.mean([entry["low"] <= 0.5 <= entry["high"] for entry in entries])
    assert 0.90 < covered < 0.98


def test_captions_of_a_clip_are_drawn_together():
    """Five copies of each caption hold no more evidence than one."""
    similarity = np.random.default_rng(3).standard_normal((60, 60)) + 1.5 * np.eye(60)
    one = rank_similarity(similarity, np.arange(60))
    five = rank_similarity(np.repeat(similarity, 5, axis=0), np.repeat(np.arange(60), 5))
    single, copied = (bootstrap_retrieval(r, seed=0)["text_to_audio"] for r in (one, five))
    for metric in METRICS:
        assert copied[metric] == pytest.approx(single[metric])


def test_resamples_draw_as_many_clips_as_there_are():
    counts = list(resample_clips(9, seed=0, resamples=50))
    assert len(counts) == 50
    assert all(count.shape == (9,) and count.sum() == 9 for count in counts)
    assert len({tuple(count) for count in counts}) > 40


@pytest.mark.parametrize(("values", "resamples"), [(np.array([]), 10), (np.ones(3), 0)])
def test_empty_bootstraps_are_refused(values, resamples):
    with pytest.raises(ValueError, match=f"got {len(values)} and {resamples}"):
        bootstrap_mean(values, seed=0, resamples=resamples)
