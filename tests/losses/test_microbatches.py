"""The gradient cache as strangers call it: exact, the same randomness in both passes."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from supclap_jax.losses import cached_value_and_grad, symmetric_info_nce
from tests.losses.problems import assert_close, make_mesh

pytestmark = pytest.mark.slow

ROWS, DIM, PARTS = 12, 6, 3


def unit(x):
    return x / jnp.linalg.norm(x, axis=1, keepdims=True)


def towers(params, batch, key):
    """With dropout; the temperature is of no pair."""
    hidden = jnp.tanh(batch["audio"] @ params["audio"]["in"])
    if key is not None:
        hidden *= 2 * jax.random.bernoulli(key, 0.5, hidden.shape)
    audio = unit(hidden @ params["audio"]["out"])
    return {"pair": (audio, unit(batch["text"] @ params["text"])), "scale": params["scale"]}


def loss(found, **options):
    return symmetric_info_nce(*found["pair"], found["scale"], **options)


def in_a_loop(params, batch, key):
    """The whole batch's embeddings, with the keys of the microbatches, all activations kept."""
    order = jnp.argsort(jnp.arange(ROWS) % PARTS, stable=True)
    parts = [
        towers(
            params,
            {name: x[i::PARTS] for name, x in batch.items()},
            None if key is None else jax.random.fold_in(key, i),
        )
        for i in range(PARTS)
    ]
    pairs = [part["pair"] for part in parts]
    pair = [jnp.concatenate(x)[jnp.argsort(order)] for x in zip(*pairs, strict=True)]
    return loss({"pair": pair, "scale": params["scale"]})


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.normal(size=shape)  # noqa: E731
    params = {
        "audio": {"in": draw(DIM, 9), "out": draw(9, 5)},
        "text": draw(DIM, 5),
        "scale": np.float64(7.0),
    }
    return params, {"audio": draw(ROWS, DIM), "text": draw(ROWS, DIM)}


def compare(found, expected):
    (value, gradients), (other, others) = jax.device_get((found, expected))
    assert_close((value, jax.tree.leaves(gradients)), (other, jax.tree.leaves(others)), 1e-10)


@pytest.mark.parametrize("with_key", [False, True])
def test_equals_the_whole_batch(with_key, problem):
    with jax.enable_x64(True):
        params, batch = jax.tree.map(jnp.asarray, problem)
        key = jax.random.key(3) if with_key else None
        cached = jax.jit(cached_value_and_grad(loss, towers, PARTS))
        compare(cached(params, batch, key), jax.value_and_grad(in_a_loop)(params, batch, key))


def test_in_a_scan_of_steps(problem):
    """Two steps of gradient descent, as one after the other."""
    with jax.enable_x64(True):
        params, batch = jax.tree.map(jnp.asarray, problem)
        cached = cached_value_and_grad(loss, towers, PARTS)

        def step(params, key):
            _, gradients = cached(params, batch, key)
            return jax.tree.map(lambda x, g: x - 0.1 * g, params, gradients), None

        keys = jax.random.split(jax.random.key(1), 2)
        scanned, _ = jax.jit(lambda params: jax.lax.scan(step, params, keys))(params)
        for key in keys:
            gradients = jax.grad(in_a_loop)(params, batch, key)
            params = jax.tree.map(lambda x, g: x - 0.1 * g, params, gradients)
    for one, other in zip(jax.tree.leaves(scanned), jax.tree.leaves(params), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10)


def test_inside_shard_map(problem):
    """Two devices with half of the pairs each, and negatives from both."""
    split, everywhere = PartitionSpec("data"), PartitionSpec()
    of_share = cached_value_and_grad(partial(loss, axis_name="data"), towers, PARTS)
    mapped = jax.shard_map(
        of_share,
        mesh=make_mesh((2,)),
        in_specs=(everywhere, split),
        out_specs=(everywhere, everywhere),
    )
    with jax.enable_x64(True):
        params, batch = jax.tree.map(jnp.asarray, problem)
        expected = jax.value_and_grad(in_a_loop)(params, batch, None)
        compare(jax.jit(mapped)(params, batch), expected)


def test_microbatches_that_do_not_divide_are_refused(problem):
    with pytest.raises(ValueError, match="5 microbatches do not divide a batch of 12"):
        cached_value_and_grad(loss, towers, 5)(*problem)
