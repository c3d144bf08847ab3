"""What a model does with the clips of a split, clip by clip: the outcomes that are measured."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from supclap_jax.data.clips import Clips
from supclap_jax.errors import DataError
from supclap_jax.evaluate import metric_styles, zero_shot
from supclap_jax.evaluate.average_precision import rank_clips
from supclap_jax.evaluate.bootstrap import recall_error
from supclap_jax.evaluate.entropy import Entropy, contrastive_entropy
from supclap_jax.evaluate.retrieval import Retrieval, rank_embeddings, retrieval_table
from supclap_jax.inference import prompts
from supclap_jax.inference.embedder import Embedder

PROMPT_LANGUAGE = "eng_Latn"


class Pairs(NamedTuple):
    """Embedded clips with captions, in the headline language.

    Attributes:
      clips: those with captions in all languages.
      language: the headline one.
      audio: `[clips, dim]`, unit rows.
      text: `[captions, dim]`, unit rows.
      owner: int `[captions]`, the clip of each.
    """

    clips: Clips
    language: str
    audio: np.ndarray
    text: np.ndarray
    owner: np.ndarray


class Scores(NamedTuple):
    """Outcomes of one model, clip by clip.

    Attributes:
      clips: how many were embedded.
      retrieval: by language, the headline one first; over the clips with captions in all of them.
      entropy: of the same clips in the headline language, or None: without captions, or where the
        temperature is so low that logits are infinite.
      zero_shot: of the clips with a label, or None.
      annotated: average precision of DCASE's annotated queries, or None.
      pairs: what was ranked, or None without captions.
    """

    clips: int
    retrieval: dict[str, Retrieval]
    entropy: Entropy | None
    zero_shot: zero_shot.ZeroShot | None
    annotated: np.ndarray | None
    pairs: Pairs | None


def validate(embedder: Embedder, variables: dict, clips: Clips) -> dict[str, dict[str, float]]:
    """Retrieval of the clips with captions in the first language, "R@1_error" and "entropy".

    By direction; the error is that of `bootstrap.recall_error`.
    """
    language = next(iter(clips.captions))
    clips = clips.select(captioned(clips, [language]))
    audio = embedder.audio(variables, clips)
    text, owner = embed_captions(embedder, variables, clips, language)
    retrieval = rank_embeddings(audio, text, owner)
    table = retrieval_table(retrieval)
    entropy = _entropy(embedder, variables, clips, audio, text, owner)
    for direction, metrics in table.items():
        metrics["R@1_error"] = recall_error(getattr(retrieval, direction))
        metrics["entropy"] = float(getattr(entropy, direction).mean()) if entropy else math.nan
    return table


def score(
    embedder: Embedder,
    variables: dict,
    clips: Clips,
    config: ConfigDict,
    *,
    templates: Sequence[str] = prompts.PROMPTS,
    classes: tuple[str, ...] = (),
    relevance: Path | None = None,
) -> Scores:
    """Embeds the clips; ranks those with captions and classifies those with labels.

    Args:
      embedder: of the model.
      variables: of the model.
      clips: what to evaluate.
      config: of the run; the first of its languages that has captions is the headline one.
        Zero-shot is left out where it does not name English.
      templates: of the zero-shot prompts.
      classes: to choose among; by default all that the set's list names.
      relevance: file of annotated queries in the headline language, as in DCASE 2025.

    Raises:
      DataError: there are neither captions nor usable labels, a label is none of the classes, or
        `relevance` does not fit.
    """
    languages = [name for name in config.data.languages if any(clips.captions.get(name, ()))]
    chosen = captioned(clips, languages)
    labelled = [index for index, labels in enumerate(clips.labels) if labels]
    if PROMPT_LANGUAGE not in config.data.languages:
        labelled = []
    if not chosen and not labelled:
        raise DataError(
            f"none of the {len(clips)} clips can be evaluated: expected captions in "
            f"{', '.join(config.data.languages)} for retrieval, or labels and a run that was "
            f"trained on {PROMPT_LANGUAGE} for zero-shot"
        )
    few = clips.select(chosen)
    if relevance is not None:
        captions = _all_captions(few, languages[0]) if chosen else []
        queries, relevant = metric_styles.read_relevance(relevance, few, captions)

    audio = embedder.audio(variables, clips)
    retrieval, entropy, annotated, classified, pairs = {}, None, None, None, None
    for language in languages if chosen else ():
        text, owner = embed_captions(embedder, variables, few, language)
        if language == languages[0]:
            pairs = Pairs(few, language, audio[chosen], text, owner)
            entropy = _entropy(embedder, variables, few, audio[chosen], text, owner)
            if relevance is not None:
                annotated = metric_styles.annotated_average_precision(
                    audio[chosen], text[queries], relevant
                )
        retrieval[language] = rank_embeddings(audio[chosen], text, owner)
    if labelled:
        classified = _classify(embedder, variables, audio, clips, labelled, templates, classes)
    return Scores(len(clips), retrieval, entropy, classified, annotated, pairs)


def embed_captions(
    embedder: Embedder, variables: dict, clips: Clips, language: str
) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings `[captions, dim]` of all captions, and `[captions]` the clip of each."""
    captions = _all_captions(clips, language)
    owner = np.repeat(np.arange(len(clips)), [len(texts) for texts in clips.captions[language]])
    return embedder.text(variables, captions, language), owner


def _entropy(
    embedder: Embedder,
    variables: dict,
    clips: Clips,
    audio: np.ndarray,
    text: np.ndarray,
    owner: np.ndarray,
) -> Entropy | None:
    scale = embedder.logit_scale(variables)
    if not math.isfinite(scale):
        return None
    return contrastive_entropy(audio, text, owner, clips.names, scale)


def _all_captions(clips: Clips, language: str) -> list[str]:
    return [text for texts in clips.captions[language] for text in texts]


def captioned(clips: Clips, languages: Sequence[str]) -> list[int]:
    """The clips with captions in every one of `languages`."""
    return [
        index
        for index in range(len(clips))
        if languages and all(clips.captions[language][index] for language in languages)
    ]


def _classify(
    embedder: Embedder,
    variables: dict,
    audio: np.ndarray,
    clips: Clips,
    labelled: list[int],
    templates: Sequence[str],
    classes: tuple[str, ...],
) -> zero_shot.ZeroShot:
    given = set().union(*(clips.labels[index] for index in labelled))
    names = classes or tuple(sorted(given | set(clips.classes)))
    if strange := given - set(names):
        raise DataError(
            f"{len(strange)} of the clips' labels, such as {min(strange)!r}, are none of the "
            f"{len(names)} classes given; expected every label among them"
        )
    texts = [text for template in templates for text in prompts.label_prompts(names, template)]
    embedded = embedder.text(variables, texts, PROMPT_LANGUAGE)
    classes_text = prompts.class_embeddings(embedded.reshape(len(templates), len(names), -1))
    number = {name: index for index, name in enumerate(names)}
    positive = np.zeros((len(labelled), len(names)), bool)
    for row, index in enumerate(labelled):
        positive[row, [number[label] for label in clips.labels[index]]] = True
    ranking = rank_clips(audio[labelled], classes_text, positive)
    if any(len(clips.labels[index]) > 1 for index in labelled):
        return zero_shot.ZeroShot(names, ranking, None)
    label = positive.argmax(axis=1)
    predicted = zero_shot.classify(audio[labelled], classes_text, label)
    folds = [fold or None for fold in clips.folds] or [None] * len(clips)
    found = zero_shot.Classification(predicted, label, tuple(folds[index] for index in labelled))
    return zero_shot.ZeroShot(names, ranking, found)
