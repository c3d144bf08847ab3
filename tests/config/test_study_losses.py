"""The study's controls: each does what it says, pair by pair in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from supclap_jax.config.named_objects import resolve
from supclap_jax.config.recipes import read_config
from supclap_jax.losses import info_nce, support_vectors

SCALE = 9.0


def loss(name):
    read_config("soundscape", [])  # puts the recipes' folder on the path
    return resolve("loss.base", f"study_losses:{name}")


@pytest.fixture
def pairs():
    with jax.enable_x64(True):
        rows = np.random.default_rng(0).standard_normal((2, 7, 5))
        yield jnp.array(rows / np.linalg.norm(rows, axis=-1, keepdims=True))


def gradients(function, pairs, scale=SCALE):
    """Value, and gradients of queries, keys and scale."""
    of_all = jax.value_and_grad(lambda pairs, scale: function(*pairs, scale), (0, 1))
    return of_all(pairs, jnp.float64(scale))


def test_twice(pairs):
    value, (by_pairs, _) = gradients(loss("twice"), pairs)
    expected, (by_info_nce, _) = gradients(info_nce, pairs)
    np.testing.assert_allclose(value, 2 * expected, rtol=1e-12)
    np.testing.assert_allclose(by_pairs, 2 * by_info_nce, rtol=1e-12)


def test_heavier_positives_pull_twice_and_push_as_before(pairs):
    value, (by_pairs, by_scale) = gradients(loss("heavier_positives"), pairs)
    expected, (by_info_nce, scale_by_info_nce) = gradients(info_nce, pairs)
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    np.testing.assert_allclose(by_scale, scale_by_info_nce, rtol=1e-12)
    query, key = np.asarray(pairs)
    logits = SCALE * query @ key.T
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    pull = SCALE * (1 - np.diag(softmax))[:, None] / len(query)
    np.testing.assert_allclose(by_pairs, by_info_nce - np.stack([pull * key, pull * query]))


def test_a_stopped_direction_does_not_contract(pairs):
    """The gradient of support vectors at half the distance reaches the query as it is."""
    query, key = pairs
    moved = support_vectors(query, key, jnp.linalg.norm(key - query, axis=1) / 2)
    value, (by_pairs, _) = gradients(loss("stopped_direction"), pairs)
    base, (by_base, _) = gradients(info_nce, pairs)
    of_moved, (by_moved, _) = gradients(info_nce, jnp.stack([moved, key]))
    np.testing.assert_allclose(value, base + of_moved, rtol=1e-12)
    np.testing.assert_allclose(by_pairs, by_base + by_moved, rtol=1e-10)
