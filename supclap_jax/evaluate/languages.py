"""Retrieval in several languages: how much the rank of an example depends on the language."""

from collections.abc import Sequence

import numpy as np

from supclap_jax.evaluate.retrieval import Queries, Retrieval


def mean_rank_variance(languages: Sequence[Retrieval]) -> dict[str, float]:
    """Mean rank variance (MRV) across languages, in both directions.

        MRV = 1/(N K) sum_j sum_k (rank_jk - mean_k rank_jk)^2

    for N queries and K languages: recall says how good the languages are on the whole, this whether
    they are good at the same examples. 0 is full agreement. Text to audio, query j is the i-th
    caption of a clip in each language; where languages have different numbers of captions for a
    clip, the first ones that all have. Audio to text, it is the clip, with the rank of the best of
    its captions. (Nie et al., arXiv 2406.18254; for audio: Yin et al., arXiv 2502.14627.)

    Args:
      languages: results on the same clips, one for each language.

    Returns:
      `{"text_to_audio": variance, "audio_to_text": variance}`.
    """
    return {
        direction: float(
            _aligned_ranks([getattr(retrieval, direction) for retrieval in languages])
            .var(axis=0)
            .mean()
        )
        for direction in Retrieval._fields
    }


def _aligned_ranks(languages: Sequence[Queries]) -> np.ndarray:
    """Ranks `[languages, queries]` of the queries that all languages have."""
    shared = np.min([np.bincount(queries.clip) for queries in languages], axis=0)
    ranks = []
    for queries in languages:
        order = np.argsort(queries.clip, kind="stable")
        clip = queries.clip[order]
        place = np.arange(len(clip)) - np.searchsorted(clip, clip)
        ranks.append(queries.rank[order[place < shared[clip]]])
    return np.stack(ranks)
