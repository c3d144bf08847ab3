"""Audio-text retrieval: the rank of every query and the tables made of them.

A candidate that is not relevant and scores equal to a relevant one counts as ranked before it.
Whether two scores are equal must therefore not depend on the order in which a matrix product
adds its terms. `exact_similarity` makes sure of it, so that the results are the same for every
block size, thread count and machine.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

RECALL_DEPTHS = (1, 5, 10)
AVERAGE_PRECISION_DEPTH = 10
BLOCK_SIZE = 1024
NEVER = np.iinfo(np.int64).max  # the rank of a relevant candidate that is not there

_FIXED_POINT = 2.0**26
_NORM_TOLERANCE = 0.01

Similarity = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Queries(NamedTuple):
    """Results of one retrieval direction, one entry per query.

    Attributes:
      rank: int `[queries]`, the rank of the best relevant candidate, from 1.
      average_precision: float64 `[queries]` in [0, 1], cut off at rank 10.
      clip: int `[queries]`, the clip that each query belongs to.
      hit_rank: int `[queries, hits]`, the ranks of up to ten relevant candidates, the best ones, in
        the order in which the candidates were given; places left over hold `NEVER`. Equal ones
        rank in that order, too.
    """

    rank: np.ndarray
    average_precision: np.ndarray
    clip: np.ndarray
    hit_rank: np.ndarray


class Retrieval(NamedTuple):
    """Results of both directions: `[captions]` queries text to audio, `[clips]` audio to text."""

    text_to_audio: Queries
    audio_to_text: Queries


def rank_embeddings(
    audio: np.ndarray, text: np.ndarray, owner: np.ndarray, *, block_size: int = BLOCK_SIZE
) -> Retrieval:
    """Ranks all clips for every caption and all captions for every clip.

    Args:
      audio: `[clips, dim]`, unit rows.
      text: `[captions, dim]`, unit rows.
      owner: int `[captions]`, the clip that each caption describes. Any order, any number of
        captions per clip, at least one.
      block_size: clips and captions compared at once. Memory grows with its square; the results
        do not depend on it.
    """
    audio = check_embeddings("audio", audio)
    text = check_embeddings("text", text, dim=audio.shape[1])
    owner = check_owner(owner, captions=len(text), clips=len(audio))

    def similarity(captions: np.ndarray, clips: np.ndarray) -> np.ndarray:
        return exact_similarity(text[captions], audio[clips])

    return rank_similarity(similarity, owner, block_size=block_size)


def rank_similarity(
    similarity: np.ndarray | Similarity, owner: np.ndarray, *, block_size: int = BLOCK_SIZE
) -> Retrieval:
    """Ranks from a similarity matrix, or from a function that computes blocks of it.

    Args:
      similarity: `[captions, clips]`, or a function `(captions, clips) -> block` that takes index
        arrays `[r]` and `[c]` and returns the scores `[r, c]`. A pair must get the same score in
        whichever block it is asked for.
      owner: int `[captions]`, the clip that each caption describes.
      block_size: the largest `r` and `c` asked for.
    """
    if block_size < 1:
        raise ValueError(f"block_size must be at least 1, got {block_size}.")
    if not callable(similarity):
        owner, similarity = _check_matrix(similarity, owner)
    owner = check_owner(owner)
    order = np.argsort(owner, kind="stable")
    ranking = _rank_sorted(_sorted_blocks(similarity, order), owner[order], block_size)

    caption_rank = np.empty(len(owner), np.int64)
    caption_rank[order] = ranking.caption_rank
    return Retrieval(
        Queries(caption_rank, _reciprocal_rank(caption_rank), owner, caption_rank[:, None]),
        Queries(
            ranking.hit_rank[0],
            _average_precision(ranking.hit_rank, np.bincount(owner)),
            np.arange(ranking.hit_rank.shape[1]),
            np.take_along_axis(ranking.hit_rank, np.argsort(ranking.hit, axis=0), axis=0).T,
        ),
    )


def rank_metrics(queries: Queries, clip_weight: np.ndarray | None = None) -> dict[str, float]:
    """R@1, R@5, R@10 and mAP@10 in percent; median and mean rank, from 1.

    Args:
      queries: the results of one direction.
      clip_weight: int `[clips]`, how often each clip counts (in a bootstrap resample); once by
        default. A clip brings all of its queries.
    """
    weight = np.ones(len(queries.rank)) if clip_weight is None else clip_weight[queries.clip]
    histogram = np.bincount(queries.rank, weights=weight, minlength=max(RECALL_DEPTHS) + 1)
    up_to_rank = np.cumsum(histogram)
    total = up_to_rank[-1]
    middle = np.searchsorted(up_to_rank, [(total - 1) // 2, total // 2], side="right")
    return {
        **{f"R@{k}": float(100 * up_to_rank[k] / total) for k in RECALL_DEPTHS},
        "median_rank": float(middle.mean()),
        "mean_rank": float(weight @ queries.rank / total),
        f"mAP@{AVERAGE_PRECISION_DEPTH}": float(100 * weight @ queries.average_precision / total),
    }


def retrieval_table(retrieval: Retrieval) -> dict[str, dict[str, float]]:
    """`rank_metrics` by direction: `{"text_to_audio": {"R@1": ...}, "audio_to_text": {...}}`."""
    return {direction: rank_metrics(queries) for direction, queries in retrieval._asdict().items()}


def exact_similarity(query: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Inner products that do not depend on the order of summation.

    The entries of unit rows are rounded to multiples of 2^-26. Their products are multiples of
    2^-52 and all partial sums stay below 2, so float64 holds each of them without rounding, and
    equal rows score equal to the last bit wherever they stand in a product. The rounding moves a
    score by less than the error of a float32 product.

    Args:
      query: `[queries, dim]`, unit rows.
      key: `[keys, dim]`, unit rows.

    Returns:
      float64 `[queries, keys]`.
    """
    return _fixed_point(query) @ _fixed_point(key).T


def check_embeddings(name: str, embeddings: np.ndarray, dim: int | None = None) -> np.ndarray:
    """Returns `embeddings` as an array `[rows, dim]`; ValueError unless its rows have unit norm."""
    embeddings = np.asarray(embeddings)
    if embeddings.ndim != 2 or 0 in embeddings.shape:
        raise ValueError(f"{name} must have shape [rows, dim], got {list(embeddings.shape)}.")
    if dim not in (None, embeddings.shape[1]):
        raise ValueError(f"{name} has dim {embeddings.shape[1]}, expected {dim} as in audio.")
    norm = np.sqrt(np.einsum("nd,nd->n", embeddings, embeddings, dtype=np.float64))
    wrong = np.flatnonzero(~(np.abs(norm - 1) <= _NORM_TOLERANCE))
    if wrong.size:
        raise ValueError(
            f"{name} must have rows of unit norm, but {wrong.size} of {len(norm)} do not: "
            f"row {wrong[0]} has norm {norm[wrong[0]]:.4g}."
        )
    return embeddings


class _SortedRanking(NamedTuple):
    caption_rank: np.ndarray  # [captions]
    hit_rank: np.ndarray  # [depth, clips], ascending; NEVER once a clip's captions run out
    hit: np.ndarray  # [depth, clips], which caption it is; past the last one likewise


def _rank_sorted(similarity: Similarity, owner: np.ndarray, block_size: int) -> _SortedRanking:
    """Ranks of captions that are sorted by owner."""
    own_score = _own_scores(similarity, owner, block_size)
    hit_score, hit = _best_own_scores(own_score, owner)
    depth, clip_count = hit_score.shape
    ahead_of_caption = np.zeros(len(owner), np.int64)
    ahead_of_hit = np.zeros((depth, clip_count), np.int64)

    for captions in _index_blocks(len(owner), block_size):
        for clips in _index_blocks(clip_count, block_size):
            irrelevant = similarity(captions, clips)
            own = np.flatnonzero((owner[captions] >= clips[0]) & (owner[captions] <= clips[-1]))
            irrelevant[own, owner[captions[own]] - clips[0]] = -np.inf
            not_below = irrelevant >= own_score[captions, None]
            ahead_of_caption[captions] += np.count_nonzero(not_below, axis=1)
            for place in range(depth):
                not_below = irrelevant >= hit_score[place, clips]
                ahead_of_hit[place, clips] += np.count_nonzero(not_below, axis=0)

    hit_rank = 1 + np.arange(depth)[:, None] + ahead_of_hit
    missing = np.isposinf(hit_score)
    return _SortedRanking(1 + ahead_of_caption, np.where(missing, NEVER, hit_rank), hit)


def _own_scores(similarity: Similarity, owner: np.ndarray, block_size: int) -> np.ndarray:
    """Score `[captions]` of each caption with its own clip; captions sorted by owner."""
    scores = np.empty(len(owner))
    for captions in _index_blocks(len(owner), block_size):
        first, last = owner[captions[[0, -1]]]
        block = similarity(captions, np.arange(first, last + 1))
        scores[captions] = block[np.arange(len(captions)), owner[captions] - first]
    return scores


def _best_own_scores(own_score: np.ndarray, owner: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores and indices `[depth, clips]` of each clip's best own captions, best first.

    Past a clip's last caption the scores are +inf and the indices beyond all captions.
    """
    caption_count = np.bincount(owner)
    depth = min(caption_count.max(), AVERAGE_PRECISION_DEPTH)
    first_caption = np.cumsum(caption_count) - caption_count
    best_first = np.lexsort((-own_score, owner))
    place = np.arange(len(owner)) - first_caption[owner]
    kept = place < depth
    best = np.full((depth, len(caption_count)), np.inf)
    best[place[kept], owner[kept]] = own_score[best_first[kept]]
    caption = np.full(best.shape, len(owner))
    caption[place[kept], owner[kept]] = best_first[kept]
    return best, caption


def _reciprocal_rank(rank: np.ndarray) -> np.ndarray:
    return np.where(rank <= AVERAGE_PRECISION_DEPTH, 1 / rank, 0.0)


def _average_precision(hit_rank: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """Sum of the precision at the hits inside the top 10, over the number of relevant captions."""
    precision = np.arange(1, len(hit_rank) + 1)[:, None] / hit_rank
    return np.where(hit_rank <= AVERAGE_PRECISION_DEPTH, precision, 0.0).sum(axis=0) / relevant


def _sorted_blocks(similarity: Similarity, order: np.ndarray) -> Similarity:
    """Blocks for captions in the given order, checked, and free to be written to."""

    def block(captions: np.ndarray, clips: np.ndarray) -> np.ndarray:
        scores = np.array(similarity(order[captions], clips), np.float64)
        if scores.shape != (len(captions), len(clips)):
            raise ValueError(
                f"similarity returned a block of shape {list(scores.shape)} for "
                f"{len(captions)} captions and {len(clips)} clips."
            )
        if not np.isfinite(scores).all():
            raise ValueError("similarity must be finite, but contains NaN or infinite scores.")
        return scores

    return block


def _index_blocks(size: int, block_size: int) -> Iterator[np.ndarray]:
    for start in range(0, size, block_size):
        yield np.arange(start, min(start + block_size, size))


def _fixed_point(unit_rows: np.ndarray) -> np.ndarray:
    return np.rint(unit_rows.astype(np.float64) * _FIXED_POINT) / _FIXED_POINT


def _check_matrix(similarity: np.ndarray, owner: np.ndarray) -> tuple[np.ndarray, Similarity]:
    similarity = np.asarray(similarity)
    if similarity.ndim != 2:
        raise ValueError(
            f"similarity must have shape [captions, clips], got {list(similarity.shape)}."
        )
    captions, clips = similarity.shape
    owner = check_owner(owner, captions=captions, clips=clips)
    return owner, lambda rows, columns: similarity[np.ix_(rows, columns)]


def check_owner(
    owner: np.ndarray, *, captions: int | None = None, clips: int | None = None
) -> np.ndarray:
    """Returns `owner` as an int array `[captions]` that names each of the clips at least once."""
    owner = np.asarray(owner)
    if owner.ndim != 1 or owner.size == 0 or not np.issubdtype(owner.dtype, np.integer):
        raise ValueError(
            f"owner must be integers of shape [captions], got {owner.dtype} {list(owner.shape)}."
        )
    if captions not in (None, len(owner)):
        raise ValueError(f"owner names the clips of {len(owner)} captions, expected {captions}.")
    clips = owner.max() + 1 if clips is None else clips
    if owner.min() < 0 or owner.max() >= clips:
        raise ValueError(
            f"owner must lie in [0, {clips}), got values from {owner.min()} to {owner.max()}."
        )
    without = np.flatnonzero(np.bincount(owner, minlength=clips) == 0)
    if without.size:
        raise ValueError(
            f"Every clip needs a caption, but {without.size} of {clips} have none in owner, "
            f"clip {without[0]} first."
        )
    return owner.astype(np.int64)
