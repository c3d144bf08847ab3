"""Zero-shot classification: the class whose prompt is nearest to the clip."""

from collections.abc import Sequence

import numpy as np

from supclap_jax.evaluate.bootstrap import RESAMPLES, bootstrap_mean
from supclap_jax.evaluate.retrieval import BLOCK_SIZE, check_embeddings, exact_similarity

PROMPT = "This is a sound of {}."


def label_prompts(labels: Sequence[str], prompt: str = PROMPT) -> list[str]:
    """One prompt per label, underscores read as spaces: "This is a sound of dog bark."

    Args:
      labels: class names as the data set spells them.
      prompt: text with one `{}`.
    """
    if prompt.count("{}") != 1:
        raise ValueError(f"prompt must contain {{}} once, got {prompt!r}.")
    return [prompt.replace("{}", label.replace("_", " ")) for label in labels]


def zero_shot(
    audio: np.ndarray,
    classes_text: np.ndarray,
    label: np.ndarray,
    *,
    names: Sequence[str],
    seed: int,
    resamples: int = RESAMPLES,
) -> dict:
    """Accuracy of taking the nearest class, in percent, with its 95 % interval over clips.

    A clip is right if its class scores above every other class; a tie is wrong.

    Args:
      audio: `[clips, dim]`, unit rows.
      classes_text: `[classes, dim]`, unit rows, the embedded prompts.
      label: int `[clips]` in `[0, classes)`.
      names: `[classes]` class names, all different.
      seed: of the bootstrap.
      resamples: of the bootstrap.

    Returns:
      `{"accuracy": {"value": v, "low": l, "high": h}, "clips": N, "classes": C, "per_class":
      {name: {"accuracy": a, "clips": n}}}`. Classes without a clip are left out of `per_class`.
    """
    audio = check_embeddings("audio", audio)
    classes_text = check_embeddings("classes_text", classes_text, dim=audio.shape[1])
    label = _check_labels(label, names, clips=len(audio), classes=len(classes_text))
    percent = 100.0 * _is_nearest(audio, classes_text, label)
    clip_count = np.bincount(label, minlength=len(names))
    percent_sum = np.bincount(label, weights=percent, minlength=len(names))
    return {
        "accuracy": bootstrap_mean(percent, seed=seed, resamples=resamples),
        "clips": len(audio),
        "classes": len(classes_text),
        "per_class": {
            name: {"accuracy": float(total / clips), "clips": int(clips)}
            for name, total, clips in zip(names, percent_sum, clip_count, strict=True)
            if clips
        },
    }


def _is_nearest(audio: np.ndarray, classes_text: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Whether each clip's own class scores strictly above all others; bool `[clips]`."""
    correct = np.empty(len(audio), bool)
    for start in range(0, len(audio), BLOCK_SIZE):
        clips = slice(start, start + BLOCK_SIZE)
        scores = exact_similarity(audio[clips], classes_text)
        own_score = np.take_along_axis(scores, label[clips, None], axis=1)
        correct[clips] = np.count_nonzero(scores >= own_score, axis=1) == 1
    return correct


def _check_labels(
    label: np.ndarray, names: Sequence[str], *, clips: int, classes: int
) -> np.ndarray:
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
    if len(names) != classes or len(set(names)) != classes:
        raise ValueError(
            f"names must be {classes} different class names, one per row of classes_text, "
            f"got {len(names)} of which {len(set(names))} differ."
        )
    return label
