import json
import statistics
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from supclap_jax.evaluate.retrieval import (
    NEVER,
    exact_similarity,
    rank_embeddings,
    rank_metrics,
    rank_similarity,
    retrieval_table,
)

GOLDEN = Path(__file__).parents[1] / "golden"
GOLDEN_TABLES = json.loads((GOLDEN / "metrics.json").read_text())


def unit_rows(rng, rows, dim):
    x = rng.standard_normal((rows, dim)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def random_owner(rng, clips, captions):
    """Unequal numbers of captions per clip, shuffled, at least one each."""
    extra = rng.integers(clips, size=captions - clips)
    return rng.permutation(np.concatenate([np.arange(clips), extra]))


def hit_ranks(scores, relevant):
    """Ranks of the relevant candidates in one sorted list, irrelevant ones first among equals."""
    ranked = sorted(range(len(scores)), key=lambda j: (-scores[j], relevant[j]))
    return [place for place, j in enumerate(ranked, start=1) if relevant[j]]


def reference_direction(score_rows, relevant_rows):
    ranks, precisions = [], []
    for scores, relevant in zip(score_rows, relevant_rows, strict=True):
        hits = hit_ranks(scores, relevant)
        ranks.append(hits[0])
        precision = [n / rank for n, rank in enumerate(hits, start=1) if rank <= 10]
        precisions.append(sum(precision) / len(hits))
    share = {k: 100 * sum(rank <= k for rank in ranks) / len(ranks) for k in (1, 5, 10)}
    return {
        "R@1": share[1],
        "R@5": share[5],
        "R@10": share[10],
        "median_rank": statistics.median(ranks),
        "mean_rank": statistics.mean(ranks),
        "mAP@10": 100 * statistics.mean(precisions),
    }


def reference_table(similarity, owner):
    relevant = owner[:, None] == np.arange(similarity.shape[1])
    return {
        "text_to_audio": reference_direction(similarity.tolist(), relevant.tolist()),
        "audio_to_text": reference_direction(similarity.T.tolist(), relevant.T.tolist()),
    }


def assert_tables_equal(actual, expected):
    assert actual.keys() == expected.keys()
    for direction in expected:
        assert actual[direction] == pytest.approx(expected[direction], abs=1e-9, rel=0)


def assert_same(one, other):
    for queries, others in zip(one, other, strict=True):
        for values, other_values in zip(queries, others, strict=True):
            np.testing.assert_array_equal(values, other_values)


@pytest.mark.parametrize("block_size", [1, 7, 1024])
@pytest.mark.parametrize("case", range(len(GOLDEN_TABLES)))
def test_golden_tables(case, block_size):
    with np.load(GOLDEN / "metrics.npz") as arrays:
        similarity, owner = arrays[f"{case}/similarity"], arrays[f"{case}/owner"]
    retrieval = rank_similarity(similarity, owner, block_size=block_size)
    assert_tables_equal(retrieval_table(retrieval), GOLDEN_TABLES[case])


@pytest.mark.parametrize("seed", range(30))
def test_matches_sorting_with_ties_and_unequal_caption_counts(seed):
    rng = np.random.default_rng(seed)
    clips = int(rng.integers(1, 25))
    owner = random_owner(rng, clips, captions=clips + int(rng.integers(0, 90)))
    levels = int(rng.choice([3, 12, 10**6]))
    similarity = rng.integers(levels, size=(len(owner), clips)) / levels
    retrieval = rank_similarity(similarity, owner, block_size=int(rng.integers(1, 40)))
    assert_tables_equal(retrieval_table(retrieval), reference_table(similarity, owner))


def test_more_captions_of_a_clip_than_average_precision_looks_at():
    owner = np.array([0] * 14 + [1])
    similarity = np.stack([np.linspace(1, 0, 15), np.full(15, -1.0)], axis=1)
    average_precision = rank_similarity(similarity, owner).audio_to_text.average_precision
    np.testing.assert_allclose(average_precision, [10 / 14, 0])


@pytest.mark.parametrize("seed", range(20))
def test_fewer_candidates_than_average_precision_looks_at(seed):
    rng = np.random.default_rng(seed)
    clips = int(rng.integers(1, 4))
    owner = random_owner(rng, clips, captions=clips + int(rng.integers(0, 5)))
    similarity = rng.integers(4, size=(len(owner), clips)) / 4
    table = retrieval_table(rank_similarity(similarity, owner))
    assert_tables_equal(table, reference_table(similarity, owner))


def test_embeddings_match_sorting_of_their_similarity():
    rng = np.random.default_rng(0)
    audio, owner = unit_rows(rng, 30, 16), random_owner(rng, 30, 110)
    text = unit_rows(rng, 110, 16)
    expected = reference_table(text.astype(np.float64) @ audio.astype(np.float64).T, owner)
    assert_tables_equal(retrieval_table(rank_embeddings(audio, text, owner)), expected)


@pytest.mark.parametrize("block_size", [1, 3, 64, 1000])
def test_equal_embeddings_tie_exactly_in_every_block(block_size):
    """Seven distinct sounds, copied: every copy must count as ranked before the own clip."""
    rng = np.random.default_rng(1)
    kind, owner = np.arange(203) % 7, np.arange(203)
    audio, text = unit_rows(rng, 7, 389)[kind], unit_rows(rng, 7, 389)[kind]
    retrieval = rank_embeddings(audio, text, owner, block_size=block_size)
    nearest = np.argsort(-(text[:7].astype(np.float64) @ audio[:7].T), axis=1)
    place = np.argsort(nearest, axis=1)[kind, kind]
    np.testing.assert_array_equal(retrieval.text_to_audio.rank, 29 * (place + 1))


def test_block_size_does_not_change_the_results():
    rng = np.random.default_rng(2)
    audio, owner = unit_rows(rng, 60, 67), random_owner(rng, 60, 300)
    audio[30:] = audio[:30]
    text = unit_rows(rng, 300, 67)
    text[::3] = audio[owner[::3]]
    whole = rank_embeddings(audio, text, owner, block_size=1000)
    for block_size in (1, 2, 17, 59, 60, 61, 299):
        assert_same(rank_embeddings(audio, text, owner, block_size=block_size), whole)


@pytest.mark.parametrize("seed", range(10))
def test_hit_ranks_are_those_of_the_best_ten_in_the_order_given(seed):
    rng = np.random.default_rng(seed)
    clips = int(rng.integers(1, 9))
    owner = random_owner(rng, clips, captions=clips + int(rng.integers(0, 60)))
    levels = int(rng.choice([3, 10**6]))
    similarity = rng.integers(levels, size=(len(owner), clips)) / levels
    retrieval = rank_similarity(similarity, owner, block_size=int(rng.integers(1, 20)))
    np.testing.assert_array_equal(
        retrieval.text_to_audio.hit_rank, retrieval.text_to_audio.rank[:, None]
    )
    for clip in range(clips):
        own = owner == clip
        ranked = sorted(range(len(owner)), key=lambda j: (-similarity[j, clip], own[j], j))
        hits = [j for j in ranked if own[j]][:10]
        expected = [1 + ranked.index(j) for j in sorted(hits)]
        hit_rank = retrieval.audio_to_text.hit_rank[clip]
        np.testing.assert_array_equal(hit_rank[: len(hits)], expected)
        assert (hit_rank[len(hits) :] == NEVER).all()


def test_order_of_captions_does_not_matter():
    rng = np.random.default_rng(3)
    audio, owner, text = unit_rows(rng, 20, 8), random_owner(rng, 20, 70), unit_rows(rng, 70, 8)
    order = rng.permutation(70)
    straight = rank_embeddings(audio, text, owner)
    shuffled = rank_embeddings(audio, text[order], owner[order])
    for values, moved in zip(straight.text_to_audio, shuffled.text_to_audio, strict=True):
        np.testing.assert_array_equal(values[order], moved)
    *values, hit_rank = straight.audio_to_text
    *same, moved_hit_rank = shuffled.audio_to_text
    np.testing.assert_array_equal(values, same)
    np.testing.assert_array_equal(np.sort(hit_rank), np.sort(moved_hit_rank))


@pytest.mark.parametrize("dtype", [np.uint64, np.int32, np.uint8])
def test_owner_of_any_integer_type(dtype):
    rng = np.random.default_rng(9)
    similarity, owner = rng.standard_normal((20, 6)), random_owner(rng, 6, 20)
    expected = rank_similarity(similarity, owner)
    assert_same(rank_similarity(similarity, owner.astype(dtype)), expected)


def test_exact_similarity_does_not_depend_on_the_order_of_summation():
    rng = np.random.default_rng(4)
    query, key = unit_rows(rng, 40, 1024), unit_rows(rng, 50, 1024)
    order = rng.permutation(1024)
    scores = exact_similarity(query, key)
    np.testing.assert_array_equal(scores, exact_similarity(query[:, order], key[:, order]))
    np.testing.assert_array_equal(scores[7:8, 9:10], exact_similarity(query[7:8], key[9:10]))
    np.testing.assert_allclose(scores, query.astype(np.float64) @ key.T, rtol=0, atol=1e-7)


def test_a_function_is_asked_for_small_blocks_only_and_may_return_read_only_ones():
    rng = np.random.default_rng(5)
    owner = random_owner(rng, 100, 450)
    similarity = rng.standard_normal((450, 100)).astype(np.float32)
    similarity.setflags(write=False)
    asked = []

    def blocks(captions, clips):
        asked.append((len(captions), len(clips)))
        block = similarity[np.ix_(captions, clips)]
        block.setflags(write=False)
        return block

    ranked = rank_similarity(blocks, owner, block_size=32)
    assert np.max(asked) == 32
    assert_same(ranked, rank_similarity(similarity, owner))


def test_memory_is_bounded_by_a_block():
    rng = np.random.default_rng(6)
    audio, owner = unit_rows(rng, 1500, 8), np.repeat(np.arange(1500), 5)
    text = unit_rows(rng, 7500, 8)
    tracemalloc.start()
    rank_embeddings(audio, text, owner, block_size=128)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3e6 < 1500 * 7500


def test_clip_weights_count_like_copies():
    rng = np.random.default_rng(7)
    similarity, owner = rng.standard_normal((40, 12)), random_owner(rng, 12, 40)
    weight = rng.integers(0, 4, size=12)
    for queries in rank_similarity(similarity, owner):
        copied = type(queries)(*(np.repeat(x, weight[queries.clip], axis=0) for x in queries))
        assert rank_metrics(queries, weight) == pytest.approx(rank_metrics(copied), abs=1e-9)


def test_bfloat16_embeddings():
    import jax.numpy as jnp

    rng = np.random.default_rng(8)
    audio, text = unit_rows(rng, 10, 64), unit_rows(rng, 30, 64)
    owner = random_owner(rng, 10, 30)
    audio, text = jnp.asarray(audio, jnp.bfloat16), jnp.asarray(text, jnp.bfloat16)
    expected = reference_table(np.float64(text) @ np.float64(audio).T, owner)
    assert_tables_equal(retrieval_table(rank_embeddings(audio, text, owner)), expected)


BAD_INPUTS = {
    "dim": ({"text": np.eye(4, 5)}, r"text has dim 5, expected 4 as in audio"),
    "shape": ({"audio": np.ones(4)}, r"audio must have shape \[rows, dim\], got \[4\]"),
    "nan": ({"audio": np.full((3, 4), np.nan)}, r"audio must have .* row 0 has norm nan"),
    "norm": ({"text": 2 * np.eye(4)}, r"text must have rows of unit norm, but 4 of 4 do not"),
    "length": ({"owner": np.array([0, 1, 2])}, r"clips of 3 captions, expected 4"),
    "range": ({"owner": np.array([0, 1, 2, 3])}, r"owner must lie in \[0, 3\), got .* 0 to 3"),
    "negative": ({"owner": np.array([0, 1, 2, -1])}, r"got values from -1 to 2"),
    "without": ({"owner": np.array([0, 0, 2, 2])}, r"1 of 3 have none in owner, clip 1 first"),
    "dtype": ({"owner": np.arange(4.0)}, r"owner must be integers .* float64 \[4\]"),
    "block": ({"block_size": 0}, r"block_size must be at least 1, got 0"),
}


@pytest.mark.parametrize("name", BAD_INPUTS)
def test_bad_embeddings_are_refused(name):
    changed, message = BAD_INPUTS[name]
    good = {"audio": np.eye(3, 4), "text": np.eye(4), "owner": np.array([0, 1, 2, 2])}
    rank_embeddings(**good)
    with pytest.raises(ValueError, match=message):
        rank_embeddings(**good | changed)


@pytest.mark.parametrize(
    ("similarity", "message"),
    [
        (np.array([[0.1, np.nan], [0, 0]]), "NaN or infinite"),
        (np.zeros((3, 2)), "clips of 2 captions, expected 3"),
        (np.zeros((2, 3)), "1 of 3 have none"),
        (np.zeros(4), r"shape \[captions, clips\], got \[4\]"),
        (lambda captions, clips: np.zeros((1, 1)), r"block of shape \[1, 1\] for 2 captions"),
    ],
)
def test_bad_similarities_are_refused(similarity, message):
    with pytest.raises(ValueError, match=message):
        rank_similarity(similarity, np.array([0, 1]))
