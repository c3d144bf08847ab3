"""Each style against a loop written from its definition, ties included, on one sorted list a query.

In the list, candidates that are not relevant come first among equals, relevant ones in the order of
the data set.
"""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from supclap_jax.data.clips import Clips
from supclap_jax.errors import DataError
from supclap_jax.evaluate.metric_styles import (
    annotated_average_precision,
    cacophony,
    dcase,
    laion,
    read_relevance,
)
from supclap_jax.evaluate.retrieval import rank_embeddings, rank_metrics, rank_similarity


def random_case(seed):
    rng = np.random.default_rng(seed)
    clips = int(rng.integers(2, 30))
    extra = rng.integers(clips, size=int(rng.integers(0, 120)))
    owner = rng.permutation(np.concatenate([np.arange(clips), extra]))
    levels = int(rng.choice([4, 15, 10**6]))
    similarity = rng.integers(levels, size=(len(owner), clips)) / levels
    near = owner[:, None] == np.arange(clips)
    return similarity + 0.3 * near * rng.integers(2), owner


def ranked_list(scores, relevant):
    return sorted(range(len(scores)), key=lambda j: (-scores[j], relevant[j], j))


def recalls(best_ranks):
    return {f"R@{k}": 100 * np.mean([rank <= k for rank in best_ranks]) for k in (1, 5, 10)}


def reference(similarity, owner):
    """Ranks of own clip for each caption, and of own captions in their order for each clip."""
    clips = similarity.shape[1]
    caption_ranks = []
    for caption, scores in enumerate(similarity):
        relevant = np.arange(clips) == owner[caption]
        caption_ranks.append(1 + ranked_list(scores, relevant).index(owner[caption]))
    clip_ranks = []
    for clip in range(clips):
        order = ranked_list(similarity[:, clip], owner == clip)
        clip_ranks.append([1 + order.index(j) for j in np.flatnonzero(owner == clip)])
    return caption_ranks, clip_ranks


@pytest.mark.parametrize("seed", range(25))
def test_laion(seed):
    similarity, owner = random_case(seed)
    caption_ranks, clip_ranks = reference(similarity, owner)
    precisions = []
    for ranks in clip_ranks:
        inside = [rank for rank in ranks if rank <= 10]
        precisions.append(sum((n + 1) / rank for n, rank in enumerate(inside)) / len(ranks))
    zero_based = np.array(caption_ranks) - 1
    expected = {
        "text_to_audio": {
            **recalls(caption_ranks),
            "median_rank": np.floor(np.median(zero_based)) + 1,
            "mean_rank": zero_based.mean() + 1,
            "mAP@10": 100 * np.mean(np.where(zero_based < 10, 1 / (zero_based + 1), 0)),
        },
        "audio_to_text": {
            **recalls([min(ranks) for ranks in clip_ranks]),
            "mAP@10": 100 * np.mean(precisions),
        },
    }
    result = laion(rank_similarity(similarity, owner, block_size=16))
    for direction, metrics in expected.items():
        assert result[direction] == pytest.approx(metrics, abs=1e-9)


@pytest.mark.parametrize("seed", range(25))
def test_cacophony(seed):
    similarity, owner = random_case(seed)
    caption_ranks, clip_ranks = reference(similarity, owner)
    precisions = []
    for ranks in clip_ranks:
        positions = sorted(rank for rank in ranks if rank <= 10)
        hits = [(n + 1) / rank for n, rank in enumerate(positions)]
        precisions.append(np.mean(hits) if hits else 0.0)
    expected = {
        "text_to_audio": {
            **recalls(caption_ranks),
            "mAP@10": 100 * np.mean([1 / rank if rank <= 10 else 0 for rank in caption_ranks]),
        },
        "audio_to_text": {
            **recalls([min(ranks) for ranks in clip_ranks]),
            "mAP@10": 100 * np.mean(precisions),
        },
    }
    result = cacophony(rank_similarity(similarity, owner, block_size=16))
    for direction, metrics in expected.items():
        assert result[direction] == pytest.approx(metrics, abs=1e-9)


def test_a_clip_can_exceed_one_in_laions_and_one_hit_is_enough_in_cacophonys():
    """Captions 0 to 4 rank 5, 4, 3, 2, 1; then the first alone is inside the top 10."""
    reversed_order = rank_similarity(
        np.array([[0.1], [0.2], [0.3], [0.4], [0.5]]), np.zeros(5, int)
    )
    expected = 100 * (1 / 5 + 2 / 4 + 3 / 3 + 4 / 2 + 5 / 1) / 5
    assert laion(reversed_order)["audio_to_text"]["mAP@10"] == pytest.approx(expected)
    assert rank_metrics(reversed_order.audio_to_text)["mAP@10"] == pytest.approx(100)

    similarity = np.concatenate([[[1.0, 0]], np.tile([[0.0, 1]], (4, 1)), np.full((10, 2), 0.5)])
    one_hit = rank_similarity(similarity, np.array([0] * 5 + [1] * 10))
    assert one_hit.audio_to_text.average_precision[0] == pytest.approx(1 / 5)
    second = np.mean([(n + 1) / rank for n, rank in enumerate([5, 6, 7, 8, 9, 10])])
    assert cacophony(one_hit)["audio_to_text"]["mAP@10"] == pytest.approx(100 * (1 + second) / 2)


@pytest.mark.parametrize("seed", range(10))
def test_dcase_with_one_relevant_clip(seed):
    similarity, owner = random_case(seed)
    caption_ranks, _ = reference(similarity, owner)
    precision = [1 / rank if rank <= 16 else 0 for rank in caption_ranks]
    result = dcase(rank_similarity(similarity, owner))
    expected = {"mAP@16": 100 * np.mean(precision), "queries": len(owner)}
    assert result == {"text_to_audio": pytest.approx(expected)}


@pytest.mark.parametrize("seed", range(25))
def test_dcase_with_several_relevant_clips(seed):
    """Embeddings of a few kinds, so that many scores are equal to the last bit."""
    rng = np.random.default_rng(seed)
    kinds = rng.standard_normal((int(rng.choice([6, 500])), 8))
    kinds /= np.linalg.norm(kinds, axis=1, keepdims=True)
    audio = kinds[rng.integers(len(kinds), size=40)]
    text = kinds[rng.integers(len(kinds), size=300)]
    relevant = [rng.choice(40, rng.integers(1, 21), replace=False) for _ in text]
    expected = []
    for query, own in enumerate(relevant):
        scores = [round(float(text[query] @ clip), 9) for clip in audio]
        order = ranked_list(scores, np.isin(np.arange(40), own))
        ranks = sorted(1 + order.index(clip) for clip in own)
        hits = [(n + 1) / rank for n, rank in enumerate(ranks) if rank <= 16]
        expected.append(sum(hits) / len(own))
    precision = annotated_average_precision(audio, text, relevant)
    np.testing.assert_allclose(precision, expected, atol=1e-12)


def test_one_annotated_clip_is_the_case_without_annotations():
    rng = np.random.default_rng(3)
    audio, text = (rng.standard_normal((n, 6)) for n in (30, 90))
    audio /= np.linalg.norm(audio, axis=1, keepdims=True)
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    owner = np.repeat(np.arange(30), 3)
    retrieval = rank_embeddings(audio, text, owner)
    annotated = annotated_average_precision(audio, text, owner[:, None])
    assert dcase(retrieval, annotated) == dcase(retrieval)


CAPTIONS = ["a dog, barking", "rain", "rain", "wind"]
CLIPS = Clips(paths=tuple(Path(f"/x/{n}.wav") for n in "abc"), captions={}, labels=((),) * 3)


def test_relevance_file(tmp_path):
    path = tmp_path / "metadata_eval.csv"
    path.write_text(
        "\ufeffquery,more,audio_filenames\r\n"
        "\"a dog, barking\",1,\"['c.wav', 'a.wav', 'c.wav']\"\r\nrain,2,['b.wav']\r\n",
        encoding="utf-8",
        newline="",
    )
    assert read_relevance(path, CLIPS, CAPTIONS) == ([0, 1], [[0, 2], [1]])
    prepared = dataclasses.replace(CLIPS, paths=(b"",) * 3, ids=("a.wav", "b.wav", "c.wav"))
    assert read_relevance(path, prepared, CAPTIONS) == ([0, 1], [[0, 2], [1]])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("query,audio_filenames\nsnow,['a.wav']\n", "row 2: no clip has the caption 'snow'"),
        ("query,audio_filenames\nrain,['d.wav']\n", "row 2: audio_filenames names 'd.wav'"),
        ("query,audio_filenames\nrain,[]\n", "names no file"),
        ("query,audio_filenames\nrain,a.wav\n", "expected a list such as"),
        ("query,audio_filenames\nrain\n", "audio_filenames is None"),
        ("query,audio_filenames\nrain,__import__('os')\n", "expected a list such as"),
        ("query,audio_filenames\n", "lists no queries"),
        ("query,files\nrain,['a.wav']\n", "has the columns query, files; expected"),
        ("", "has the columns"),
        (None, "cannot read"),
    ],
)
def test_bad_relevance_files_are_refused(tmp_path, content, message):
    path = tmp_path / "relevance.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(DataError, match=message) as error:
        read_relevance(path, CLIPS, CAPTIONS)
    assert "\n" not in str(error.value)
