"""Contrastive entropy: against plain loops in float64, and what it must not depend on."""

import numpy as np
import pytest

from supclap_jax.evaluate.entropy import contrastive_entropy
from supclap_jax.losses import info_nce

SCALE = 1 / 0.07


def problem(clips, most_captions=1, seed=0, dim=24):
    """Embeddings, owners in any order and names; coarse enough for scores without rounding."""
    rng = np.random.default_rng(seed)
    owner = rng.permutation(np.repeat(np.arange(clips), rng.integers(1, most_captions + 1, clips)))
    audio = rng.standard_normal((clips, dim))
    text = 0.5 * audio[owner] + rng.standard_normal((len(owner), dim))
    names = tuple(f"{number}.wav" for number in rng.permutation(clips))
    audio, text = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (audio, text))
    return np.rint(audio * 2**20) / 2**20, np.rint(text * 2**20) / 2**20, owner, names


def reference(audio, text, owner, names, k, seed):
    """Pair by pair, exponential by exponential; the clips' means by name."""
    clips = len(names)
    rng = np.random.default_rng(seed)
    place = dict(zip(sorted(names), rng.permutation(clips), strict=True))
    circle = sorted(range(clips), key=lambda clip: place[names[clip]])
    captions = [np.flatnonzero(owner == clip) for clip in range(clips)]
    begin = dict(zip(circle, rng.integers([len(captions[c]) for c in circle]), strict=True))
    found = {}
    for position, clip in enumerate(circle):
        others = [circle[(position + step) % clips] for step in range(1, k)]
        pairs = []
        for turn in range(len(captions[clip])):
            a = [audio[c] for c in (clip, *others)]
            t = [text[captions[c][(begin[c] + turn) % len(captions[c])]] for c in (clip, *others)]
            pairs.append(
                [
                    np.log(sum(np.exp(SCALE * (np.dot(query, x) - np.dot(query, y[0]))) for x in y))
                    for query, y in ((t[0], a), (a[0], t))
                ]
            )
        found[names[clip]] = np.mean(pairs, axis=0)
    return np.array([found[name] for name in sorted(names)]).T


@pytest.mark.parametrize(("clips", "k"), [(23, 7), (9, 8), (5, 5), (1, 1), (40, 1)])
def test_matches_plain_loops_in_float64(clips, k):
    given = problem(clips, most_captions=4)
    entropy = contrastive_entropy(*given, SCALE, candidates=k, seed=3)
    assert entropy.candidates == k
    np.testing.assert_allclose(entropy[1:], reference(*given, k, 3), rtol=1e-12, atol=1e-12)


def test_the_order_of_clips_and_captions_changes_no_bit():
    audio, text, owner, names = problem(50, most_captions=1)
    expected = contrastive_entropy(audio, text, owner, names, SCALE, candidates=11)
    rng = np.random.default_rng(1)
    clips, captions = rng.permutation(50), rng.permutation(50)
    moved = audio[clips], text[captions], np.argsort(clips)[owner[captions]]
    found = contrastive_entropy(*moved, [names[clip] for clip in clips], SCALE, candidates=11)
    np.testing.assert_array_equal(found[1:], expected[1:])


def test_with_all_clips_and_a_caption_each_it_is_info_nce():
    audio, text, owner, names = problem(30)
    entropy = contrastive_entropy(audio, text, owner, names, SCALE)
    assert entropy.candidates == 30
    text = text[np.argsort(owner)]
    for direction, pair in (("text_to_audio", (text, audio)), ("audio_to_text", (audio, text))):
        loss = info_nce(*(x.astype(np.float32) for x in pair), SCALE)
        assert getattr(entropy, direction).mean() == pytest.approx(float(loss), rel=1e-5)


def test_every_other_clip_is_as_likely_a_candidate_and_the_own_one_never_is():
    """Of two candidates, by the entropy of each query."""
    audio, text, owner, names = problem(8)
    scores = SCALE * text[np.argsort(owner)] @ audio.T
    by_name = np.argsort(names)
    seen = np.zeros((8, 8))
    for seed in range(1400):
        given = (audio, text, owner, names, SCALE)
        found = contrastive_entropy(*given, candidates=2, seed=seed).text_to_audio
        possible = np.logaddexp(0, scores - np.diag(scores)[:, None])[by_name]
        gap = np.abs(possible - found[:, None])
        assert gap.min(axis=1).max() < 1e-9
        seen[np.arange(8), gap.argmin(axis=1)] += 1
    assert not seen[np.arange(8), by_name].any()
    others = np.delete(seen, [8 * row + clip for row, clip in enumerate(by_name)])
    assert others.min() > 140 and others.max() < 260  # 200 expected, deviation 13


@pytest.mark.parametrize(
    ("names", "scale", "candidates", "message"),
    [
        ("abb", 1.0, 2, "3 different names, one per clip, got 3, of which 2 differ"),
        ("ab", 1.0, 2, "3 different names, one per clip, got 2"),
        ("abc", 0.0, 2, "logit_scale must be finite and above zero, got 0.0"),
        ("abc", np.nan, 2, "logit_scale must be finite and above zero, got nan"),
        ("abc", 1.0, 0, "candidates must be at least 1, got 0"),
    ],
)
def test_bad_arguments_are_said(names, scale, candidates, message):
    audio, text, owner, _ = problem(3)
    with pytest.raises(ValueError, match=message):
        contrastive_entropy(audio, text, owner, names, scale, candidates=candidates)
