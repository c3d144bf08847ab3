"""`sharded`, shard_map and pmap: any mesh, the gradient of the global value, one program."""

from functools import partial

import jax
import jax.monitoring
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from supclap_jax.losses import sharded, symmetric_info_nce
from tests.losses.problems import BATCH, DIM, assert_close, make_mesh, problem

pytestmark = pytest.mark.slow

AUTO, EXPLICIT = AxisType.Auto, AxisType.Explicit
SPLIT = PartitionSpec("data")


@pytest.fixture(scope="module")
def pairs():
    return tuple(jnp.asarray(x, jnp.float32) for x in problem(2)[:2])


@pytest.fixture(scope="module")
def expected(pairs):
    return jax.value_and_grad(symmetric_info_nce, (0, 1, 2))(*pairs, 14.0)


@pytest.mark.parametrize("types", [(AUTO, AUTO), (EXPLICIT, EXPLICIT), (AUTO, EXPLICIT)])
def test_any_mesh_and_gradients_stay_split(types, pairs, expected):
    """Also one of `jax.set_mesh`, and inputs that come divided over another axis."""
    mesh = make_mesh((4, 2), ("data", "model"), types)
    loss = jax.jit(jax.value_and_grad(sharded(symmetric_info_nce, mesh), (0, 1, 2)))
    in_use = jax.jit(jax.value_and_grad(sharded(symmetric_info_nce), (0, 1, 2)))
    value, gradients = loss(*pairs, 14.0)
    assert_close((value, gradients), expected)
    assert {s.data.shape for s in gradients[0].addressable_shards} == {(BATCH // 4, DIM)}
    turned = jax.device_put(pairs[0], NamedSharding(mesh, PartitionSpec(None, "model")))
    with jax.set_mesh(mesh):
        assert_close(in_use(turned, pairs[1], 14.0), expected)


@pytest.mark.parametrize("how", ["pmap", "shard_map"])
@pytest.mark.parametrize("block_size", [None, 3])
def test_the_gradient_is_the_global_one_where_nothing_is_tracked(how, block_size, pairs, expected):
    """Of what all devices share, such as the scale, each has its part: their sum is the whole."""
    loss = partial(symmetric_info_nce, axis_name="data", block_size=block_size)

    def local(*arguments):
        value, (*own, scale) = jax.value_and_grad(loss, (0, 1, 2))(*arguments)
        return value, (*own, jax.lax.psum(scale, "data"))

    if how == "pmap":
        blocks = [x.reshape(4, BATCH // 4, DIM) for x in pairs]
        devices = jax.devices()[:4]
        mapped = jax.pmap(local, "data", in_axes=(0, 0, None), out_axes=0, devices=devices)
        value, (*own, scale) = mapped(*blocks, jnp.float32(14.0))
        found = value[0], [*(x.reshape(BATCH, DIM) for x in own), scale[0]]
    else:
        everywhere = PartitionSpec()
        mapped = jax.shard_map(
            local,
            mesh=make_mesh((4,)),
            in_specs=(SPLIT, SPLIT, everywhere),
            out_specs=(everywhere, (SPLIT, SPLIT, everywhere)),
            check_vma=False,
        )
        found = jax.jit(mapped)(*pairs, 14.0)
    assert_close(jax.device_get(found), expected)


def test_matrices_lie_in_dicts_or_have_specs(pairs, expected):
    """A weight matrix of as many rows as devices could share, which all of them need whole."""
    weight = jnp.asarray(np.eye(DIM), jnp.float32)
    mesh = make_mesh((4,))

    def with_tower(audio, text, parameters, axis_name):
        weight = parameters["kernel"] if isinstance(parameters, dict) else parameters
        return symmetric_info_nce(audio @ weight, text, jnp.array([14.0]), axis_name=axis_name)

    in_dict = sharded(with_tower, mesh)(*pairs, {"kernel": weight})
    by_spec = sharded(with_tower, mesh, in_specs={2: PartitionSpec()})(*pairs, weight)
    np.testing.assert_allclose([in_dict, by_spec], expected[0], rtol=1e-5)


def test_one_program_for_all_calls(pairs):
    programs = []

    def count(event, seconds, **_):
        if "backend_compile" in event:
            programs.append(event)

    mesh = make_mesh((4,))
    jax.monitoring.register_event_duration_secs_listener(count)
    try:
        for scale in (14.0, 15.0, np.array([16.0])):
            sharded(symmetric_info_nce, mesh)(*pairs, scale)
            programs.append("call")
    finally:
        jax.monitoring.unregister_event_duration_listener(count)
    first, second, third = " ".join(programs).split("call")[:3]
    assert first and not second.strip()
    assert third  # another shape
