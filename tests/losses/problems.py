"""Random problems for the losses, and how close values and gradients must be."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType

BATCH, DIM = 16, 8


def unit_rows(rng, batch=BATCH, dim=DIM):
    rows = rng.normal(size=(batch, dim))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def problem(seed, batch=BATCH, dim=DIM, scale=14.0, radius=0.3):
    """Audio, text, scale, bias and both radii in float64; audio and text of a pair are alike."""
    rng = np.random.default_rng(seed)
    audio = unit_rows(rng, batch, dim)
    text = audio + 0.7 * unit_rows(rng, batch, dim)
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    radii = (radius * rng.uniform(-0.2, 1.2, batch) for _ in range(2))
    return (audio, text, np.float64(scale), np.float64(-5.0), *radii)


def some_ids(seed, batch=BATCH):
    return np.random.default_rng(seed).integers(0, batch // 2 + 1, batch).astype(np.int32)


def make_mesh(shape, names=("data",), types=None):
    devices = jax.devices()[: math.prod(shape)]
    types = types or (AxisType.Auto,) * len(names)
    return jax.make_mesh(shape, names, types, devices=devices)


def in_float32(function, arguments):
    return jax.device_get(function(*(_as_jax(x, jnp.float32) for x in arguments)))


def in_float64(function, arguments):
    with jax.enable_x64(True):
        return jax.device_get(function(*(_as_jax(x, jnp.float64) for x in arguments)))


def _as_jax(x, dtype):
    return jnp.asarray(x, dtype if np.issubdtype(np.asarray(x).dtype, np.floating) else None)


def assert_close(actual, expected, error=1e-5):
    """A value and gradients, relative to the largest entry of each."""
    (value, gradients), (expected_value, expected_gradients) = actual, expected
    assert abs(value - expected_value) <= error * abs(expected_value)
    assert len(gradients) == len(expected_gradients)
    for i, (gradient, other) in enumerate(zip(gradients, expected_gradients, strict=True)):
        size = max(np.max(np.abs(other)), 1e-2 if np.ndim(other) == 0 else 0)
        assert np.max(np.abs(gradient - other)) <= error * size, f"argument {i}"
