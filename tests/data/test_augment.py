"""Augmentations of audio keep what they should keep."""

import numpy as np
import pytest

from supclap_jax.data.augment import gain, mix, time_shift


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_time_shift_rotates_the_clip_and_leaves_the_padding(rng):
    audio = np.concatenate([np.arange(1, 8, dtype=np.float32), np.zeros(5, np.float32)])
    shifts = set()
    for _ in range(60):
        shifted = time_shift(audio, 7, rng)
        start = int(np.flatnonzero(shifted == 1)[0])
        np.testing.assert_array_equal(np.roll(shifted[:7], -start), audio[:7])
        np.testing.assert_array_equal(shifted[7:], 0)
        shifts.add(start)
    assert shifts == set(range(7))


def test_gain_is_uniform_in_decibels(rng):
    audio = np.ones(2, np.float32)
    decibels = [20 * np.log10(gain(audio, 6.0, rng)[0]) for _ in range(2000)]
    assert -6 <= min(decibels) < -5.9 and 5.9 < max(decibels) <= 6
    assert abs(np.mean(decibels)) < 0.3
    assert gain(audio, 6.0, rng).dtype == np.float32


def test_mix_is_a_convex_combination(rng):
    one, other = np.array([1, 0], np.float32), np.array([0, 1], np.float32)
    for _ in range(100):
        mixed = mix(one, other, rng)
        assert mixed.sum() == pytest.approx(1, rel=1e-6)
        assert 0.3 <= mixed[0] <= 0.7
