"""What each query found, against a search of the whole matrix."""

import csv
from pathlib import Path

import numpy as np
import pytest

from supclap_jax.data.clips import Clips
from supclap_jax.evaluate import answers as module
from supclap_jax.evaluate.answers import COLUMNS, best_answers, recall_by, write_answers
from supclap_jax.evaluate.retrieval import Queries, Retrieval, rank_embeddings

CAPTIONS = (("a dog", "a loud dog barks"), ("rain,\nheavy",), ("wind and rain, far away", "gusts"))
OWNER = np.array([0, 0, 1, 2, 2])


def unit(seed, *shape):
    rows = np.random.default_rng(seed).standard_normal(shape)
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


@pytest.fixture
def clips():
    return Clips(
        paths=tuple(Path(f"{name}.wav") for name in "abc"),
        captions={"eng_Latn": CAPTIONS},
        labels=((), (), ()),
        seconds=(1.0, 2.0, 4.0),
        events=(1, 1, 3),
    )


@pytest.mark.parametrize("block", [2, 1024])
def test_best_answers(block, monkeypatch):
    monkeypatch.setattr(module, "BLOCK_SIZE", block)
    query, key = unit(0, 9, 4), unit(1, 7, 4)
    rng = np.random.default_rng(2)
    query_clip, key_clip = rng.integers(3, size=9), np.array([0, 1, 2, 0, 1, 2, 0])
    found = best_answers(query, key, query_clip, key_clip)
    for i in range(9):
        for is_right, place, cosine in (
            (True, found.right[i], found.right_cosine[i]),
            (False, found.wrong[i], found.wrong_cosine[i]),
        ):
            allowed = [j for j in range(7) if (key_clip[j] == query_clip[i]) == is_right]
            best = max(allowed, key=lambda j: float(query[i].astype(float) @ key[j]))
            assert place == best
            assert cosine == pytest.approx(query[i].astype(float) @ key[best], abs=1e-6)


def test_alone_there_is_no_wrong_answer():
    found = best_answers(np.eye(1, 3), np.eye(1, 3), np.array([0]), np.array([0]))
    assert (found.right[0], found.wrong[0], found.wrong_cosine[0]) == (0, -1, -np.inf)


def test_the_file_has_a_row_a_query(clips, tmp_path):
    audio, text = unit(0, 3, 4), unit(1, 5, 4)
    ranks = rank_embeddings(audio, text, OWNER)
    alone = np.arange(3)
    found = Retrieval(
        best_answers(text, audio, OWNER, alone), best_answers(audio, text, alone, OWNER)
    )
    write_answers(tmp_path / "a.csv", clips, ranks, found, "eng_Latn")
    with open(tmp_path / "a.csv", newline="") as file:
        header, *rows = csv.reader(file)
    assert tuple(header) == COLUMNS
    assert len(rows) == 5 + 3
    captions = [caption for of_clip in CAPTIONS for caption in of_clip]
    cosine = text.astype(float) @ audio.T
    for query, row in enumerate(dict(zip(COLUMNS, row, strict=True)) for row in rows[:5]):
        own = OWNER[query]
        others = [clip for clip in range(3) if clip != own]
        worst = max(others, key=lambda clip: cosine[query, clip])
        assert (row["direction"], row["clip"]) == ("text_to_audio", f"{'abc'[own]}.wav")
        assert (row["caption"], row["wrong_caption"]) == (captions[query], "")
        assert float(row["cosine"]) == pytest.approx(cosine[query, own], abs=1e-6)
        assert row["wrong_clip"] == f"{'abc'[worst]}.wav"
        assert int(row["rank"]) == 1 + sum(cosine[query, others] >= cosine[query, own])
        facts = row["words"], row["seconds"], row["events"]
        assert facts == (str(len(captions[query].split())), f"{2**own:.3f}", "113"[own])
    for clip, row in enumerate(dict(zip(COLUMNS, row, strict=True)) for row in rows[5:]):
        wrong = max(np.flatnonzero(clip != OWNER), key=lambda query: cosine[query, clip])
        best = max(np.flatnonzero(clip == OWNER), key=lambda query: cosine[query, clip])
        assert row["direction"] == "audio_to_text"
        assert (row["caption"], row["wrong_caption"]) == (captions[best], captions[wrong])
        assert row["wrong_clip"] == f"{'abc'[OWNER[wrong]]}.wav"
        assert float(row["wrong_cosine"]) == pytest.approx(cosine[wrong, clip], abs=1e-6)


def test_recall_by_groups_of_about_one_size():
    """Of 400 clips of 1 to 400 seconds, those under 200 are found: two groups are, two are not."""
    count = 400
    clips = Clips(
        paths=tuple(Path(f"{i}.wav") for i in range(count)),
        captions={"eng_Latn": tuple((f"word {i}",) for i in range(count))},
        labels=((),) * count,
        seconds=tuple(float(i + 1) for i in range(count)),
    )
    rank = np.where(np.arange(count) < 200, 1, 2)
    queries = Queries(rank, 1 / rank, np.arange(count), rank[:, None])
    found = recall_by(clips, Retrieval(queries, queries), "eng_Latn")
    assert list(found) == ["seconds"]  # all captions have two words
    for rows in found["seconds"].values():
        assert [row["queries"] for row in rows] == [100] * 4
        assert [row["R@1"]["value"] for row in rows] == [100, 100, 0, 0]
        assert [(row["from"], row["to"]) for row in rows][1] == (101, 200)


def test_recall_by_counts_all_captions_of_a_clip_together(clips):
    """The interval of 10 captions each, all found or none, is that of clips, not of captions."""
    count = 40
    clips = Clips(
        paths=tuple(Path(f"{i}.wav") for i in range(count)),
        captions={"eng_Latn": tuple(("a",) * 4 + ("a b",) * 6 for _ in range(count))},
        labels=((),) * count,
    )
    owner = np.repeat(np.arange(count), 10)
    rank = np.where(owner % 2, 1, 5)
    text = Queries(rank, 1 / rank, owner, rank[:, None])
    audio = Queries(rank[::10], 1 / rank[::10], np.arange(count), rank[::10, None])
    (rows,) = recall_by(clips, Retrieval(text, audio), "eng_Latn")["words"].values()
    error = 1.96 * 100 * np.sqrt(0.25 / count)
    for row, queries in zip(rows, (4 * count, 6 * count), strict=True):
        assert row["queries"] == queries
        assert row["R@1"]["low"] == pytest.approx(50 - error, rel=1e-6)
        assert row["R@1"]["high"] == pytest.approx(50 + error, rel=1e-6)
