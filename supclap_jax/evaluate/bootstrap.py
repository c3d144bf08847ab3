"""Percentile bootstrap over clips: 95 % intervals, and differences between two runs.

Captions of one clip are not independent, so clips are resampled, and a clip brings all of its
queries. The same seed and number of clips give the same resamples, whatever is measured on them:
two directions, languages or runs are compared on equal terms.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from supclap_jax.evaluate.retrieval import Queries, Retrieval, rank_metrics

RESAMPLES = 1000
LEVEL = 0.95
OF_95_PERCENT = 1.96  # standard errors to either side


class Estimate(NamedTuple):
    """A metric on the clips there are, and on every resample of them.

    Attributes:
      value: on all clips.
      resampled: float64 `[resamples]`.
    """

    value: float
    resampled: np.ndarray


def bootstrap_retrieval(
    retrieval: Retrieval, *, seed: int, resamples: int = RESAMPLES
) -> dict[str, dict[str, Estimate]]:
    """Estimates of both directions; memory beside the results does not grow with `resamples`.

    Returns:
      `{"text_to_audio": {"R@1": Estimate, "R@5": ..., "R@10": ..., "median_rank": ...,
      "mean_rank": ..., "mAP@10": ...}, "audio_to_text": {...}}`; R@k and mAP@10 in percent, ranks
      from 1.
    """
    return {
        direction: _bootstrap_queries(queries, len(retrieval.audio_to_text.rank), seed, resamples)
        for direction, queries in retrieval._asdict().items()
    }


def bootstrap_mean(values: np.ndarray, *, seed: int, resamples: int = RESAMPLES) -> Estimate:
    """The mean of `values [clips]`."""
    values = np.asarray(values, np.float64)
    means = [count @ values / len(values) for count in resample_clips(len(values), seed, resamples)]
    return Estimate(values.mean(), np.array(means))


def interval(estimate: Estimate) -> dict[str, float]:
    """The value with the central 95 % range of the resampled ones: `{"value", "low", "high"}`."""
    low, high = np.quantile(estimate.resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return {"value": float(estimate.value), "low": float(low), "high": float(high)}


def recall_error(queries: Queries) -> float:
    """The standard error of R@1 over clips, in percent, without resamples.

    Of the ratio of hits to queries, with all queries of a clip together (Cochran, Sampling
    Techniques, 1977, section 9A): `sqrt(sum_c (hits_c - R queries_c)^2) / queries`.
    """
    count = np.bincount(queries.clip)
    hits = np.bincount(queries.clip, queries.rank == 1)
    recall = hits.sum() / count.sum()
    return float(100 * np.linalg.norm(hits - recall * count) / count.sum())


def average(estimates: Iterable[Estimate]) -> Estimate:
    """The mean of several metrics of the same clips, resample by resample."""
    values, resampled = zip(*estimates, strict=True)
    return Estimate(float(np.mean(values)), np.mean(resampled, axis=0))


def difference(ours: Estimate, theirs: Estimate) -> dict[str, float]:
    """Our metric less theirs on the same clips: paired bootstrap over clips.

    Each resample draws clips once and measures both runs on them, so what makes a clip hard for
    both cancels out. With d the difference on a resample and B resamples,

        p = min(1, 2 min(1 + #{d <= 0}, 1 + #{d >= 0}) / (B + 1)),

    the two-sided level at which the percentile interval just reaches zero; its least value is
    2 / (B + 1), and runs that do not differ have 1 (Efron & Tibshirani, An Introduction to the
    Bootstrap, 1993, chapter 15).

    Returns:
      `{"value", "low", "high", "p_value", "resamples"}`.
    """
    resampled = ours.resampled - theirs.resampled
    tail = 1 + min(np.count_nonzero(resampled <= 0), np.count_nonzero(resampled >= 0))
    return {
        **interval(Estimate(ours.value - theirs.value, resampled)),
        "p_value": float(min(1.0, 2 * tail / (len(resampled) + 1))),
        "resamples": len(resampled),
    }


def resample_clips(clips: int, seed: int, resamples: int) -> Iterator[np.ndarray]:
    """Yields int `[clips]` per resample: how often each clip was drawn, `clips` draws in all."""
    if clips < 1 or resamples < 1:
        raise ValueError(
            f"The bootstrap needs at least one clip and one resample, got {clips} and {resamples}."
        )
    rng = np.random.default_rng(seed)
    for _ in range(resamples):
        yield np.bincount(rng.integers(clips, size=clips), minlength=clips)


def _bootstrap_queries(
    queries: Queries, clips: int, seed: int, resamples: int
) -> dict[str, Estimate]:
    resampled = [rank_metrics(queries, count) for count in resample_clips(clips, seed, resamples)]
    return {
        metric: Estimate(value, np.array([metrics[metric] for metrics in resampled]))
        for metric, value in rank_metrics(queries).items()
    }
