"""Contrastive entropy at K candidates: a loss that compares across batch sizes and data sets.

The training loss grows with the batch size, and recall falls with the number of clips. Here every
query has the same number of candidates, which are drawn once and depend on the clips' names alone.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from supclap_jax.evaluate.retrieval import check_embeddings, check_owner, exact_similarity

CANDIDATES = 256


class Entropy(NamedTuple):
    """Cross entropies in nats, clip by clip, sorted by the clips' names.

    Attributes:
      candidates: K, those of each query; random guessing has entropy `log K`.
      text_to_audio: float64 `[clips]`, the mean over a clip's captions as queries.
      audio_to_text: float64 `[clips]`, the mean over a clip's captions as its positive.
    """

    candidates: int
    text_to_audio: np.ndarray
    audio_to_text: np.ndarray


def contrastive_entropy(
    audio: np.ndarray,
    text: np.ndarray,
    owner: np.ndarray,
    names: Sequence[str],
    logit_scale: float,
    *,
    candidates: int = CANDIDATES,
    seed: int = 0,
) -> Entropy:
    """InfoNCE of every pair of a clip and a caption of it, against K - 1 other clips.

    With the pair's audio and text `a_0, t_0` and those of the other clips `a_1 ... a_{K-1}` and
    `t_1 ... t_{K-1}`, one caption of each,

        text to audio: log sum_k exp(s (t_0 . a_k - t_0 . a_0)),
        audio to text: log sum_k exp(s (a_0 . t_k - a_0 . t_0)).

    The clips are laid on a circle at random, and a clip's candidates are those that follow it: any
    K - 1 others are as likely, and each clip is a candidate equally often. A clip's captions take
    turns, each clip beginning with a random one. Draws are made in the order of names, and scores
    are exact (`exact_similarity`), so no bit depends on the order of the clips.

    Args:
      audio: `[clips, dim]`, unit rows.
      text: `[captions, dim]`, unit rows.
      owner: int `[captions]`, the clip that each caption describes. Any order, any number of
        captions per clip, at least one.
      names: one for each clip, all different.
      logit_scale: 1 / temperature, above zero.
      candidates: K, at least 1. Where there are fewer clips, all are candidates.
      seed: of the draw.

    Raises:
      ValueError: as said above.
    """
    audio = check_embeddings("audio", audio)
    text = check_embeddings("text", text, dim=audio.shape[1])
    clips = len(audio)
    owner = check_owner(owner, captions=len(text), clips=clips)
    if not len(set(names)) == len(names) == clips:
        raise ValueError(
            f"names must be {clips} different names, one per clip, got {len(names)}, of which "
            f"{len(set(names))} differ."
        )
    if not (np.isfinite(logit_scale) and logit_scale > 0):
        raise ValueError(f"logit_scale must be finite and above zero, got {logit_scale}.")
    if candidates < 1:
        raise ValueError(f"candidates must be at least 1, got {candidates}.")
    candidates = min(candidates, clips)

    rng = np.random.default_rng(seed)
    place = rng.permutation(clips)  # on the circle, of the clips sorted by name
    by_name = np.array(sorted(range(clips), key=lambda clip: names[clip]))
    circle = by_name[np.argsort(place)]
    counts = np.bincount(owner)
    first = (np.cumsum(counts) - counts)[circle]
    counts, captions = counts[circle], np.argsort(owner, kind="stable")
    turn = rng.integers(counts)

    audio = audio[circle]
    text_to_audio, audio_to_text = np.zeros((2, clips))
    for step in range(counts.max()):
        shown = text[captions[first + (turn + step) % counts]]
        share = (step < counts) / counts
        text_to_audio += share * _entropies(shown, audio, logit_scale, candidates)
        audio_to_text += share * _entropies(audio, shown, logit_scale, candidates)
    return Entropy(candidates, text_to_audio[place], audio_to_text[place])


def _entropies(query: np.ndarray, key: np.ndarray, scale: float, candidates: int) -> np.ndarray:
    """Of query i against keys i, i + 1, ... on the circle; the first is its positive; `[clips]`."""
    clips = len(query)
    entropies = np.empty(clips)
    for start in range(0, clips, candidates):
        rows = np.arange(start, min(start + candidates, clips))
        window = np.arange(start, start + min(len(rows) + candidates - 1, clips)) % clips
        scores = exact_similarity(query[rows], key[window])
        columns = (np.arange(len(rows))[:, None] + np.arange(candidates)) % len(window)
        logits = scale * np.take_along_axis(scores, columns, axis=1)
        entropies[rows] = np.logaddexp.reduce(logits - logits[:, :1], axis=1)
    return entropies
