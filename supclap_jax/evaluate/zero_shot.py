"""Zero-shot classification: the class whose prompts are nearest to the clip."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from supclap_jax.evaluate.average_precision import ClassRanking, average_precision
from supclap_jax.evaluate.retrieval import BLOCK_SIZE, check_embeddings, exact_similarity


class Classification(NamedTuple):
    """What each clip, of one class, was taken for.

    Attributes:
      predicted: int `[clips]`, in `[0, classes)`.
      label: int `[clips]`, the class it is.
      folds: for each clip the fold of the data set it belongs to, or None.
    """

    predicted: np.ndarray
    label: np.ndarray
    folds: tuple[int | None, ...]

    @property
    def correct(self) -> np.ndarray:
        """Bool `[clips]`."""
        return self.predicted == self.label


class ZeroShot(NamedTuple):
    """How clips and classes fit together.

    Attributes:
      names: the class names.
      ranking: of the clips, for every class.
      classification: of the clips; None where any of them has several labels.
    """

    names: tuple[str, ...]
    ranking: ClassRanking
    classification: Classification | None


def classify(audio: np.ndarray, classes_text: np.ndarray, label: np.ndarray) -> np.ndarray:
    """The nearest class of each clip; int `[clips]`.

    A clip is taken for its own class only if that scores above every other; a tie is wrong.

    Args:
      audio: `[clips, dim]`, unit rows.
      classes_text: `[classes, dim]`, unit rows.
      label: int `[clips]` in `[0, classes)`.
    """
    audio = check_embeddings("audio", audio)
    classes_text = check_embeddings("classes_text", classes_text, dim=audio.shape[1])
    label = _check_labels(label, clips=len(audio), classes=len(classes_text))
    predicted = np.empty(len(audio), np.int64)
    for start in range(0, len(audio), BLOCK_SIZE):
        own = label[start : start + BLOCK_SIZE]
        clip = np.arange(len(own))
        scores = exact_similarity(audio[start : start + BLOCK_SIZE], classes_text)
        own_score = scores[clip, own]
        scores[clip, own] = -np.inf
        other = scores.argmax(axis=1)
        predicted[start + clip] = np.where(own_score > scores[clip, other], own, other)
    return predicted


def confusion(classification: Classification, classes: int) -> np.ndarray:
    """How many clips of each class (row) were taken for each class; int `[classes, classes]`."""
    count = np.zeros((classes, classes), np.int64)
    np.add.at(count, (classification.label, classification.predicted), 1)
    return count


def per_class(result: ZeroShot) -> dict[str, dict[str, float | int]]:
    """`{name: {"AP": percent, "clips": n}}`, without classes that no clip belongs to.

    With "accuracy" where no clip has several labels.
    """
    precision, clips = 100 * average_precision(result.ranking), result.ranking.hit.sum(axis=1)
    rows = {
        name: {"AP": float(precision[i]), "clips": int(clips[i])}
        for i, name in enumerate(result.names)
        if clips[i]
    }
    if result.classification is not None:
        found = _by_group(result.classification, result.names, result.classification.label)
        rows = {name: {"accuracy": found[name]["accuracy"]} | row for name, row in rows.items()}
    return rows


def per_fold(classification: Classification) -> dict[str, dict[str, float | int]]:
    """`{fold: {"accuracy": percent, "clips": n}}`; empty where the data set has no folds."""
    folds = [fold for fold in classification.folds if fold is not None]
    if len(folds) < len(classification.folds):
        return {}
    numbers, group = np.unique(folds, return_inverse=True)
    return _by_group(classification, [str(number) for number in numbers], group)


def _by_group(classification: Classification, names: Sequence[str], group: np.ndarray) -> dict:
    clips = np.bincount(group, minlength=len(names))
    correct = np.bincount(group, weights=classification.correct, minlength=len(names))
    return {
        name: {"accuracy": float(100 * correct[i] / clips[i]), "clips": int(clips[i])}
        for i, name in enumerate(names)
        if clips[i]
    }


def _check_labels(label: np.ndarray, *, clips: int, classes: int) -> np.ndarray:
    label = np.asarray(label)
    if label.shape != (clips,) or not np.issubdtype(label.dtype, np.integer):
        raise ValueError(
            f"label must be integers of shape [{clips}], one per clip, "
            f"got {label.dtype} {list(label.shape)}."
        )
    if label.min() < 0 or label.max() >= classes:
        raise ValueError(
            f"label must lie in [0, {classes}), got values from {label.min()} to {label.max()}."
        )
    return label
