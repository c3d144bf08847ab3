"""Tiles and rings against dense forms in float64: values, gradients, work and memory."""

from functools import cache, partial

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AbstractMesh, AxisType, PartitionSpec

from supclap_jax.losses import info_nce, sharded, siglip, supclap, svr, symmetric_info_nce
from supclap_jax.losses.base import Sigmoid, Softmax
from supclap_jax.losses.batch_statistics import Summary
from supclap_jax.losses.pairs import Pairs
from supclap_jax.losses.similarity import similarity_summary
from supclap_jax.losses.tile_sweep import sweep
from supclap_jax.losses.tiles import TILE, Plan, make_plan
from tests.losses import reference
from tests.losses.problems import (
    BATCH,
    DIM,
    assert_close,
    in_float32,
    in_float64,
    make_mesh,
    problem,
    some_ids,
)

pytestmark = pytest.mark.slow


def objective(audio, text, scale, bias, audio_radius, text_radius, **options):
    radii = {"audio_radius": audio_radius, "text_radius": text_radius}
    return supclap(audio, text, scale, **radii, **options)[0]


def plain_objective(audio, text, scale, bias, audio_radius, text_radius, **options):
    radii = {"audio": audio_radius, "text": text_radius}
    return reference.objective(audio, text, scale, radii, **options)[0]


# All take (audio, text, scale, bias, audio_radius, text_radius).
LOSSES = {
    "info_nce": lambda a, t, s, *_, **options: info_nce(t, a, s, **options),
    "symmetric": lambda a, t, s, *_, **options: symmetric_info_nce(a, t, s, **options),
    "siglip": lambda a, t, s, b, *_, **options: siglip(a, t, s, b, **options),
    "supclap": objective,
}
DENSE = LOSSES | {"supclap": plain_objective}
each_kind = pytest.mark.parametrize("name", ["symmetric", "siglip", "supclap"])


@cache
def dense(name, same_id):
    """Value and gradients of the dense form, jitted."""
    options = {"same_id": same_id} if same_id else {}
    loss = lambda ids, *args: DENSE[name](*args, **options, ids=ids if same_id else None)  # noqa: E731
    return jax.jit(jax.value_and_grad(loss, argnums=range(1, 7)))


@cache
def tiled(name, same_id, devices, block_size):
    options = {"same_id": same_id} if same_id else {}
    loss = partial(LOSSES[name], **options, block_size=block_size)
    if devices:
        loss = sharded(loss, make_mesh((devices,)))
    with_ids = lambda ids, *args: loss(*args, ids=ids if same_id else None)  # noqa: E731
    return jax.jit(jax.value_and_grad(with_ids, argnums=range(1, 7)))


LAYOUTS = [
    ("symmetric", "positive", 0, 5),
    ("symmetric", "positive", 8, 2),
    ("symmetric", "ignore", 4, 3),
    ("symmetric", None, 0, "auto"),
    ("info_nce", "positive", 2, 5),
    ("info_nce", None, 8, None),
    ("siglip", "positive", 4, 2),
    ("siglip", "ignore", 1, 7),
    ("symmetric", "positive", 8, "auto"),
    ("supclap", "ignore", 4, "auto"),
]


@pytest.mark.parametrize(("name", "same_id", "devices", "block_size"), LAYOUTS)
@settings(max_examples=6, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 999),
    scale=st.floats(0.1, 40.0),
    radius=st.floats(0.05, 1.0),
)
def test_matches_dense_float64(name, same_id, devices, block_size, seed, scale, radius):
    arguments, ids = problem(seed, scale=scale, radius=radius), some_ids(seed)
    expected = in_float64(dense(name, same_id), (ids, *arguments))
    assert_close(in_float32(tiled(name, same_id, devices, block_size), (ids, *arguments)), expected)


@settings(max_examples=6, deadline=None, derandomize=True)
@given(
    batch=st.integers(1, 9),
    block_size=st.integers(1, 10),
    name=st.sampled_from(["symmetric", "siglip"]),
    same_id=st.sampled_from([None, "positive", "ignore"]),
    seed=st.integers(0, 99),
)
def test_any_batch_and_any_tile(batch, block_size, name, same_id, seed):
    arguments, ids = problem(seed, batch), some_ids(seed, batch)
    expected = in_float64(dense(name, same_id), (ids, *arguments))
    actual = in_float32(tiled(name, same_id, 0, block_size), (ids, *arguments))
    assert actual[0] == pytest.approx(expected[0], rel=1e-5, abs=1e-7)
    for gradient, other in zip(actual[1], expected[1], strict=True):
        np.testing.assert_allclose(gradient, other, rtol=0, atol=1e-5 * max(np.abs(other).max(), 1))


def test_value_and_gradients_do_not_change_with_the_number_of_devices():
    arguments, ids = problem(0), some_ids(0)
    one, eight = (
        in_float32(tiled("symmetric", "positive", devices, 2), (ids, *arguments))
        for devices in (1, 8)
    )
    assert_close(eight, one, 1e-6)


@pytest.mark.parametrize(
    ("shape", "names", "batch"),
    [
        ((2, 4), ("data", "fsdp"), 16),
        ((4, 2), ("data", "fsdp"), 128),  # keys in halves
        ((2, 2, 2), ("slice", "data", "fsdp"), 24),
        ((1, 8), ("data", "fsdp"), 16),
        ((2, 4), ("fsdp", "data"), 128),
    ],
)
def test_value_and_gradients_do_not_change_with_the_shape_of_a_mesh(shape, names, batch):
    """Rings along its last axis, and hops between them; axes in the order of the batch."""
    arguments, ids = problem(0, batch), some_ids(0, batch)
    loss = partial(LOSSES["symmetric"], block_size=3, same_id="positive")
    order = tuple(sorted(names))
    on_mesh = sharded(loss, make_mesh(shape, names), order)
    both = jax.jit(jax.value_and_grad(lambda ids, *x: on_mesh(*x, ids=ids), argnums=range(1, 4)))
    value, gradients = in_float32(both, (ids, *arguments[:3]))
    expected, theirs = in_float64(dense("symmetric", "positive"), (ids, *arguments))
    assert_close((value, gradients), (expected, theirs[:3]))


def test_gradient_inside_shard_map():
    """jax.grad in the body: replicated scalars get the sum over devices."""
    names = ("data", "fsdp")
    split, everywhere = PartitionSpec(names), PartitionSpec()
    specs = (split, split, everywhere, everywhere, everywhere, everywhere)
    loss = partial(objective, axis_name=names, block_size=2)
    in_body = jax.shard_map(
        jax.value_and_grad(loss, argnums=range(6)),
        mesh=make_mesh((2, 4), names),
        in_specs=specs,
        out_specs=(everywhere, specs),
    )
    arguments = (*problem(1)[:4], np.float64(0.2), np.float64(0.3))
    expected = in_float64(dense("supclap", None), (some_ids(1), *arguments))
    assert_close(in_float32(jax.jit(in_body), arguments), expected)


@pytest.mark.parametrize(
    ("base", "batch", "block_size", "both"),
    [(Softmax(), 1, 1, True), (Softmax(), 11, 4, False), (Sigmoid(), 3, 2, True)],
)
def test_summaries_are_those_of_the_matrix(base, batch, block_size, both):
    audio, text = (jnp.asarray(x, jnp.float32) for x in problem(4, batch)[:2])
    summary = Summary(others_known=both and base.sums_all_negatives(None))
    of_plan = partial(sweep, Plan(base, block_size), both=both, statistics=(summary,))
    sides = jax.jit(of_plan)(audio, text, 14.0, Pairs())
    logits = 14.0 * audio @ text.T
    for side, rows in zip(sides, (logits, logits.T), strict=True):
        expected = similarity_summary(rows)
        np.testing.assert_allclose(side["summary"], expected, rtol=1e-5, atol=1e-5)


def test_strangers_contrast_inside_shard_map():
    """A loss that gathers its keys by itself, given to `svr`; against one device."""

    def hinge(query, key, axis_name=None):
        first, keys = 0, key
        if axis_name:
            keys = jax.lax.all_gather(key, axis_name, tiled=True)
            first = jax.lax.axis_index(axis_name) * len(query)
        scores = query @ keys.T
        own = jnp.sum(query * key, axis=1)
        negative = jnp.arange(len(keys)) != first + jnp.arange(len(query))[:, None]
        other = jnp.max(jnp.where(negative, scores, -jnp.inf), axis=1)
        mean = jnp.mean(jax.nn.relu(0.2 + other - own))
        return jax.lax.pmean(mean, axis_name) if axis_name else mean

    def loss(audio, text, audio_radius, text_radius, axis_name=None):
        contrast = partial(hinge, axis_name=axis_name)
        return svr(audio, text, audio_radius, text_radius, contrast)

    audio, text, *_, audio_radius, text_radius = problem(5)
    arguments = tuple(jnp.asarray(x, jnp.float32) for x in (audio, text, audio_radius, text_radius))
    one, eight = (
        jax.device_get(jax.jit(jax.value_and_grad(f, argnums=range(4)))(*arguments))
        for f in (loss, sharded(loss, make_mesh((8,))))
    )
    assert_close(eight, one)


@pytest.mark.parametrize("name", ["symmetric", "siglip"])
def test_under_checkpoint_and_vmap(name):
    loss = partial(LOSSES[name], block_size=3)
    gradient = jax.value_and_grad(loss, argnums=range(3))
    several = [tuple(jnp.asarray(x, jnp.float32) for x in problem(seed, 7)) for seed in (0, 1)]
    plain = [jax.device_get(jax.jit(gradient)(*arguments)) for arguments in several]
    kept = jax.jit(jax.value_and_grad(jax.checkpoint(loss), argnums=range(3)))(*several[0])
    assert_close(jax.device_get(kept), plain[0], 1e-6)
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *several)
    values, gradients = jax.device_get(jax.jit(jax.vmap(gradient))(*stacked))
    for i, expected in enumerate(plain):
        assert_close((values[i], [g[i] for g in gradients]), expected, 2e-6)


@each_kind
@pytest.mark.parametrize("case", ["aligned", "identical rows", "one pair", "large scale"])
def test_edges_stay_finite(name, case):
    audio, text, scale, *rest = problem(6, 1 if case == "one pair" else 7)
    if case != "large scale":
        text = audio = np.tile(audio[:1], (7, 1)) if case == "identical rows" else audio
    scale = 1e5 if case == "large scale" else scale
    actual = in_float32(tiled(name, None, 0, 3), (np.arange(7), audio, text, scale, *rest))
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(actual))


def test_a_loss_of_nearly_zero_keeps_its_digits():
    """`log(1 + exp z)` of the negatives alone: float32 itself would end at 1e-7."""
    audio = np.eye(BATCH, DIM * 2)
    expected = np.log1p((BATCH - 1) * np.exp(-30.0))
    value = symmetric_info_nce(jnp.asarray(audio), jnp.asarray(audio), 30.0, block_size=5)
    assert float(value) == pytest.approx(expected, rel=1e-5)


def test_in_batch_recall_counts_ties_as_misses():
    same = jnp.full((7, 4), 0.5)  # whose products have no rounding
    recall = jax.jit(lambda **ids: supclap(same, same, 14.0, block_size=3, **ids)[1])
    assert recall()["R@1/text_to_audio"] == 0
    assert recall(ids=jnp.zeros(7, jnp.int32))["R@1/text_to_audio"] == pytest.approx(100)


@each_kind
def test_bfloat16_accumulates_in_float32(name):
    arguments = [jnp.asarray(x, jnp.bfloat16) for x in problem(7, 32, dim=64)]
    arguments[2:] = [x.astype(jnp.float32) for x in arguments[2:]]
    low = jax.device_get(tiled(name, None, 0, 12)(np.arange(32), *arguments))
    assert low[0].dtype == np.float32
    assert low[1][0].dtype == jnp.bfloat16
    full = in_float32(dense(name, None), (np.arange(32), *arguments))
    as_float32 = [g.astype(np.float32) for g in low[1]]
    assert_close((low[0], as_float32), full, 2e-2)
    assert low[0] == pytest.approx(full[0], rel=2e-3)


@pytest.mark.parametrize(
    ("block_size", "error", "message"),
    [
        (0, ValueError, "block_size is 0; expected at least 1"),
        ("big", ValueError, "block_size is 'big'"),
        (2.5, TypeError, "block_size is 2.5; expected None, an int"),
    ],
)
def test_errors_name_what_was_given(block_size, error, message):
    with pytest.raises(error, match=message):
        info_nce(jnp.eye(3), jnp.eye(3), 1.0, block_size=block_size)


@pytest.mark.parametrize(
    ("rows", "devices", "keep", "gathered", "tile"),
    [
        (4096, 0, True, False, None),
        (4097, 0, False, False, TILE),
        (16, 8, True, True, None),
        (4095, 8, False, True, TILE),
        (4096, 8, False, False, TILE),  # as many rows as hide a transfer
        (455, 256, False, True, TILE),
        (456, 256, False, False, TILE),  # 512 MiB of keys and gradients
    ],
)
def test_auto_keeps_what_is_small_and_gathers_where_a_share_is(rows, devices, keep, gathered, tile):
    found = []

    def ask(x):
        axis = "data" if devices else None
        found.append(make_plan(Softmax(), x, [x], None, "positive", axis, "auto"))
        return x

    axes = AbstractMesh((devices,), ("data",), (AxisType.Auto,)) if devices else None
    spec = PartitionSpec("data")
    ask = jax.shard_map(ask, mesh=axes, in_specs=spec, out_specs=spec) if devices else ask
    jax.eval_shape(ask, jax.ShapeDtypeStruct((rows * max(devices, 1), 768), jnp.bfloat16))
    assert (found[0].keep, found[0].gathered, found[0].tile) == (keep, gathered, tile)
