"""The report of an untrained model on a few clips: its form, and what is left out."""

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from supclap_jax.data.clotho import read_clotho
from supclap_jax.errors import DataError
from supclap_jax.evaluate.bootstrap import (
    bootstrap_mean,
    bootstrap_retrieval,
    difference,
    interval,
)
from supclap_jax.evaluate.entropy import contrastive_entropy
from supclap_jax.evaluate.languages import mean_rank_variance
from supclap_jax.evaluate.metric_styles import STYLES
from supclap_jax.evaluate.report import compare, estimate, report
from supclap_jax.evaluate.scoring import embed_captions, score, validate
from supclap_jax.evaluate.tables import tables

LANGUAGES = ("zho_Hans", "eng_Latn")
EMPTY = {"retrieval": {}, "languages": {}, "zero_shot": {}, "geometry": {}}


class FakeEmbedder:
    """Random unit embeddings: the same for the same file or the same text."""

    def __init__(self, seed=0):
        self.seed = seed

    def audio(self, variables, clips):
        return self._embed([path.name for path in clips.paths])

    def text(self, variables, captions, language):
        return self._embed(list(captions))

    def logit_scale(self, variables):
        return 7.0

    def _embed(self, names):
        rows = [
            np.random.default_rng([self.seed, *name.encode()]).standard_normal(24) for name in names
        ]
        return np.stack([row / np.linalg.norm(row) for row in rows]).astype(np.float32)


@pytest.fixture(scope="module")
def clips(soundscape):
    return read_clotho(Path(soundscape), "development", LANGUAGES)


@pytest.fixture
def evaluate(config):
    config.data.languages = LANGUAGES

    def run(clips, styles=(), **options):
        scores = score(FakeEmbedder(), {}, clips, config, **options)
        return report(scores, estimate(scores, config), styles=styles)

    return run


def entropy_of(clips, language):
    text, owner = embed_captions(FakeEmbedder(), {}, clips, language)
    audio = FakeEmbedder().audio({}, clips)
    return contrastive_entropy(audio, text, owner, clips.names, 7.0)


def printed(result):
    console = Console(width=160, record=True, file=io.StringIO())
    for table in tables(result):
        console.print(table)
    return console.export_text()


def test_report_has_the_promised_form(evaluate, clips):
    result = evaluate(clips)
    assert (result["clips"], result["captions"]) == (28, 140)
    assert list(result["per_language"]) == list(LANGUAGES)
    assert result["retrieval"] == result["per_language"]["zho_Hans"]
    metrics = ["R@1", "R@5", "R@10", "median_rank", "mean_rank", "mAP@10"]
    for retrieval in (result["retrieval"], result["languages"]["average"]):
        assert list(retrieval) == ["text_to_audio", "audio_to_text"]
        for direction in retrieval.values():
            assert list(direction) == metrics
            for cell in direction.values():
                assert cell["low"] <= cell["value"] <= cell["high"]
    entropy = entropy_of(clips, "zho_Hans")
    assert list(result["entropy"]) == ["candidates", "text_to_audio", "audio_to_text"]
    assert result["entropy"]["candidates"] == 28
    for direction in ("text_to_audio", "audio_to_text"):
        estimate = bootstrap_mean(getattr(entropy, direction), seed=0, resamples=50)
        assert result["entropy"][direction] == interval(estimate)
    labels = [label for [label] in filter(None, clips.labels)]
    assert result["zero_shot"]["clips"] == len(labels)
    assert result["zero_shot"]["classes"] == len(set(labels))
    assert result["zero_shot"]["per_fold"] == {}
    assert "metric_styles" not in result
    text = printed(result)
    assert "28 clips, 140 captions" in text and "entropy, 28 candidates" in text


def test_average_and_variance_over_languages(evaluate, clips, config):
    result = evaluate(clips)
    scores = score(FakeEmbedder(), {}, clips, config)
    for direction, metrics in result["languages"]["average"].items():
        for name, cell in metrics.items():
            values = [result["per_language"][lang][direction][name]["value"] for lang in LANGUAGES]
            assert cell["value"] == pytest.approx(np.mean(values))
    variance = mean_rank_variance(list(scores.retrieval.values()))
    assert result["languages"]["mean_rank_variance"] == variance
    assert variance["text_to_audio"] > 0
    text = printed(result)
    assert "mean rank variance" in text and "average" in text


def test_validation_is_the_evaluation_without_intervals(evaluate, clips):
    table, result = validate(FakeEmbedder(), {}, clips), evaluate(clips)
    for direction, metrics in result["retrieval"].items():
        metrics = metrics | {"entropy": result["entropy"][direction]}
        cell = metrics["R@1"]
        error = table[direction].pop("R@1_error")
        assert error == pytest.approx((cell["high"] - cell["low"]) / (2 * 1.96), rel=0.15, abs=0.5)
        assert table[direction] == {name: cell["value"] for name, cell in metrics.items()}


def test_validation_leaves_out_clips_without_captions(clips):
    captions = dict(clips.captions)
    captions["zho_Hans"] = tuple(
        () if i in (3, 7) else texts for i, texts in enumerate(captions["zho_Hans"])
    )
    holed = dataclasses.replace(clips, captions=captions)
    rest = clips.select([i for i in range(len(clips)) if i not in (3, 7)])
    assert validate(FakeEmbedder(), {}, holed) == validate(FakeEmbedder(), {}, rest)


def test_entropy_and_its_interval_do_not_depend_on_the_order_of_the_clips(evaluate, clips):
    order = np.random.default_rng(0).permutation(len(clips))
    assert evaluate(clips.select(order))["entropy"] == evaluate(clips)["entropy"]


def test_a_set_without_captions_is_for_zero_shot_alone(evaluate, clips):
    labelled = clips.select([i for i, label in enumerate(clips.labels) if label])
    complete = evaluate(labelled)
    for captions in ({}, {name: ((),) * len(labelled) for name in LANGUAGES}):
        result = evaluate(dataclasses.replace(labelled, captions=captions), styles=STYLES)
        assert result["zero_shot"] == complete["zero_shot"]
        assert (result["clips"], result["captions"]) == (len(labelled), 0)
        assert result["retrieval"] == result["per_language"] == result["languages"] == {}
        assert result["entropy"] == {}
        assert "Retrieval" not in printed(result)


def test_a_set_without_labels_is_for_retrieval_alone(evaluate, clips):
    result = evaluate(dataclasses.replace(clips, labels=((),) * len(clips)))
    assert result["zero_shot"] == {}
    assert result["retrieval"] == evaluate(clips)["retrieval"]
    assert "Zero-shot" not in printed(result)


def test_a_set_with_neither_is_refused(evaluate, clips, config):
    bare = dataclasses.replace(clips, captions={}, labels=((),) * len(clips))
    with pytest.raises(DataError, match="none of the 28 clips can be evaluated"):
        evaluate(bare)
    config.data.languages = ("fra_Latn",)
    with pytest.raises(DataError, match="trained on eng_Latn"):
        evaluate(dataclasses.replace(clips, captions={}))


def test_retrieval_is_over_clips_with_captions_in_all_languages(evaluate, clips):
    chinese = tuple(
        () if i in (3, 7) else texts for i, texts in enumerate(clips.captions["zho_Hans"])
    )
    holed = dataclasses.replace(clips, captions=clips.captions | {"zho_Hans": tuple(chinese)})
    rest = clips.select([i for i in range(len(clips)) if i not in (3, 7)])
    result = evaluate(holed)
    assert (result["clips"], result["captions"]) == (26, 130)
    assert result["per_language"] == evaluate(rest)["per_language"]
    english = dataclasses.replace(clips, captions={"eng_Latn": clips.captions["eng_Latn"]})
    assert list(evaluate(english)["per_language"]) == ["eng_Latn"]
    assert evaluate(english)["languages"] == {}


def test_classes_of_no_clip_are_chosen_among_as_well(clips, config):
    """Those of the set's list, or of a list of one's own; a label outside of it is refused."""
    labelled = clips.select([i for i, label in enumerate(clips.labels) if label])
    names = sorted({label for [label] in labelled.labels})
    listed = dataclasses.replace(labelled, classes=("a choir", *names))
    own = (*names, "zither", "a crowd")

    def zero_shot(clips, **options):
        scores = score(FakeEmbedder(), {}, clips, config, **options)
        return scores.zero_shot, report(scores, estimate(scores, config))["zero_shot"]

    for found, result, classes, lacking in (
        (*zero_shot(labelled), tuple(names), 0),
        (*zero_shot(listed), tuple(sorted(("a choir", *names))), 1),
        (*zero_shot(listed, classes=own), own, 2),
    ):
        assert found.names == classes
        assert (result["classes"], result["classes_without_clips"]) == (len(classes), lacking)
        prompts = [f"This is a sound of {name.replace('_', ' ')}." for name in classes]
        text = FakeEmbedder().text({}, prompts, "eng_Latn")
        nearest = np.argmax(FakeEmbedder().audio({}, labelled) @ text.T, axis=1)
        assert np.mean(nearest == found.classification.predicted) == 1
        shown = " ".join(printed(EMPTY | {"zero_shot": result}).split())
        assert (f"{lacking} of the classes have no clip" in shown) == bool(lacking)
    with pytest.raises(DataError, match=f"labels, such as '{names[0]}', are none of the 1 classes"):
        zero_shot(labelled, classes=("zither",))


def test_clips_of_several_labels_have_a_precision_and_no_accuracy(evaluate, clips):
    """The mean over classes of a plain loop's average precision; the table says what is missing."""
    names = ("dog_bark", "rain", "wind")
    labels = tuple(tuple(n for k, n in enumerate(names) if i % (k + 2) == 0) for i in range(28))
    several = dataclasses.replace(clips, labels=labels, folds=tuple(i % 2 + 1 for i in range(28)))
    result = evaluate(several)["zero_shot"]
    chosen = [i for i in range(28) if labels[i]]
    assert not {"accuracy"} & result.keys() and result["per_fold"] == {}
    assert (result["clips"], result["classes"]) == (len(chosen), 3)
    prompts = [f"This is a sound of {name}." for name in ("dog bark", "rain", "wind")]
    text = FakeEmbedder().text({}, prompts, "")
    scores = FakeEmbedder().audio({}, several).astype(float)[chosen] @ text.T
    expected = []
    for k, name in enumerate(names):
        order = [chosen[i] for i in np.argsort(-scores[:, k])]
        found = [place for place, i in enumerate(order, 1) if name in labels[i]]
        expected.append(100 * np.mean([n / place for n, place in enumerate(found, 1)]))
        assert result["per_class"][name] == {"AP": pytest.approx(expected[-1]), "clips": len(found)}
    assert result["mAP"]["value"] == pytest.approx(np.mean(expected))
    assert result["mAP"]["low"] < result["mAP"]["value"] < result["mAP"]["high"]
    shown = " ".join(printed(EMPTY | {"zero_shot": result}).split())
    assert "clips have several labels, so there is no accuracy and no confusion" in shown


def test_folds_and_prompts_of_a_labelled_set(evaluate, clips, config):
    labelled = clips.select([i for i, label in enumerate(clips.labels) if label])
    folds = tuple(1 + i % 3 for i in range(len(labelled)))
    templates = ("a {} b", "{}", "the noise of {}")
    folded = dataclasses.replace(labelled, folds=folds)
    scores = score(FakeEmbedder(), {}, folded, config, templates=templates)
    result = report(scores, estimate(scores, config), templates=templates)["zero_shot"]
    assert result["prompts"] == list(templates)
    assert list(result["per_fold"]) == ["1", "2", "3"]

    embedder = FakeEmbedder()
    names = sorted({label for [label] in labelled.labels})
    texts = [t.replace("{}", n.replace("_", " ")) for t in templates for n in names]
    classes = embedder.text({}, texts, "eng_Latn").reshape(3, len(names), -1).sum(axis=0)
    classes /= np.linalg.norm(classes, axis=1, keepdims=True)
    predicted = np.argmax(embedder.audio({}, labelled) @ classes.T, axis=1)
    correct = np.array(
        [names[p] == label for p, [label] in zip(predicted, labelled.labels, strict=True)]
    )
    assert result["accuracy"]["value"] == pytest.approx(100 * correct.mean())
    for fold, row in result["per_fold"].items():
        own = np.array(folds) == int(fold)
        assert row == pytest.approx({"accuracy": 100 * correct[own].mean(), "clips": own.sum()})
    text = printed(EMPTY | {"zero_shot": result})
    assert "by fold" in text and "3 prompts a class" in text


def test_styles_stand_beside_the_correct_numbers(evaluate, clips):
    plain, styled = evaluate(clips), evaluate(clips, styles=STYLES)
    assert styled.pop("metric_styles").keys() == set(STYLES)
    assert styled == plain
    text = printed(evaluate(clips, styles=STYLES))
    assert "LAION-CLAP" in text and "Cacophony" in text and "mAP@16" in text
    assert "140 queries" in text


def test_annotated_queries_are_read_from_a_file(evaluate, clips, tmp_path, config):
    path = tmp_path / "relevance.csv"
    captions = clips.captions["zho_Hans"]
    names = [clips.paths[i].name for i in (0, 4, 9)]
    path.write_text(f'query,audio_filenames\n{captions[0][1]},"{names}"\n', encoding="utf-8")
    result = evaluate(clips, styles=("dcase",), relevance=path)
    got = result["metric_styles"]["dcase"]["text_to_audio"]
    embedder = FakeEmbedder()
    scores = (embedder.text({}, [captions[0][1]], "") @ embedder.audio({}, clips).T)[0]
    ranks = sorted(1 + np.count_nonzero(scores > scores[i]) for i in (0, 4, 9))
    precision = sum(n / rank for n, rank in enumerate(ranks, 1) if rank <= 16) / 3
    assert got == pytest.approx({"mAP@16": 100 * precision, "queries": 1})


def test_comparison_pairs_two_models_on_the_same_clips(clips, config):
    config.data.languages = LANGUAGES
    ours, theirs = (score(FakeEmbedder(seed), {}, clips, config) for seed in (0, 1))
    result = compare(estimate(ours, config), estimate(theirs, config))
    options = {"seed": config.seed, "resamples": config.evaluate.resamples}
    for language in LANGUAGES:
        pair = [bootstrap_retrieval(s.retrieval[language], **options) for s in (ours, theirs)]
        for direction, metrics in result["per_language"][language].items():
            for name, cell in metrics.items():
                our, their = (estimates[direction][name] for estimates in pair)
                assert cell == {"ours": our.value, "theirs": their.value} | difference(our, their)
    assert result["retrieval"] == result["per_language"]["zho_Hans"]
    pair = [estimate(scores, config).entropy for scores in (ours, theirs)]
    for direction, cell in result["entropy"].items():
        our, their = (estimates[direction] for estimates in pair)
        assert cell == {"ours": our.value, "theirs": their.value} | difference(our, their)
    correct = (s.zero_shot.classification.correct for s in (ours, theirs))
    our, their = (bootstrap_mean(100.0 * found, **options) for found in correct)
    accuracy = result["zero_shot"]["accuracy"]
    assert accuracy == {"ours": our.value, "theirs": their.value} | difference(our, their)
    against = {"workdir": "runs/b", "step": 3, **result}
    empty = EMPTY | {"against": against}
    text = printed(empty)
    assert "runs/b" in text and "mean of languages" in text and "zero-shot accuracy" in text
    assert "text → audio entropy" in text


def test_a_model_compared_with_itself_does_not_differ(clips, config):
    config.data.languages = LANGUAGES
    estimates = estimate(score(FakeEmbedder(), {}, clips, config), config)
    cell = compare(estimates, estimates)["retrieval"]["text_to_audio"]["mAP@10"]
    assert (cell["value"], cell["low"], cell["high"], cell["p_value"]) == (0, 0, 0, 1)


@pytest.mark.parametrize(
    ("resamples", "p", "shown"),
    [
        (1000, 2 / 1001, "< 0.002"),
        (1000, 4 / 1001, "0.004"),
        (50, 2 / 51, "< 0.040"),
        (50, 1, "1.000"),
    ],
)
def test_p_values_say_no_more_than_their_resamples(resamples, p, shown):
    row = {"ours": 2.0, "theirs": 1.0, "value": 1.0, "low": 0.5, "high": 1.5}
    row |= {"p_value": p, "resamples": resamples}
    against = {"workdir": "b", "step": 3, "languages": {}, "entropy": {}, "zero_shot": {}}
    against["retrieval"] = {"text_to_audio": {"R@1": row}}
    assert f" {shown} │" in printed(EMPTY | {"against": against})
