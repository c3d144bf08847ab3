"""The contraction by itself: against the chain rule in numpy, and against support vectors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from supclap_jax.losses import contract, info_nce, support_vectors
from tests.losses.problems import problem


@pytest.mark.parametrize("factor", [0.0, 0.5, 1.0, 1.5, -1.0])
def test_only_what_is_across_the_pull_is_scaled(factor):
    audio, text, scale, *_ = problem(0)

    def loss(text, audio, contracted):
        query = contract(text, audio, factor) if contracted else text
        return info_nce(query, audio, scale)

    with jax.enable_x64(True):
        arguments = jnp.asarray(text), jnp.asarray(audio)
        value, (plain, plain_key) = jax.value_and_grad(loss, argnums=(0, 1))(*arguments, False)
        same, (found, found_key) = jax.value_and_grad(loss, argnums=(0, 1))(*arguments, True)
    pull = audio - text
    pull /= np.linalg.norm(pull, axis=1, keepdims=True)
    along = np.sum(np.asarray(plain) * pull, axis=1, keepdims=True) * pull
    expected = along + factor * (np.asarray(plain) - along)
    assert same == value
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * np.max(np.abs(plain)))
    np.testing.assert_array_equal(found_key, plain_key)


def test_it_is_the_jacobian_of_support_vectors():
    audio, text, *_ = problem(1)
    share = 0.3
    with jax.enable_x64(True):
        radius = share * np.linalg.norm(audio - text, axis=1)
        gradient = jnp.asarray(np.random.default_rng(0).normal(size=text.shape))
        moved = jax.vjp(lambda x: support_vectors(x, jnp.asarray(audio), radius), jnp.asarray(text))
        stays = jax.vjp(lambda x: contract(x, jnp.asarray(audio), 1 - share), jnp.asarray(text))
        np.testing.assert_allclose(moved[1](gradient)[0], stays[1](gradient)[0], atol=1e-12)


def test_equal_rows_and_half_precision_are_finite():
    same = jnp.eye(4, dtype=jnp.bfloat16)
    value, back = jax.vjp(lambda x: contract(x, same, 0.5), same)
    (gradient,) = back(same)
    assert value.dtype == gradient.dtype == jnp.bfloat16
    np.testing.assert_array_equal(gradient.astype(np.float32), 0.5 * np.eye(4))
    with pytest.raises(ValueError, match=r"expected the same \[batch, dim\]"):
        contract(same, same[:2], 0.5)
