"""What each query found: its own answer and the best wrong one, clip by clip."""

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from supclap_jax.data.clips import Clips
from supclap_jax.evaluate.bootstrap import OF_95_PERCENT, recall_error
from supclap_jax.evaluate.retrieval import BLOCK_SIZE, Queries, Retrieval, exact_similarity
from supclap_jax.files import write_whole

GROUPS = 4  # of clips, by length and the like
COLUMNS = (
    "direction",
    "clip",
    "caption",
    "rank",
    "cosine",
    "wrong_clip",
    "wrong_caption",
    "wrong_cosine",
    "words",
    "seconds",
    "events",
)


class Answers(NamedTuple):
    """The best answers of one direction, an entry a query.

    Attributes:
      right: int `[queries]`, the most similar key of the query's own clip.
      right_cosine: float64 `[queries]`.
      wrong: int `[queries]`, the most similar key of another clip; -1 where there is no other.
      wrong_cosine: float64 `[queries]`; minus infinity there.
    """

    right: np.ndarray
    right_cosine: np.ndarray
    wrong: np.ndarray
    wrong_cosine: np.ndarray


def best_answers(
    query: np.ndarray, key: np.ndarray, query_clip: np.ndarray, key_clip: np.ndarray
) -> Answers:
    """Finds them in blocks; of equal keys the first counts.

    Args:
      query: `[queries, dim]`, unit rows.
      key: `[keys, dim]`, unit rows.
      query_clip: int `[queries]`, the clip of each.
      key_clip: int `[keys]`.
    """
    count = len(query)
    answers = Answers(*(f(count) for f in (_none, _worst, _none, _worst)))
    for first in range(0, count, BLOCK_SIZE):
        rows = slice(first, min(first + BLOCK_SIZE, count))
        for start in range(0, len(key), BLOCK_SIZE):
            columns = slice(start, start + BLOCK_SIZE)
            cosine = exact_similarity(query[rows], key[columns])
            is_own = query_clip[rows, None] == key_clip[None, columns]
            _keep_better(answers.right, answers.right_cosine, rows, start, cosine, is_own)
            _keep_better(answers.wrong, answers.wrong_cosine, rows, start, cosine, ~is_own)
    return answers


def write_answers(
    path: Path, clips: Clips, retrieval: Retrieval, answers: Retrieval, language: str
) -> None:
    """Writes a CSV file, a row for each caption that seeks its clip, then for each clip.

    Args:
      path: the file.
      clips: with captions, as they were ranked.
      retrieval: ranks of both directions.
      answers: likewise, of `Answers`.
      language: of the captions.
    """
    captions = [text for texts in clips.captions[language] for text in texts]
    owner = retrieval.text_to_audio.clip
    content = io.StringIO(newline="")
    table = csv.writer(content)
    table.writerow(COLUMNS)
    for direction, queries in retrieval._asdict().items():
        found = getattr(answers, direction)
        by_text = direction == "text_to_audio"
        for query, clip in enumerate(queries.clip):
            caption = captions[query if by_text else found.right[query]]
            wrong = found.wrong[query]
            wrong_caption = "" if by_text or wrong < 0 else captions[wrong]
            wrong_clip = wrong if by_text else owner[wrong]
            table.writerow(
                [
                    direction,
                    clips.names[clip],
                    caption,
                    queries.rank[query],
                    f"{found.right_cosine[query]:.6f}",
                    clips.names[wrong_clip] if wrong >= 0 else "",
                    wrong_caption,
                    f"{found.wrong_cosine[query]:.6f}" if wrong >= 0 else "",
                    len(caption.split()),
                    f"{clips.seconds[clip]:.3f}" if len(clips.seconds) else "",
                    clips.events[clip] if len(clips.events) else "",
                ]
            )
    write_whole(path, content.getvalue().encode())


def recall_by(clips: Clips, retrieval: Retrieval, language: str) -> dict[str, dict[str, list]]:
    """R@1 by "words" of the caption, "seconds" of the clip and number of "events", where known.

    Returns:
      `{"words": {"text_to_audio": [{"from", "to", "queries", "R@1": {"value", "low", "high"}}]},
      "seconds": {"text_to_audio": ..., "audio_to_text": ...}, "events": ...}`: up to `GROUPS`
      groups of queries of about one size, in percent; the interval is 1.96 standard errors over
      clips. What is the same for all queries is left out.
    """
    captions = [text for texts in clips.captions[language] for text in texts]
    words = np.array([len(caption.split()) for caption in captions])
    facts: dict[str, Callable[[str, Queries], np.ndarray]] = {
        "words": lambda direction, _: words if direction == "text_to_audio" else words[:0]
    }
    for name in ("seconds", "events"):
        if len(values := np.array(getattr(clips, name))):
            facts[name] = lambda _, queries, values=values: values[queries.clip]
    found = {}
    for name, value_of in facts.items():
        for direction, queries in retrieval._asdict().items():
            values = value_of(direction, queries)
            if len(values) and values.min() < values.max():
                found.setdefault(name, {})[direction] = _by_group(queries, values)
    return found


def _by_group(queries: Queries, values: np.ndarray) -> list[dict]:
    edges = np.unique(np.quantile(values, np.arange(1, GROUPS) / GROUPS, method="lower"))
    group = np.searchsorted(edges, values, side="left")
    rows = []
    for number in np.unique(group):
        chosen = group == number
        _, clip = np.unique(queries.clip[chosen], return_inverse=True)
        few = queries._replace(rank=queries.rank[chosen], clip=clip)
        recall, error = 100.0 * np.mean(few.rank == 1), OF_95_PERCENT * recall_error(few)
        interval = {"low": max(recall - error, 0.0), "high": min(recall + error, 100.0)}
        rows.append(
            {
                "from": values[chosen].min().item(),
                "to": values[chosen].max().item(),
                "queries": int(chosen.sum()),
                "R@1": {"value": float(recall), **{k: float(v) for k, v in interval.items()}},
            }
        )
    return rows


def _none(count: int) -> np.ndarray:
    return np.full(count, -1)


def _worst(count: int) -> np.ndarray:
    return np.full(count, -np.inf)


def _keep_better(
    best: np.ndarray,
    best_cosine: np.ndarray,
    rows: slice,
    start: int,
    cosine: np.ndarray,
    allowed: np.ndarray,
) -> None:
    """Updates `rows` of the best in place, from a block of keys that begins at `start`."""
    cosine = np.where(allowed, cosine, -np.inf)
    place = cosine.argmax(axis=1)
    value = cosine[np.arange(len(cosine)), place]
    better = value > best_cosine[rows]
    best[rows] = np.where(better, start + place, best[rows])
    best_cosine[rows] = np.where(better, value, best_cosine[rows])
