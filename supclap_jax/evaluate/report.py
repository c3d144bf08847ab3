"""What the outcomes of an evaluation come to: estimates with intervals, and the report.

`scoring.score` says what the model did with each clip, `estimate` measures that with a bootstrap
over clips, and `report` and `compare` put the measures of one or two models into a dict for JSON.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from supclap_jax.evaluate import metric_styles, zero_shot
from supclap_jax.evaluate.answers import recall_by
from supclap_jax.evaluate.average_precision import bootstrap_mean_average_precision
from supclap_jax.evaluate.bootstrap import (
    Estimate,
    average,
    bootstrap_mean,
    bootstrap_retrieval,
    difference,
    interval,
)
from supclap_jax.evaluate.geometry import geometry
from supclap_jax.evaluate.languages import mean_rank_variance
from supclap_jax.evaluate.retrieval import Retrieval
from supclap_jax.evaluate.scoring import Scores
from supclap_jax.inference import prompts


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
    templates: Sequence[str] = prompts.PROMPTS,
    styles: Sequence[str] = (),
) -> dict:
    """Everything for JSON; empty dicts stand for what could not be measured.

    Returns:
      `{"clips", "captions", "retrieval", "entropy", "per_language", "languages", "zero_shot",
      "geometry", "recall_by"}`, and "metric_styles" where `styles`, names of
      `metric_styles.STYLES`, are asked for. "captions", "retrieval", "entropy", "geometry" (of each
      clip with its first caption), "recall_by" and "metric_styles" are of the headline language.
      "clips" are those of the retrieval, or without captions all of them.
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
        "geometry": {},
        "recall_by": {},
    }
    if headline:
        pairs = scores.pairs
        _, first = np.unique(pairs.owner, return_index=True)
        measured["geometry"] = geometry(pairs.audio, pairs.text[first])
        measured["recall_by"] = recall_by(pairs.clips, headline, pairs.language)
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
      `{"retrieval": {direction: {metric: {"ours", "theirs", "value", "low", "high", "p_value",
      "resamples"}}},
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
