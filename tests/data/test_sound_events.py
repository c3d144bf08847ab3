"""Sounds differ by kind, pitch, speed and number, as they can be heard to."""

import numpy as np
import pytest

from supclap_jax.data.sound_events import CATALOGUE, KINDS, Event, synthesize
from tests.data.hearing import RATE, band_energies, bursts, onsets, spectral_centroid, sweeping

STRUCK = [kind for kind in KINDS if CATALOGUE[kind].struck]


PITCHED = [kind for kind in KINDS if "pitch" in CATALOGUE[kind].attributes]


PACED = [kind for kind in KINDS if "speed" in CATALOGUE[kind].attributes]


def hear(kind, seed=0, seconds=4.0, **attributes):
    if CATALOGUE[kind].struck:
        attributes = {"number": 3, **attributes}
    event = Event(kind, 0.0, seconds, **attributes)
    return synthesize(np.random.default_rng(seed), event, RATE)


def test_kinds_sound_different():
    profiles = {kind: [band_energies(hear(kind, seed)) for seed in range(9)] for kind in KINDS}
    centroids = np.array([np.mean(profiles[kind][:6], axis=0) for kind in KINDS])
    guesses = [
        KINDS[np.square(centroids - profile).sum(axis=1).argmin()] == kind
        for kind in KINDS
        for profile in profiles[kind][6:]
    ]
    assert np.mean(guesses) > 0.8  # chance is 1/26


def test_birdsong_of_few_notes_is_never_silent():
    short = Event("birdsong", 0.0, 0.6, speed="slow")
    for seed in range(200):
        assert np.isfinite(synthesize(np.random.default_rng(seed), short, RATE)).all()


@pytest.mark.parametrize("kind", PITCHED)
def test_pitch_moves_the_spectrum(kind):
    low, high = (
        np.mean([spectral_centroid(hear(kind, seed, pitch=pitch)) for seed in range(3)])
        for pitch in ("low", "high")
    )
    assert high > 1.5 * low


@pytest.mark.parametrize("kind", PACED)
def test_speed_moves_the_rhythm(kind):
    measure = {"siren": sweeping, "crackling fire": bursts, "engine": bursts}.get(kind, onsets)
    fast, slow = (
        np.mean([measure(hear(kind, seed, speed=speed)) for seed in range(4)])
        for speed in ("fast", "slow")
    )
    assert fast > 1.5 * slow


@pytest.mark.parametrize("kind", STRUCK)
@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_number_is_the_count_of_onsets(kind, number):
    assert onsets(hear(kind, number=number)) == number
