"""The evaluation of a model on one split: retrieval by language, zero-shot, tables, JSON."""

import numpy as np
from ml_collections import ConfigDict
from rich.table import Table

from supclap_jax.data.datasets import Clips
from supclap_jax.evaluate.bootstrap import bootstrap_retrieval
from supclap_jax.evaluate.embed import Embedder
from supclap_jax.evaluate.retrieval import rank_embeddings, retrieval_table
from supclap_jax.evaluate.zero_shot import label_prompts, zero_shot

PROMPT_LANGUAGE = "eng_Latn"
METRICS = ("R@1", "R@5", "R@10", "median_rank", "mean_rank", "mAP@10")
DIRECTIONS = {"text_to_audio": "text → audio", "audio_to_text": "audio → text"}


def validate(embedder: Embedder, variables: dict, clips: Clips) -> dict[str, dict[str, float]]:
    """Retrieval in both directions in the first language, without intervals."""
    audio = embedder.audio(variables, clips)
    text, owner = embed_captions(embedder, variables, clips, next(iter(clips.captions)))
    return retrieval_table(rank_embeddings(audio, text, owner))


def evaluate(embedder: Embedder, variables: dict, clips: Clips, config: ConfigDict) -> dict:
    """Retrieval with 95 % intervals in every language, and zero-shot over single-event clips.

    Returns:
      `{"clips", "captions", "retrieval", "per_language", "zero_shot"}`; "captions" and "retrieval"
      are of the first of `config.data.languages`, "zero_shot" is empty without labels or English.
    """
    audio = embedder.audio(variables, clips)
    per_language = {}
    for language in clips.captions:
        text, owner = embed_captions(embedder, variables, clips, language)
        ranked = rank_embeddings(audio, text, owner)
        per_language[language] = bootstrap_retrieval(
            ranked, seed=config.seed, resamples=config.evaluate.resamples
        )
    first = config.data.languages[0]
    return {
        "clips": len(clips),
        "captions": sum(map(len, clips.captions[first])),
        "retrieval": per_language[first],
        "per_language": per_language,
        "zero_shot": _zero_shot(embedder, variables, audio, clips, config),
    }


def embed_captions(
    embedder: Embedder, variables: dict, clips: Clips, language: str
) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings `[captions, dim]` of all captions, and `[captions]` the clip of each."""
    captions = [text for texts in clips.captions[language] for text in texts]
    owner = np.repeat(np.arange(len(clips)), [len(texts) for texts in clips.captions[language]])
    return embedder.text(variables, captions, language), owner


def tables(report: dict) -> list[Table]:
    """What `evaluate` returned, for a terminal."""
    size = f"{report['clips']:,} clips, {report['captions']:,} captions"
    headline = Table(title=f"Retrieval: {size}; 95 % interval over clips")
    headline.add_column("")
    for direction in DIRECTIONS.values():
        headline.add_column(direction, justify="right")
    for metric in METRICS:
        cells = (_cell(report["retrieval"][direction][metric]) for direction in DIRECTIONS)
        headline.add_row(metric.replace("_", " "), *cells)
    shown = [headline]
    if len(report["per_language"]) > 1:
        by_language = Table(title="R@1 by language of the captions")
        by_language.add_column("")
        for direction in DIRECTIONS.values():
            by_language.add_column(direction, justify="right")
        for language, retrieval in report["per_language"].items():
            cells = (_cell(retrieval[direction]["R@1"]) for direction in DIRECTIONS)
            by_language.add_row(language, *cells)
        shown.append(by_language)
    if report["zero_shot"]:
        result = report["zero_shot"]
        zero = Table(title="Zero-shot classification of single-event clips")
        for name in ("clips", "classes", "accuracy %"):
            zero.add_column(name, justify="right")
        cell = _cell(result["accuracy"])
        zero.add_row(f"{result['clips']:,}", str(result["classes"]), cell)
        shown.append(zero)
    return shown


def _zero_shot(
    embedder: Embedder, variables: dict, audio: np.ndarray, clips: Clips, config: ConfigDict
) -> dict:
    labelled = [index for index, label in enumerate(clips.labels) if label is not None]
    if not labelled or PROMPT_LANGUAGE not in config.data.languages:
        return {}
    names = sorted({clips.labels[index] for index in labelled})
    return zero_shot(
        audio[labelled],
        embedder.text(variables, label_prompts(names), PROMPT_LANGUAGE),
        np.array([names.index(clips.labels[index]) for index in labelled]),
        names=names,
        seed=config.seed,
        resamples=config.evaluate.resamples,
    )


def _cell(interval: dict[str, float]) -> str:
    return f"{interval['value']:.1f}  [{interval['low']:.1f}, {interval['high']:.1f}]"
