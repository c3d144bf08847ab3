"""Scenes to audio: their events one after the other, in a room, with background noise."""

import numpy as np

from supclap_jax.data.sound_events import LOUDNESS, synthesize
from supclap_jax.data.sound_synthesis import convolve, fast_length, filtered_noise
from supclap_jax.data.soundscape import RENDER_STREAM, Scene, Soundscape


def render(config: Soundscape, scene: Scene) -> np.ndarray:
    """Renders a scene to float32 `[config.samples]` with all values inside (-1, 1)."""
    rng = np.random.default_rng([*scene.key, RENDER_STREAM])
    levels = [LOUDNESS[event.loudness] + rng.uniform(-3, 3) for event in scene.events]
    dry = np.zeros(config.samples, np.float32)
    for event, level in zip(scene.events, levels, strict=True):
        _add(dry, synthesize(rng, event, config.sample_rate), event.onset, level, config)
    if scene.background:
        sound = synthesize(rng, scene.background, config.sample_rate)
        level = min(-26.0, min(levels) - rng.uniform(3, 7))
        _add(dry, sound, scene.background.onset, level, config)
    clip = convolve(dry, _room(rng, config.sample_rate)) + _hiss(rng, config)
    return (clip / max(1.0, np.abs(clip).max() / 0.95)).astype(np.float32)


def _add(
    clip: np.ndarray, sound: np.ndarray, onset: float, level: float, config: Soundscape
) -> None:
    start = round(onset * config.sample_rate)
    sound = sound[: len(clip) - start]
    clip[start : start + len(sound)] += np.float32(10 ** (level / 20)) * sound


def _room(rng: np.random.Generator, rate: int) -> np.ndarray:
    """The impulse response of a room and a microphone.

    The direct sound and a decaying tail of random reflections, coloured by a smooth random
    frequency response of about +-4 dB.
    """
    reverberation, wet = rng.uniform(0.1, 0.8), rng.uniform(0.05, 0.6)
    lead = rate // 50  # room for what the zero-phase colouring puts before the direct sound
    length = fast_length(lead + round(0.7 * reverberation * rate))
    time = np.arange(length - lead, dtype=np.float32) / rate
    tail = rng.standard_normal(len(time), dtype=np.float32) * np.exp(-6.9 * time / reverberation)
    response = np.zeros(length, np.float32)
    response[lead:] = tail * (wet / np.sqrt(np.square(tail).sum()))
    response[lead] = 1
    octaves = np.log2(np.linspace(0, rate / 2, length // 2 + 1) + 50)
    decibels = sum(
        rng.normal(0, 3) * np.cos(2 * np.pi * (octaves / period + rng.random()))
        for period in (10, 4, 2)
    )
    return np.fft.irfft(np.fft.rfft(response) * 10 ** (decibels / 20), length).astype(np.float32)


def _hiss(rng: np.random.Generator, config: Soundscape) -> np.ndarray:
    """Background noise between white and brown, 46 to 60 dB below full scale."""
    slope, level = rng.uniform(0, 1), rng.uniform(-60, -46)
    noise = filtered_noise(
        rng, config.samples, config.sample_rate, lambda f: np.maximum(f, 40) ** -slope
    )
    return np.float32(10 ** (level / 20)) * noise
