"""Percentile bootstrap over clips: 95 % intervals for retrieval and classification.

Captions of one clip are not independent, so clips are resampled, and a clip brings all of its
queries.
"""

from collections.abc import Iterator

import numpy as np

from supclap_jax.evaluate.retrieval import Queries, Retrieval, rank_metrics

RESAMPLES = 1000
LEVEL = 0.95


def bootstrap_retrieval(
    retrieval: Retrieval, *, seed: int, resamples: int = RESAMPLES
) -> dict[str, dict[str, dict[str, float]]]:
    """Metrics of both directions with their 95 % intervals over clips.

    Both directions see the same resamples. Memory does not grow with `resamples`.

    Returns:
      `{"text_to_audio": {"R@1": {"value": v, "low": l, "high": h}, "R@5": ..., "R@10": ...,
      "median_rank": ..., "mean_rank": ..., "mAP@10": ...}, "audio_to_text": {...}}`; R@k and
      mAP@10 in percent, ranks from 1.
    """
    return {
        direction: _bootstrap_queries(queries, len(retrieval.audio_to_text.rank), seed, resamples)
        for direction, queries in retrieval._asdict().items()
    }


def bootstrap_mean(
    values: np.ndarray, *, seed: int, resamples: int = RESAMPLES
) -> dict[str, float]:
    """Mean of `values [clips]` with its 95 % interval: `{"value": v, "low": l, "high": h}`."""
    values = np.asarray(values, np.float64)
    means = [count @ values / len(values) for count in resample_clips(len(values), seed, resamples)]
    return interval(values.mean(), means)


def resample_clips(clips: int, seed: int, resamples: int) -> Iterator[np.ndarray]:
    """Yields int `[clips]` per resample: how often each clip was drawn, `clips` draws in all."""
    if clips < 1 or resamples < 1:
        raise ValueError(
            f"The bootstrap needs at least one clip and one resample, got {clips} and {resamples}."
        )
    rng = np.random.default_rng(seed)
    for _ in range(resamples):
        yield np.bincount(rng.integers(clips, size=clips), minlength=clips)


def interval(value: float, resampled: list[float]) -> dict[str, float]:
    """`value` with the central 95 % range of its resampled values."""
    low, high = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return {"value": float(value), "low": float(low), "high": float(high)}


def _bootstrap_queries(
    queries: Queries, clips: int, seed: int, resamples: int
) -> dict[str, dict[str, float]]:
    resampled = [rank_metrics(queries, count) for count in resample_clips(clips, seed, resamples)]
    return {
        metric: interval(value, [metrics[metric] for metrics in resampled])
        for metric, value in rank_metrics(queries).items()
    }
