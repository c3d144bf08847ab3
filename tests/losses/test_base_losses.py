"""Margins, label smoothing, other losses in the engine, against plain formulas in float64."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from supclap_jax.losses import Decoupled, Softmax, info_nce, sharded, supclap
from tests.losses.hard_negatives import HardNegatives
from tests.losses.problems import BATCH, assert_close, make_mesh, problem, some_ids

pytestmark = pytest.mark.slow


def plain(query, key, scale, ids, margin, smoothing, decoupled):
    """The mean over queries; `scale` of each, as is all else, in whole matrices."""
    own = jnp.eye(BATCH, dtype=bool)
    logits = scale * (query @ key.T - margin * own)
    same = own if ids is None else ids[:, None] == ids[None, :]
    target = (1 - smoothing) * same / jnp.sum(same, axis=1, keepdims=True) + smoothing / BATCH
    summed = jnp.where(own, -jnp.inf, logits) if decoupled else logits
    return jnp.mean(jax.nn.logsumexp(summed, axis=1) - jnp.sum(target * logits, axis=1))


CASES = [
    (Softmax(margin=0.2), False, None, 0),
    (Softmax(label_smoothing=0.1), True, 5, 0),
    (Softmax(margin=0.2, label_smoothing=0.1), True, 3, 4),
    (Decoupled(), False, 5, 0),
    (Decoupled(margin=-0.1, label_smoothing=0.3), True, None, 0),
]


@pytest.mark.parametrize(("base", "with_ids", "block_size", "devices"), CASES)
def test_values_and_gradients_are_those_of_the_formula(base, with_ids, block_size, devices):
    audio, text, scale, *_ = problem(8)
    ids = some_ids(8) if with_ids else None
    options = (base.margin, base.label_smoothing, isinstance(base, Decoupled))

    def both_ways(audio, text, scale, ids=None):
        there = plain(audio, text, scale, ids, *options)
        return (there + plain(text, audio, scale, ids, *options)) / 2

    tiles = partial(supclap, base=base, block_size=block_size)
    whole = sharded(tiles, make_mesh((devices,))) if devices else tiles
    loss = lambda *arguments, **ids: whole(*arguments, **ids)[0]  # noqa: E731
    with jax.enable_x64(True):
        given = {} if ids is None else {"ids": jnp.asarray(ids)}
        arguments = [jnp.asarray(x) for x in (audio, text, scale)]
        found, expected = (
            jax.jit(jax.value_and_grad(partial(f, **given), (0, 1, 2)))(*arguments)
            for f in (loss, both_ways)
        )
    assert_close(jax.device_get(found), jax.device_get(expected), 1e-10)


@pytest.mark.parametrize("devices", [0, 4])
def test_a_strangers_loss_in_tiles_and_rings(devices):
    """Its value and gradients, `ids` ignored, as a user's object in `supclap`."""
    audio, text, scale, *_ = problem(10)
    ids, beta = some_ids(10), 0.7

    def one_way(query, key, scale, ids):
        z = scale * (query @ key.T - jnp.sum(query * key, axis=1)[:, None])
        used = ids[:, None] != ids[None, :]
        above, below = (jnp.sum(jnp.where(used, jnp.exp(f * z), 0), 1) for f in (1 + beta, beta))
        return jnp.mean(jnp.log1p(jnp.sum(used, axis=1) * above / below))

    def both_ways(audio, text, scale, ids):
        return (one_way(audio, text, scale, ids) + one_way(text, audio, scale, ids)) / 2

    base = HardNegatives(beta)
    whole = partial(supclap, base=base, same_id="ignore", block_size=5)
    if devices:
        whole = sharded(whole, make_mesh((devices,)))
    loss = lambda *arguments, ids: whole(*arguments, ids=ids)[0]  # noqa: E731
    with jax.enable_x64(True):
        arguments = [jnp.asarray(x) for x in (audio, text, scale)]
        found, expected = (
            jax.jit(jax.value_and_grad(partial(f, ids=jnp.asarray(ids)), (0, 1, 2)))(*arguments)
            for f in (loss, both_ways)
        )
    assert_close(jax.device_get(found), jax.device_get(expected), 1e-10)


def test_one_direction_has_them_as_options():
    audio, text, scale, *_ = problem(9)
    with jax.enable_x64(True):
        arguments = [jnp.asarray(x) for x in (audio, text, scale)]
        found = info_nce(*arguments, margin=0.1, label_smoothing=0.2)
        expected = plain(*arguments, None, 0.1, 0.2, decoupled=False)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_a_decoupled_query_without_negatives_loses_nothing():
    ids = np.zeros(4, np.int32)
    options = {"ids": ids, "same_id": "ignore", "base": "decoupled"}
    value, gradient = jax.value_and_grad(lambda x: supclap(x, x, 3.0, **options)[0])(jnp.eye(4))
    assert value == 0
    assert not np.any(gradient)


def test_what_is_out_of_range_is_refused():
    with pytest.raises(ValueError, match="margin is inf; expected a finite number"):
        Softmax(margin=np.inf)
    with pytest.raises(ValueError, match=r"label_smoothing is 1\.0; expected 0 to below 1"):
        info_nce(jnp.eye(3), jnp.eye(3), 1.0, label_smoothing=1.0)
