"""Scenes as audio: their length, rate and levels."""

import numpy as np
import pytest

from supclap_jax.data.sound_events import CATALOGUE, KINDS, Event
from supclap_jax.data.soundscape import Scene, Soundscape, scene
from supclap_jax.data.soundscape_rendering import render
from tests.data.hearing import envelope


@pytest.mark.parametrize("seconds, rate", [(2, 16_000), (3.3, 22_050), (10, 48_000)])
def test_length_rate_and_range_are_honoured(seconds, rate):
    config = Soundscape(seconds=seconds, sample_rate=rate)
    for index in range(3):
        clip = render(config, scene(config, "validation", index))
        assert clip.dtype == np.float32 and clip.shape == (round(seconds * rate),)
        assert 1e-3 < np.abs(clip).max() < 1


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_stands_out_from_the_background_noise(kind):
    low = {"pitch": "low", "speed": "slow"}
    attributes = {name: low[name] for name in CATALOGUE[kind].attributes}
    number = 2 if CATALOGUE[kind].struck else None
    event = Event(kind, 0.1, 1.8, number=number, loudness="quiet", **attributes)
    config = Soundscape(seconds=2)
    for index in range(4):
        clip = render(config, Scene((0, 0, index), (event,)))
        silence = render(config, Scene((0, 0, index), ()))
        assert envelope(clip).max() > 2 * envelope(silence).max()


def test_loud_is_louder_than_quiet():
    config = Soundscape(seconds=2)

    def level(loudness):
        event = Event("whistle", 0.2, 1.5, number=2, pitch="low", loudness=loudness)
        return envelope(render(config, Scene((0, 0, 0), (event,)))).max()

    assert 8 < 20 * np.log10(level("loud") / level("quiet")) < 24
