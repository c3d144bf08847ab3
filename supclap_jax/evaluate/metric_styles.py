"""Retrieval metrics as other code bases compute them, to compare with the numbers they publish.

They agree with `retrieval.rank_metrics` except where a function here says so. Ties are decided as
there (against the model), since theirs are decided by an unstable sort. Read beside the correct
numbers, not instead of them.
"""

import ast
import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from supclap_jax.data.clips import Clips
from supclap_jax.errors import DataError
from supclap_jax.evaluate.retrieval import (
    Retrieval,
    exact_similarity,
    rank_metrics,
)

STYLES = ("laion", "cacophony", "dcase")
DCASE_DEPTH = 16
_DEPTH = 10
_BLOCK = 256

Table = dict[str, dict[str, float]]


def laion(retrieval: Retrieval) -> Table:
    """As LAION-CLAP's training code (`training/train.py`).

    Audio to text, mAP@10 walks through a clip's captions in the order of the data set instead of
    their ranks: the n-th caption found inside the top 10 counts as n / rank, over the number of
    captions of the clip. A clip whose later captions rank first can exceed 1. Text to audio, the
    median rank is rounded down. Mean and median rank audio to text are not reported.

    Returns:
      `{"text_to_audio": {"R@1", ..., "mAP@10"}, "audio_to_text": {...}}`, as `rank_metrics`.
    """
    text_to_audio, audio_to_text = _tables(retrieval)
    text_to_audio["median_rank"] = float(np.floor(text_to_audio["median_rank"]))
    queries = retrieval.audio_to_text
    found = queries.hit_rank <= _DEPTH
    precision = np.cumsum(found, axis=1) / queries.hit_rank
    relevant = np.bincount(retrieval.text_to_audio.clip)
    audio_to_text["mAP@10"] = _percent(np.where(found, precision, 0).sum(axis=1) / relevant)
    return {
        "text_to_audio": text_to_audio,
        "audio_to_text": _without_ranks(audio_to_text),
    }


def cacophony(retrieval: Retrieval) -> Table:
    """As Cacophony's evaluation (`retrieval_utils.py`).

    Audio to text, the precision at the hits is divided by the number of hits inside the top 10,
    not by the number of captions of the clip: one caption at rank 1 and four beyond rank 10 give 1.
    (Captions count by their place in the data set; Cacophony takes equal texts for one.) Mean and
    median rank are not reported.

    Returns:
      `{"text_to_audio": {"R@1", "R@5", "R@10", "mAP@10"}, "audio_to_text": {...}}`, in percent.
    """
    text_to_audio, audio_to_text = _tables(retrieval)
    hit_rank = np.sort(retrieval.audio_to_text.hit_rank, axis=1)
    found = hit_rank <= _DEPTH
    precision = np.arange(1, hit_rank.shape[1] + 1) / hit_rank
    hits = np.maximum(found.sum(axis=1), 1)
    audio_to_text["mAP@10"] = _percent(np.where(found, precision, 0).sum(axis=1) / hits)
    return {
        "text_to_audio": _without_ranks(text_to_audio),
        "audio_to_text": _without_ranks(audio_to_text),
    }


def dcase(retrieval: Retrieval, annotated: np.ndarray | None = None) -> Table:
    """As DCASE 2025, task 6: mAP@16, text to audio alone, several clips relevant to a query.

    Args:
      retrieval: its captions are the queries, each relevant to its own clip alone.
      annotated: average precision `[queries]` of annotated queries, from
        `annotated_average_precision`; it replaces that of all captions.

    Returns:
      `{"text_to_audio": {"mAP@16": percent, "queries": how many}}`.
    """
    if annotated is None:
        rank = retrieval.text_to_audio.rank
        annotated = np.where(rank <= DCASE_DEPTH, 1 / rank, 0)
    return {"text_to_audio": {"mAP@16": _percent(annotated), "queries": len(annotated)}}


def annotated_average_precision(
    audio: np.ndarray,
    text: np.ndarray,
    relevant: Sequence[Sequence[int]],
    *,
    depth: int = DCASE_DEPTH,
) -> np.ndarray:
    """Average precision of queries with several relevant clips each.

    The sum of the precision at the hits inside the top `depth`, over the number of relevant clips.
    Clips that are not relevant and score equal to a relevant one rank before it.

    Args:
      audio: `[clips, dim]`, unit rows.
      text: `[queries, dim]`, unit rows.
      relevant: for each query, the different indices of at least one clip.
      depth: where the ranking is cut off.

    Returns:
      float64 `[queries]`.
    """
    precision = np.empty(len(text))
    for start in range(0, len(text), _BLOCK):
        block = exact_similarity(text[start : start + _BLOCK], audio)
        for query, scores in enumerate(block, start):
            own = np.sort(scores[list(relevant[query])])[::-1]
            scores[list(relevant[query])] = -np.inf
            others = np.sort(scores)
            rank = np.arange(1, len(own) + 1) + len(others) - np.searchsorted(others, own, "left")
            hits = np.arange(1, len(own) + 1) / rank
            precision[query] = hits[rank <= depth].sum() / len(own)
    return precision


def read_relevance(
    path: Path, clips: Clips, captions: Sequence[str]
) -> tuple[list[int], list[list[int]]]:
    """Reads which clips are relevant to which queries, in the format of DCASE 2025.

    Args:
      path: a CSV file with the columns "query", the text of a caption, and "audio_filenames", a
        list such as `['a.wav', 'b.wav']`.
      clips: what is evaluated.
      captions: all captions of these clips in one language.

    Returns:
      For each row the index of its query in `captions`, and the indices of its relevant clips.

    Raises:
      DataError: the file cannot be read, or names a caption or clip that is not there.
    """
    place_of_caption = {caption: place for place, caption in reversed(list(enumerate(captions)))}
    names = clips.ids or [path.name for path in clips.paths]
    place_of_clip = {name: place for place, name in enumerate(names)}
    queries, relevant = [], []
    for row, query, names in _read_rows(path):
        if query not in place_of_caption:
            raise DataError(f"{path}, row {row}: no clip has the caption {query!r}; remove the row")
        missing = [name for name in names if name not in place_of_clip]
        if missing or not names:
            raise DataError(
                f"{path}, row {row}: audio_filenames names "
                f"{repr(missing[0]) if missing else 'no file'}; expected names of evaluation clips"
            )
        queries.append(place_of_caption[query])
        relevant.append(sorted({place_of_clip[name] for name in names}))
    if not queries:
        raise DataError(f"{path} lists no queries; expected a header and at least one row")
    return queries, relevant


def _read_rows(path: Path) -> Iterator[tuple[int, str, list[str]]]:
    """Row number, query and names of relevant files."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            if not {"query", "audio_filenames"} <= set(reader.fieldnames or []):
                raise DataError(
                    f"{path} has the columns {', '.join(reader.fieldnames or []) or '(none)'}; "
                    "expected 'query' and 'audio_filenames', named in the first row"
                )
            for row, fields in enumerate(reader, 2):
                names = _parse_list(fields["audio_filenames"] or "")
                if names is None:
                    raise DataError(
                        f"{path}, row {row}: audio_filenames is {fields['audio_filenames']!r}; "
                        "expected a list such as ['a.wav', 'b.wav']"
                    )
                yield row, (fields["query"] or "").strip(), names
    except (OSError, csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {str(path)!r}: {error}") from error


def _parse_list(text: str) -> list[str] | None:
    try:
        names = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    is_list = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return names if is_list else None


def _tables(retrieval: Retrieval) -> Iterator[dict[str, float]]:
    return (rank_metrics(queries) for queries in retrieval)


def _without_ranks(table: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in table.items() if not name.endswith("_rank")}


def _percent(values: np.ndarray) -> float:
    return float(100 * values.mean())
