"""Keys that are not the batch: queries of any number, each with its positive among any keys."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import PartitionSpec

from supclap_jax.losses import info_nce, sharded, siglip, svr, symmetric_info_nce
from tests.losses.problems import DIM, assert_close, in_float32, in_float64, make_mesh, unit_rows

pytestmark = pytest.mark.slow


def plain(query, key, scale, bias, *, kind, target, ids, key_ids, same_id, mask, key_mask, margin):
    """Query by query, key by key."""
    total = 0.0
    for i in np.flatnonzero(mask):
        same = [j for j in np.flatnonzero(key_mask) if key_ids[j] == ids[i] and j != target[i]]
        dropped = same if same_id == "ignore" else []
        positives = [target[i], *(same if same_id == "positive" else [])]
        logits = {j: scale * jnp.dot(query[i], key[j]) + bias for j in np.flatnonzero(key_mask)}
        logits = {j: logit for j, logit in logits.items() if j not in dropped}
        if kind == "siglip":
            signs = {j: 1 if j in positives else -1 for j in logits}
            total -= sum(jax.nn.log_sigmoid(signs[j] * logit) for j, logit in logits.items())
            continue
        logits[target[i]] -= scale * margin
        mean = sum(logits[j] for j in positives) / len(positives)
        total += jax.nn.logsumexp(jnp.stack(list(logits.values()))) - mean
    return total / max(np.sum(mask), 1)


def ours(query, key, scale, bias, *, kind, margin, **options):
    if kind == "siglip":
        return siglip(query, key, scale, bias, **options)
    return info_nce(query, key, scale, margin=margin, **options)


def draw(seed, n, m, masked=True):
    rng = np.random.default_rng(seed)
    key_mask, mask = rng.random(m) < 0.7, rng.random(n) < 0.8
    target = rng.integers(0, m, n)
    key_mask[target[mask]] = True
    target = np.where(mask, target, -7)
    pairs = {
        "target": target.astype(np.int32),
        "ids": rng.integers(0, 3, n).astype(np.int32),
        "key_ids": rng.integers(0, 3, m).astype(np.int32),
        "mask": mask if masked else np.ones(n, bool),
        "key_mask": key_mask if masked else np.ones(m, bool),
    }
    if not masked:
        pairs["target"] = rng.integers(0, m, n).astype(np.int32)
    vectors = unit_rows(rng, n, DIM), unit_rows(rng, m, DIM)
    return (*vectors, np.float64(9.0), np.float64(-3.0)), pairs


GRADIENT = partial(jax.value_and_grad, argnums=range(4))


def as_arrays(pairs):
    return {name: jnp.asarray(x) for name, x in pairs.items()}


@settings(max_examples=10, deadline=None, derandomize=True)
@given(
    n=st.integers(1, 7),
    m=st.integers(1, 9),
    kind=st.sampled_from(["info_nce", "siglip"]),
    same_id=st.sampled_from(["positive", "ignore"]),
    block_size=st.sampled_from([None, 1, 3, 4, "auto"]),
    margin=st.sampled_from([0.0, 0.2]),
    seed=st.integers(0, 99),
)
def test_matches_loops_in_float64(n, m, kind, same_id, block_size, margin, seed):
    arguments, pairs = draw(seed, n, m)
    options = {"kind": kind, "same_id": same_id, "margin": margin}
    expected = in_float64(GRADIENT(partial(plain, **options, **pairs)), arguments)
    loss = partial(ours, **options, block_size=block_size)
    with_pairs = lambda *x: loss(*x, **as_arrays(pairs))  # noqa: E731
    (value, gradients), (expected_value, others) = (
        in_float32(jax.jit(GRADIENT(with_pairs)), arguments),
        expected,
    )
    assert value == pytest.approx(expected_value, rel=1e-5, abs=1e-6)
    for gradient, other in zip(gradients, others, strict=True):
        np.testing.assert_allclose(gradient, other, rtol=0, atol=1e-5 * max(np.abs(other).max(), 1))


@pytest.mark.parametrize(
    ("devices", "n", "m", "kind", "block_size"),
    [
        (2, 6, 10, "info_nce", 3),  # five keys a device: the block travels as one
        (4, 8, 32, "siglip", 3),  # in two halves
        (8, 16, 16, "info_nce", "auto"),
    ],
)
def test_on_a_mesh_both_are_divided(devices, n, m, kind, block_size):
    arguments, pairs = draw(1, n, m)
    options = {"kind": kind, "same_id": "positive", "margin": 0.0}
    split = PartitionSpec("data")
    loss = sharded(
        partial(ours, **options, block_size=block_size),
        make_mesh((devices,)),
        in_specs=dict.fromkeys((1, "key_ids", "key_mask"), split),
    )
    found = in_float32(jax.jit(GRADIENT(lambda *x: loss(*x, **as_arrays(pairs)))), arguments)
    expected = in_float64(GRADIENT(partial(plain, **options, **pairs)), arguments)
    assert_close(found, expected)


@pytest.mark.parametrize("block_size", [None, 3])
def test_a_permutation_of_the_keys_changes_nothing(block_size):
    (query, key, scale, _), _ = draw(2, 7, 7)
    order = np.random.default_rng(2).permutation(7)
    plainly = in_float32(
        GRADIENT(partial(info_nce, block_size=block_size), argnums=(0, 1, 2)), (query, key, scale)
    )
    permuted = partial(info_nce, target=jnp.argsort(jnp.asarray(order)), block_size=block_size)
    value, (of_query, of_key, of_scale) = in_float32(
        GRADIENT(permuted, argnums=(0, 1, 2)), (query, key[order], scale)
    )
    assert_close((value, (of_query, of_key[np.argsort(order)], of_scale)), plainly)


@pytest.mark.parametrize("with_ids", [False, True])
@pytest.mark.parametrize("block_size", [None, 2, "auto"])
def test_a_query_without_a_positive_has_no_number(block_size, with_ids):
    """Also where another key of its clip could stand in for it."""
    (query, key, *_), _ = draw(3, 4, 5)
    options = {
        "target": jnp.array([0, 5, -1, 4]),  # beyond the keys, before them, padded
        "key_mask": jnp.array([True, True, True, True, False]),
        "reduction": "none",
        "block_size": block_size,
    }
    if with_ids:
        options |= {"ids": jnp.zeros(4, jnp.int32), "key_ids": jnp.zeros(5, jnp.int32)}
    arrays = jnp.asarray(query), jnp.asarray(key)
    for losses in (info_nce(*arrays, 9.0, **options), siglip(*arrays, 9.0, -3.0, **options)):
        assert np.isnan(losses).tolist() == [False, True, True, True]


def test_a_queue_that_all_devices_have_whole_is_refused():
    (query, key, *_), _ = draw(6, 4, 8)
    arrays = jnp.asarray(query), jnp.asarray(key), 9.0
    loss = sharded(info_nce, make_mesh((2,)), in_specs={1: PartitionSpec()})
    with pytest.raises(ValueError, match="second embeddings are the same on all devices of data"):
        loss(*arrays, target=jnp.arange(4))
    with pytest.raises(ValueError, match=r"'1' has 8.*; divide keys .* by in_specs=\{1: P\('data'"):
        sharded(info_nce, make_mesh((2,)))(*arrays, target=jnp.arange(4))


@pytest.mark.parametrize("block_size", [None, "auto"])
def test_axes_in_another_order_than_the_mesh_has(block_size):
    arguments, pairs = draw(7, 6, 12)
    options = {"kind": "siglip", "same_id": "positive", "margin": 0.0}
    axes = ("b", "a")
    loss = sharded(
        partial(ours, **options, block_size=block_size),
        make_mesh((2, 3), ("a", "b")),
        axes,
        in_specs=dict.fromkeys((1, "key_ids", "key_mask"), PartitionSpec(axes)),
    )
    found = in_float32(jax.jit(GRADIENT(lambda *x: loss(*x, **as_arrays(pairs)))), arguments)
    assert_close(found, in_float64(GRADIENT(partial(plain, **options, **pairs)), arguments))


@pytest.mark.parametrize("block_size", [None, 7])
def test_targets_of_any_whole_numbers(block_size):
    """Of one byte for more keys than a byte counts; numpy's, with a mask that is traced."""
    (query, key, *_), _ = draw(8, 4, 300)
    arrays = jnp.asarray(query, jnp.float32), jnp.asarray(key, jnp.float32), jnp.float32(9.0)
    target = np.array([3, 0, 127, 99])
    loss = partial(info_nce, *arrays, block_size=block_size)
    expected = float(loss(target=jnp.asarray(target)))
    with jax.numpy_dtype_promotion("strict"), jax.debug_nans(True):
        assert loss(target=jnp.asarray(target, jnp.uint8)) == expected
        assert loss(target=jnp.asarray(target, jnp.int8)) == expected
    masked = jax.jit(lambda mask: loss(target=target, mask=mask))
    assert masked(jnp.ones(4, bool)) == pytest.approx(expected, rel=1e-6)
    with pytest.raises(ValueError, match="targets are 0 to 300; expected 0 to 299"):
        loss(target=np.array([0, 1, 2, 300]))
    with pytest.raises(TypeError, match="targets are float32; expected an integer dtype"):
        loss(target=jnp.ones(4))


def test_support_vectors_against_a_queue():
    """`svr` of a contrast with a queue, against the loss of support vectors written out."""
    (audio, text, scale, _), _ = draw(4, 5, 5)
    queue = unit_rows(np.random.default_rng(4), 6)

    def contrast(query, key, block_size=None):
        keys = jnp.concatenate([key, jnp.asarray(queue, key.dtype)])
        return info_nce(query, keys, scale, target=jnp.arange(5), block_size=block_size)

    def loss(audio, text):
        return svr(audio, text, 0.2, 0.3, partial(contrast, block_size=4))

    def written_out(audio, text):
        total = 0.0
        for anchor, positive, radius in ((audio, text, 0.2), (text, audio, 0.3)):
            apart = positive - anchor
            moved = anchor + radius * apart / jnp.linalg.norm(apart, axis=1, keepdims=True)
            keys = jnp.concatenate([positive, jnp.asarray(queue)])
            logits = scale * moved @ keys.T
            total += jnp.mean(jax.nn.logsumexp(logits, axis=1) - jnp.diagonal(logits)) / 2
        return total

    gradient = partial(jax.value_and_grad, argnums=(0, 1))
    assert_close(
        in_float32(jax.jit(gradient(loss)), (audio, text)),
        in_float64(gradient(written_out), (audio, text)),
    )


def test_with_as_many_keys_it_is_the_loss_of_pairs():
    arguments, _ = draw(5, 6, 6)
    query, key = (jnp.asarray(x, jnp.float32) for x in arguments[:2])
    index = jnp.arange(6)
    both = info_nce(query, key, 9.0, target=index) + info_nce(key, query, 9.0, target=index)
    np.testing.assert_allclose(both / 2, symmetric_info_nce(query, key, 9.0), rtol=1e-6)
