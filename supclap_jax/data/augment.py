"""Augmentations of training audio, on the host: float32 `[samples]`, the clip's own first."""

import numpy as np
from ml_collections import ConfigDict


def changes_values(config: ConfigDict) -> bool:
    """Whether samples become others, and do not only move."""
    return bool(config.data.gain_db or config.data.mixup)


def time_shift(audio: np.ndarray, samples: int, rng: np.random.Generator) -> np.ndarray:
    """Rotates the clip's own `samples` by a random share of their number; padding stays."""
    rotated = np.roll(audio[:samples], rng.integers(samples))
    return np.concatenate([rotated, audio[samples:]])


def gain(audio: np.ndarray, decibels: float, rng: np.random.Generator) -> np.ndarray:
    """Multiplies by a random factor between minus and plus `decibels`."""
    return audio * np.float32(10 ** (rng.uniform(-decibels, decibels) / 20))


def mix(audio: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Adds two clips of one length; each keeps between 30 and 70 % of its amplitude."""
    weight = np.float32(rng.uniform(0.3, 0.7))
    return weight * audio + (1 - weight) * other
