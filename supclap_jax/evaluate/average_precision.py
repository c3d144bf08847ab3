"""Mean average precision over classes: how well a class's score ranks the clips."""

from typing import NamedTuple

import numpy as np

from supclap_jax.evaluate.bootstrap import Estimate, resample_clips
from supclap_jax.evaluate.retrieval import check_embeddings, exact_similarity

CLASSES_AT_ONCE = 64
RESAMPLES_AT_ONCE = 100


class ClassRanking(NamedTuple):
    """The clips, from the highest score for a class to the lowest.

    Attributes:
      order: int32 `[classes, clips]`; of equal scores, clips of the class come last.
      hit: bool `[classes, clips]`, whether the clip at each place is of the class.
    """

    order: np.ndarray
    hit: np.ndarray


def rank_clips(audio: np.ndarray, classes_text: np.ndarray, positive: np.ndarray) -> ClassRanking:
    """Ranks all clips for every class.

    Args:
      audio: `[clips, dim]`, unit rows.
      classes_text: `[classes, dim]`, unit rows.
      positive: bool `[clips, classes]`, which classes each clip is of.
    """
    audio = check_embeddings("audio", audio)
    classes_text = check_embeddings("classes_text", classes_text, dim=audio.shape[1])
    if positive.shape != (len(audio), len(classes_text)):
        raise ValueError(
            f"positive must have shape [{len(audio)}, {len(classes_text)}], got "
            f"{list(positive.shape)}."
        )
    order = np.empty((len(classes_text), len(audio)), np.int32)
    for start in range(0, len(order), CLASSES_AT_ONCE):
        block = slice(start, start + CLASSES_AT_ONCE)
        scores = exact_similarity(classes_text[block], audio)
        order[block] = np.lexsort((positive.T[block], -scores))
    return ClassRanking(order, np.take_along_axis(positive.T, order, axis=1))


def average_precision(ranking: ClassRanking) -> np.ndarray:
    """Of each class: the mean, over its clips, of the share of its clips among those up to them.

        AP = 1/P sum_k [clip k is of the class] (clips of the class up to k) / k

    Returns:
      float64 `[classes]` in [0, 1]; nan for classes without clips.
    """
    every = np.ones((ranking.hit.shape[1], 1), np.uint16)
    return np.array([_weighted(*rows, every)[0] for rows in zip(*ranking, strict=True)])


def bootstrap_mean_average_precision(
    ranking: ClassRanking, *, seed: int, resamples: int
) -> Estimate:
    """The mean of `average_precision` over the classes with clips (in a resample), in percent.

    Clips that were drawn several times weigh as much, but their copies are no hits of each other:
    each hit's precision is that among the other clips above it, with itself once.
    """
    counts = resample_clips(ranking.hit.shape[1], seed, resamples)
    resampled = []
    for start in range(0, resamples, RESAMPLES_AT_ONCE):
        size = min(RESAMPLES_AT_ONCE, resamples - start)
        count = np.stack([next(counts) for _ in range(size)], axis=1).astype(np.uint16)
        by_class = [_weighted(*rows, count) for rows in zip(*ranking, strict=True)]
        resampled.append(np.nanmean(by_class, axis=0))
    value = np.nanmean(average_precision(ranking))
    return Estimate(100 * float(value), 100 * np.concatenate(resampled))


def _weighted(order: np.ndarray, hit: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Average precision `[resamples]` of a class; `count [clips, resamples]`, how often each is."""
    places = np.flatnonzero(hit)
    if not len(places):
        return np.full(count.shape[1], np.nan)
    ranked = count[order[: places[-1] + 1]]
    starts = np.concatenate([[0], places[:-1] + 1])
    up_to = np.cumsum(np.add.reduceat(ranked, starts, axis=0, dtype=np.int64), axis=0)
    weight = ranked[places].astype(np.int64)
    hits = np.cumsum(weight, axis=0)
    precision = (hits - weight + 1) / (up_to - weight + 1)
    with np.errstate(invalid="ignore"):
        return (weight * precision).sum(axis=0) / hits[-1]
