"""The evaluation of a model on one split, in three steps: outcomes, estimates, report.

`score` says what the model did with each clip, `estimate` measures that with a bootstrap over
clips, and `report` and `compare` put the measures of one or two models into a dict for JSON.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from supclap_jax.data.clips import Clips
from supclap_jax.errors import DataError
from supclap_jax.evaluate import metric_styles, zero_shot
from supclap_jax.evaluate.average_precision import bootstrap_mean_average_precision, rank_clips
from supclap_jax.evaluate.bootstrap import (
    Estimate,
    average,
    bootstrap_mean,
    bootstrap_retrieval,
    difference,
    interval,
)
from supclap_jax.evaluate.entropy import Entropy, contrastive_entropy
from supclap_jax.evaluate.languages import mean_rank_variance
from supclap_jax.evaluate.retrieval import Retrieval, rank_embeddings, retrieval_table
from supclap_jax.inference.embedder import Embedder

PROMPT_LANGUAGE = "eng_Latn"


class Scores(NamedTuple):
    """Outcomes of one model, clip by clip.

    Attributes:
      clips: how many were embedded.
      retrieval: by language, the headline one first; over the clips with captions in all of them.
      entropy: of the same clips in the headline language, or None: without captions, or where the
        temperature is so low that logits are infinite.
      zero_shot: of the clips with a label, or None.
      annotated: average precision of DCASE's annotated queries, or None.
    """

    clips: int
    retrieval: dict[str, Retrieval]
    entropy: Entropy | None
    zero_shot: zero_shot.ZeroShot | None
    annotated: np.ndarray | None


class Estimates(NamedTuple):
    """Bootstrapped metrics of one model.

    Attributes:
      per_language: language -> direction -> metric.
      average: direction -> metric, the mean over languages; empty with fewer than two.
      entropy: direction -> contrastive entropy in nats; empty where there is none.
      zero_shot: "accuracy", where no clip has several labels, and "mAP", in percent; or empty.
    """

    per_language: dict[str, dict[str, dict[str, Estimate]]]
    average: dict[str, dict[str, Estimate]]
    entropy: dict[str, Estimate]
    zero_shot: dict[str, Estimate]


def validate(embedder: Embedder, variables: dict, clips: Clips) -> dict[str, dict[str, float]]:
    """Retrieval and "entropy" of the clips with captions in the first language, no intervals."""
    language = next(iter(clips.captions))
    clips = clips.select(captioned(clips, [language]))
    audio = embedder.audio(variables, clips)
    text, owner = embed_captions(embedder, variables, clips, language)
    table = retrieval_table(rank_embeddings(audio, text, owner))
    entropy = _entropy(embedder, variables, clips, audio, text, owner)
    for direction, metrics in table.items():
        metrics["entropy"] = float(getattr(entropy, direction).mean()) if entropy else math.nan
    return table


def score(
    embedder: Embedder,
    variables: dict,
    clips: Clips,
    config: ConfigDict,
    *,
    templates: Sequence[str] = zero_shot.PROMPTS,
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
    retrieval, entropy, annotated, classified = {}, None, None, None
    for language in languages if chosen else ():
        text, owner = embed_captions(embedder, variables, few, language)
        if language == languages[0]:
            entropy = _entropy(embedder, variables, few, audio[chosen], text, owner)
            if relevance is not None:
                annotated = metric_styles.annotated_average_precision(
                    audio[chosen], text[queries], relevant
                )
        retrieval[language] = rank_embeddings(audio[chosen], text, owner)
    if labelled:
        classified = _classify(embedder, variables, audio, clips, labelled, templates, classes)
    return Scores(len(clips), retrieval, entropy, classified, annotated)


def estimate(scores: Scores, config: ConfigDict) -> Estimates:
    """Bootstraps all metrics over clips with `config.seed` and `config.evaluate.resamples`."""
    options = {"seed": config.seed, "resamples": config.evaluate.resamples}
    per_language = {
        language: bootstrap_retrieval(retrieval, **options)
        for language, retrieval in scores.retrieval.items()
    }
    mean, entropy, classes = {}, {}, {}
    if len(per_language) > 1:
        mean = _map(lambda *languages: average(languages), *per_language.values())
    if scores.entropy is not None:
        entropy = {
            direction: bootstrap_mean(getattr(scores.entropy, direction), **options)
            for direction in Retrieval._fields
        }
    if scores.zero_shot is not None:
        found = scores.zero_shot.classification
        if found is not None:
            classes["accuracy"] = bootstrap_mean(100.0 * found.correct, **options)
        classes["mAP"] = bootstrap_mean_average_precision(scores.zero_shot.ranking, **options)
    return Estimates(per_language, mean, entropy, classes)


def report(
    scores: Scores,
    estimates: Estimates,
    *,
    templates: Sequence[str] = zero_shot.PROMPTS,
    styles: Sequence[str] = (),
) -> dict:
    """Everything for JSON; empty dicts stand for what could not be measured.

    Returns:
      `{"clips", "captions", "retrieval", "entropy", "per_language", "languages", "zero_shot"}`, and
      "metric_styles" where `styles`, names of `metric_styles.STYLES`, are asked for. "captions",
      "retrieval", "entropy" and "metric_styles" are of the headline language. "clips" are those of
      the retrieval, or without captions all of them.
    """
    rankings = list(scores.retrieval.values())
    headline = rankings[0] if rankings else None
    measured = {
        "clips": len(headline.audio_to_text.rank) if headline else scores.clips,
        "captions": len(headline.text_to_audio.rank) if headline else 0,
        "retrieval": {},
        "entropy": {},
        "per_language": _intervals(estimates.per_language),
        "languages": {},
        "zero_shot": {},
    }
    if headline:
        measured["retrieval"] = next(iter(measured["per_language"].values()))
    if scores.entropy is not None:
        measured["entropy"] = {
            "candidates": scores.entropy.candidates,
            **_intervals(estimates.entropy),
        }
    if estimates.average:
        measured["languages"] = {
            "average": _intervals(estimates.average),
            "mean_rank_variance": mean_rank_variance(rankings),
        }
    if scores.zero_shot is not None:
        measured["zero_shot"] = _intervals(estimates.zero_shot) | _by_class(scores.zero_shot)
        measured["zero_shot"]["prompts"] = list(templates)
    if styles and headline:
        measured["metric_styles"] = {style: _in_style(style, scores) for style in styles}
    return measured


def compare(ours: Estimates, theirs: Estimates) -> dict:
    """Our metrics less theirs on the same clips, with intervals and p-values (`difference`).

    Returns:
      `{"retrieval": {direction: {metric: {"ours", "theirs", "value", "low", "high", "p_value"}}},
      "entropy": {direction: ...}, "per_language": {language: ...}, "languages": {"average": ...},
      "zero_shot": {"accuracy": ..., "mAP": ...}}`; "value" is the difference, and what one of the
      two lacks is left out.
    """
    shared = [language for language in ours.per_language if language in theirs.per_language]
    per_language = {
        language: _differences(ours.per_language[language], theirs.per_language[language])
        for language in shared
    }
    classified = {name: ours.zero_shot[name] for name in ours.zero_shot if name in theirs.zero_shot}
    has_entropy = theirs.entropy and list(ours.per_language)[:1] == list(theirs.per_language)[:1]
    has_average = list(ours.per_language) == list(theirs.per_language) and ours.average
    return {
        "retrieval": per_language[shared[0]] if shared else {},
        "entropy": _differences(ours.entropy, theirs.entropy) if has_entropy else {},
        "per_language": per_language,
        "languages": (
            {"average": _differences(ours.average, theirs.average)} if has_average else {}
        ),
        "zero_shot": _differences(classified, theirs.zero_shot),
    }


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
    prompts = [text for template in templates for text in zero_shot.label_prompts(names, template)]
    embedded = embedder.text(variables, prompts, PROMPT_LANGUAGE)
    classes_text = zero_shot.class_embeddings(embedded.reshape(len(templates), len(names), -1))
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


def _by_class(result: zero_shot.ZeroShot) -> dict:
    found = result.classification
    return {
        "clips": result.ranking.hit.shape[1],
        "classes": len(result.names),
        "classes_without_clips": int((~result.ranking.hit.any(axis=1)).sum()),
        "per_fold": {} if found is None else zero_shot.per_fold(found),
        "per_class": zero_shot.per_class(result),
    }


def _in_style(style: str, scores: Scores) -> metric_styles.Table:
    headline = next(iter(scores.retrieval.values()))
    if style == "dcase":
        return metric_styles.dcase(headline, scores.annotated)
    return {"laion": metric_styles.laion, "cacophony": metric_styles.cacophony}[style](headline)


def _intervals(estimates: dict) -> dict:
    return _map(interval, estimates)


def _differences(ours: dict, theirs: dict) -> dict:
    def both(our: Estimate, their: Estimate) -> dict[str, float]:
        values = {"ours": float(our.value), "theirs": float(their.value)}
        return values | difference(our, their)

    return _map(both, ours, theirs)


def _map(function: Callable, *trees: dict) -> dict:
    """Applies `function` to the estimates of nested dicts of the same keys."""
    if isinstance(trees[0], Estimate):
        return function(*trees)
    return {key: _map(function, *(tree[key] for tree in trees)) for key in trees[0]}
