"""Tiles and rings against the dense losses in float64: values, gradients, work and memory."""

import importlib.util
import math
import os
from functools import cache, partial

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, PartitionSpec

from supclap_jax.losses import info_nce, sharded, siglip, supclap, svr, symmetric_info_nce
from supclap_jax.losses.similarity import similarity_summary
from supclap_jax.losses.sweep import sweep
from supclap_jax.losses.tiles import DENSE_UP_TO, TILE, Plan, make_plan

BATCH, DIM = 16, 8


def objective(audio, text, scale, bias, audio_radius, text_radius, **options):
    radii = {"audio_radius": audio_radius, "text_radius": text_radius}
    return supclap(audio, text, scale, **radii, **options)[0]


def siglip_objective(audio, text, scale, bias, audio_radius, text_radius, **options):
    radii = {"audio_radius": audio_radius, "text_radius": text_radius}
    return supclap(audio, text, scale, base="siglip", logit_bias=bias, **radii, **options)[0]


# All take (audio, text, scale, bias, audio_radius, text_radius).
LOSSES = {
    "info_nce": lambda a, t, s, *_, **options: info_nce(t, a, s, **options),
    "symmetric": lambda a, t, s, *_, **options: symmetric_info_nce(a, t, s, **options),
    "siglip": lambda a, t, s, b, *_, **options: siglip(a, t, s, b, **options),
    "supclap": objective,
    "supclap_siglip": siglip_objective,
}
ARGUMENTS = range(6)
each_kind = pytest.mark.parametrize("name", ["symmetric", "siglip", "supclap"])


def unit_rows(rng, batch, dim=DIM):
    rows = rng.normal(size=(batch, dim))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def problem(seed, batch=BATCH, dim=DIM, scale=14.0, radius=0.3):
    """Float64 arguments of every loss; audio and text of a pair are alike."""
    rng = np.random.default_rng(seed)
    audio = unit_rows(rng, batch, dim)
    text = audio + 0.7 * unit_rows(rng, batch, dim)
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    radii = (radius * rng.uniform(-0.2, 1.2, batch) for _ in range(2))
    return (audio, text, np.float64(scale), np.float64(-5.0), *radii)


def some_ids(seed, batch=BATCH):
    return np.random.default_rng(seed).integers(0, batch // 2 + 1, batch).astype(np.int32)


def make_mesh(shape, names=("data",)):
    devices = jax.devices()[: math.prod(shape)]
    return jax.make_mesh(shape, names, (AxisType.Auto,) * len(names), devices=devices)


@cache
def dense(name, same_id):
    """Value and gradients of the dense form, jitted."""
    options = {"same_id": same_id} if same_id else {}
    loss = lambda ids, *args: LOSSES[name](*args, **options, ids=ids if same_id else None)  # noqa: E731
    return jax.jit(jax.value_and_grad(loss, argnums=range(1, 7)))


@cache
def tiled(name, same_id, devices, block_size):
    options = {"same_id": same_id} if same_id else {}
    loss = partial(LOSSES[name], **options, block_size=block_size)
    if devices:
        loss = sharded(loss, make_mesh((devices,)))
    with_ids = lambda ids, *args: loss(*args, ids=ids if same_id else None)  # noqa: E731
    return jax.jit(jax.value_and_grad(with_ids, argnums=range(1, 7)))


def in_float32(function, arguments):
    return jax.device_get(function(*(as_jax(x, jnp.float32) for x in arguments)))


def in_float64(function, arguments):
    with jax.enable_x64(True):
        return jax.device_get(function(*(as_jax(x, jnp.float64) for x in arguments)))


def as_jax(x, dtype):
    return jnp.asarray(x, dtype if np.issubdtype(np.asarray(x).dtype, np.floating) else None)


def assert_close(actual, expected, error=1e-5):
    """Values and gradients, relative to the largest entry of each."""
    (value, gradients), (expected_value, expected_gradients) = actual, expected
    assert abs(value - expected_value) <= error * abs(expected_value)
    for i, (gradient, other) in enumerate(zip(gradients, expected_gradients, strict=True)):
        size = max(np.max(np.abs(other)), 1e-2 if np.ndim(other) == 0 else 0)
        assert np.max(np.abs(gradient - other)) <= error * size, f"argument {i}"


LAYOUTS = [
    ("symmetric", "positive", 0, 5),
    ("symmetric", None, 8, 1),
    ("symmetric", "ignore", 4, 3),
    ("symmetric", "positive", 0, "auto"),
    ("info_nce", "positive", 2, 5),
    ("info_nce", None, 8, None),
    ("siglip", "positive", 4, 2),
    ("siglip", "ignore", 1, 7),
    ("supclap", "positive", 8, None),
    ("supclap", None, 0, 5),
    ("supclap_siglip", "positive", 2, 8),
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
    one, *others = (
        in_float32(tiled("symmetric", "positive", devices, 2), (ids, *arguments))
        for devices in (1, 2, 4, 8)
    )
    for other in others:
        assert_close(other, one, 1e-6)


@pytest.mark.parametrize("axes", [{"data": 4}, {"data": 2, "fsdp": 4}])
def test_gradient_inside_shard_map(axes):
    """jax.grad in the body: replicated scalars get the sum over devices."""
    mesh, names = make_mesh(tuple(axes.values()), tuple(axes)), tuple(axes)
    names = names[0] if len(names) == 1 else names
    split, everywhere = PartitionSpec(names), PartitionSpec()
    scalars = {"audio_radius": 0.2, "text_radius": 0.3}

    def loss(audio, text, scale, audio_radius, text_radius, **options):
        radii = {"audio_radius": audio_radius, "text_radius": text_radius}
        return supclap(audio, text, scale, **radii, **options)[0]

    gradient = jax.value_and_grad(loss, argnums=range(5))
    specs = (split, split, everywhere, everywhere, everywhere)
    in_body = jax.shard_map(
        partial(gradient, axis_name=names, block_size=3),
        mesh=mesh,
        in_specs=specs,
        out_specs=(everywhere, specs),
    )
    arguments = (*problem(1)[:3], *scalars.values())
    arguments = tuple(jnp.asarray(x, jnp.float32) for x in arguments)
    actual = jax.device_get(jax.jit(in_body)(*arguments))
    assert_close(actual, jax.device_get(jax.jit(gradient)(*arguments)))


def test_sharded_keeps_gradients_split_and_takes_any_mesh():
    audio, text = (jnp.asarray(x, jnp.float32) for x in problem(2)[:2])
    expected = symmetric_info_nce(audio, text, 14.0)
    for types in (AxisType.Auto, AxisType.Explicit):
        mesh = jax.make_mesh((4, 2), ("data", "fsdp"), (types,) * 2)
        loss = sharded(symmetric_info_nce, mesh, ("data", "fsdp"))
        value, gradient = jax.jit(jax.value_and_grad(loss))(audio, text, 14.0)
        assert float(value) == pytest.approx(float(expected), rel=1e-6)
        assert {s.data.shape for s in gradient.addressable_shards} == {(BATCH // 8, DIM)}


def predict(summaries):
    """Some smooth function of all eight statistics."""
    weight = jnp.linspace(-0.02, 0.03, 8)
    return {
        f"{side}_radius": 0.2 + jnp.sum(summary * weight, 1) for side, summary in summaries.items()
    }


@pytest.mark.parametrize(
    ("base", "same_id", "devices", "batch"),
    [("info_nce", "positive", 4, 16), ("siglip", "ignore", 0, 16), ("info_nce", "ignore", 1, 3)],
)
def test_metrics_and_predicted_radii_are_those_of_the_dense_form(base, same_id, devices, batch):
    arguments = (*problem(3, batch)[:4], some_ids(3, batch))

    def loss(audio, text, scale, bias, ids, **options):
        frozen = lambda summaries: predict(jax.lax.stop_gradient(summaries))  # noqa: E731
        options |= {"base": base, "logit_bias": bias if base == "siglip" else None}
        return supclap(
            audio, text, scale, predict_radii=frozen, ids=ids, same_id=same_id, **options
        )

    tiles = partial(loss, block_size=3)
    if devices:
        tiles = sharded(tiles, make_mesh((devices,)))
    gradient = partial(jax.value_and_grad, argnums=(0, 1, 2), has_aux=True)
    (value, metrics), gradients = in_float32(jax.jit(gradient(tiles)), arguments)
    (expected, expected_metrics), expected_gradients = in_float64(
        jax.jit(gradient(loss)), arguments
    )
    assert_close((value, gradients), (expected, expected_gradients))
    assert set(metrics) == set(expected_metrics)
    for key, metric in expected_metrics.items():
        assert metrics[key] == pytest.approx(metric, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize(("batch", "block_size"), [(1, 1), (3, 2), (11, 4)])
def test_summaries_are_those_of_the_matrix(batch, block_size):
    audio, text = (jnp.asarray(x, jnp.float32) for x in problem(4, batch)[:2])
    plan = Plan("softmax", block_size, both=True, summary=True)
    sides = jax.jit(partial(sweep, plan))(audio, text, 14.0)
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
    same = jnp.tile(jnp.asarray(problem(0)[0][:1], jnp.float32), (7, 1))
    recall = jax.jit(lambda **ids: supclap(same, same, 14.0, block_size=3, **ids)[1])
    assert recall()["recall/text_to_audio"] == 0
    assert recall(ids=jnp.zeros(7, jnp.int32))["recall/text_to_audio"] == 1


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


def test_auto_keeps_the_matrix_where_it_is_small():
    plan = partial(make_plan, "softmax", ids=None, same_id="positive", block_size="auto")
    small, large = plan(batch=DENSE_UP_TO, axis_name=None), plan(batch=10**5, axis_name=None)
    assert (small.keep, small.tile) == (True, DENSE_UP_TO)
    assert (large.keep, large.tile) == (False, TILE)
    on_a_mesh = plan(batch=100, axis_name="data")
    assert (on_a_mesh.keep, on_a_mesh.tile) == (False, 100)


# --- work and memory, from the traced and the compiled program ---


def operations(jaxpr):
    """Operations of all matrix products, loops counted as often as they run."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            contracted = equation.params["dimension_numbers"][0][0]
            inner = math.prod(equation.invars[0].aval.shape[i] for i in contracted)
            total += 2 * inner * equation.outvars[0].aval.size
        inside = sum(operations(sub) for sub in jax.extend.core.jaxprs_in_params(equation.params))
        total += inside * equation.params.get("length", 1)
    return total


def fused(audio, text, scale, **options):
    return supclap(audio, text, scale, predict_radii=predict, **options)[0]


@pytest.mark.parametrize(
    ("loss", "forward"),
    [
        (symmetric_info_nce, 1),
        (info_nce, 1),
        (lambda a, t, s, **options: siglip(a, t, s, -5.0, **options), 1),
        (fused, 3),
    ],
)
@pytest.mark.parametrize("devices", [1, 4])
def test_number_of_products(loss, forward, devices):
    """One product of `batch x batch x dim` for each sweep, and three more for its gradients."""
    audio, text, scale = (jnp.asarray(x, jnp.float32) for x in problem(0, 32)[:3])
    loss = sharded(partial(loss, block_size=5), make_mesh((devices,)))
    unit = 2 * 32 * 32 * DIM / devices
    value = jax.make_jaxpr(loss)(audio, text, scale)
    gradient = jax.make_jaxpr(jax.value_and_grad(loss, argnums=(0, 1, 2)))(audio, text, scale)
    assert operations(value.jaxpr) == forward * unit
    assert operations(gradient.jaxpr) == 4 * forward * unit


def transfers(jaxpr, size):
    """Transfers to the next device of arrays as large as a block of keys."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "ppermute":
            total += sum(x.aval.size == size for x in equation.invars)
        total += sum(
            transfers(sub, size) for sub in jax.extend.core.jaxprs_in_params(equation.params)
        )
    return total


@pytest.mark.parametrize(("name", "keys"), [("symmetric", 1), ("siglip", 1), ("supclap", 2)])
def test_keys_travel_once_for_all_sweeps(name, keys):
    """Forward every distinct block of keys moves on once a turn, backward with its gradient."""
    arguments = [jnp.asarray(x, jnp.float32) for x in problem(0, 32)]
    loss = sharded(partial(LOSSES[name], block_size=5), make_mesh((4,)))
    assert transfers(jax.make_jaxpr(loss)(*arguments).jaxpr, 8 * DIM) == keys
    gradient = jax.make_jaxpr(jax.grad(loss, argnums=(0, 1)))(*arguments)
    assert transfers(gradient.jaxpr, 8 * DIM) == 3 * keys


def test_auto_needs_three_products_where_the_matrix_is_small():
    audio, text, scale = (jnp.asarray(x, jnp.float32) for x in problem(0, 32)[:3])
    loss = partial(symmetric_info_nce, block_size="auto")
    gradient = jax.make_jaxpr(jax.value_and_grad(loss, argnums=(0, 1)))(audio, text, scale)
    assert operations(gradient.jaxpr) == 3 * 2 * 32 * 32 * DIM


def temporaries(loss, batch, dim=64, dtype=jnp.float32, shardings=(None,) * 3):
    shapes = ((batch, dim), (batch, dim), ())
    dtypes = (dtype, dtype, jnp.float32)
    structs = [
        jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)
        for shape, dtype, sharding in zip(shapes, dtypes, shardings, strict=True)
    ]
    compiled = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2))).lower(*structs).compile()
    return compiled.memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize("loss", [symmetric_info_nce, fused])
def test_memory_is_linear_in_the_batch(loss):
    small, large = (temporaries(partial(loss, block_size=256), batch) for batch in (4096, 8192))
    assert large <= 2.2 * small
    assert large <= temporaries(loss, 8192) / 20


@pytest.mark.filterwarnings("ignore:Error reading persistent compilation cache")
@pytest.mark.skipif(not importlib.util.find_spec("libtpu"), reason="libtpu is not installed")
def test_memory_is_linear_in_the_batch_on_a_tpu():
    """Compiled ahead of time for eight chips."""
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    from jax.experimental import topologies

    topology = topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x4")
    mesh = jax.sharding.Mesh(np.array(topology.devices), ("data",))
    split, everywhere = (
        jax.sharding.NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("data",), ())
    )
    loss = sharded(partial(symmetric_info_nce, block_size=1024), mesh)
    small, large = (
        temporaries(loss, batch, 256, jnp.bfloat16, (split, split, everywhere))
        for batch in (2**16, 2**17)
    )
    assert large <= 2.2 * small
