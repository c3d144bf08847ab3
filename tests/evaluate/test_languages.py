import numpy as np
import pytest

from supclap_jax.evaluate.languages import mean_rank_variance
from supclap_jax.evaluate.retrieval import rank_similarity


def reference(languages, owners):
    """Variance of each query's ranks, query by query, from sorted lists."""
    clips = languages[0].shape[1]
    of_captions, of_clips = [], []
    for clip in range(clips):
        own = [np.flatnonzero(owner == clip) for owner in owners]
        for place in range(min(map(len, own))):
            ranks = []
            for similarity, captions in zip(languages, own, strict=True):
                scores = similarity[captions[place]]
                ranks.append(np.count_nonzero(scores >= scores[clip]))
            of_captions.append(np.mean((np.array(ranks) - np.mean(ranks)) ** 2))
        ranks = []
        for similarity, owner in zip(languages, owners, strict=True):
            scores = similarity[:, clip]
            others = scores[owner != clip]
            ranks.append(1 + np.count_nonzero(others >= scores[owner == clip].max()))
        of_clips.append(np.mean((np.array(ranks) - np.mean(ranks)) ** 2))
    return {"text_to_audio": np.mean(of_captions), "audio_to_text": np.mean(of_clips)}


@pytest.mark.parametrize("seed", range(8))
def test_matches_a_loop_with_shuffled_and_unequal_captions(seed):
    rng = np.random.default_rng(seed)
    clips = int(rng.integers(2, 12))
    languages, owners = [], []
    for _ in range(int(rng.integers(2, 5))):
        extra = rng.integers(clips, size=int(rng.integers(0, 30)))
        owner = rng.permutation(np.concatenate([np.arange(clips), extra]))
        owners.append(owner)
        languages.append(rng.integers(20, size=(len(owner), clips)) / 20)
    ranked = [rank_similarity(s, owner) for s, owner in zip(languages, owners, strict=True)]
    expected = reference(languages, owners)
    assert mean_rank_variance(ranked) == pytest.approx(expected, abs=1e-9)


def test_equal_languages_agree_fully():
    rng = np.random.default_rng(0)
    ranked = rank_similarity(rng.standard_normal((30, 6)), np.arange(30) % 6)
    assert mean_rank_variance([ranked] * 3) == {"text_to_audio": 0, "audio_to_text": 0}


def test_a_known_case():
    """Ranks (1, 3) in one clip of two languages and (1, 1) in the other two clips."""
    good = rank_similarity(np.eye(3), np.arange(3))
    bad = rank_similarity(np.array([[0, 1, 1], [0, 3, 0], [0, 0, 3.0]]), np.arange(3))
    assert mean_rank_variance([good, bad])["text_to_audio"] == pytest.approx(1 / 3)
