"""Work, memory and transfers of the sweeps, from the traced and the compiled program."""

import collections
import functools
import importlib.util
import math
import os
import re

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from supclap_jax.losses import info_nce, sharded, siglip, supclap, symmetric_info_nce
from tests.losses.problems import DIM, make_mesh, problem

pytestmark = pytest.mark.slow

OPTIMIZED = True


def predict(summaries):
    """Some smooth function of all eight statistics."""
    weight = jnp.linspace(-0.02, 0.03, 8)
    return {
        f"{side}_radius": 0.2 + jnp.sum(summary * weight, 1) for side, summary in summaries.items()
    }


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


def in_part(arguments):
    """A mask and weights for the pairs."""
    rows = arguments[0].shape[0]
    return {"mask": jnp.arange(rows) % 3 > 0, "weights": jnp.ones(rows)}


def twice_the_keys(query, key, scale, **options):
    target = jnp.arange(query.shape[0])
    return info_nce(query, jnp.concatenate([key, -key]), scale, target=target, **options)


@pytest.mark.parametrize(
    ("loss", "forward"),
    [
        (symmetric_info_nce, 1),
        (info_nce, 1),
        (lambda a, t, s, **options: siglip(a, t, s, -5.0, **options), 1),
        (fused, 3),
        (functools.partial(info_nce, margin=0.1, label_smoothing=0.1), 1),
        (twice_the_keys, 2),
        (lambda *args, **options: fused(*args, base="decoupled", **in_part(args), **options), 3),
    ],
)
@pytest.mark.parametrize("devices", [1, 4])
def test_number_of_products(loss, forward, devices):
    """One product of `batch x batch x dim` for each sweep, and three more for its gradients."""
    audio, text, scale = (jnp.asarray(x, jnp.float32) for x in problem(0, 32)[:3])
    loss = sharded(functools.partial(loss, block_size=5), make_mesh((devices,)))
    unit = 2 * 32 * 32 * DIM / devices
    value = jax.make_jaxpr(loss)(audio, text, scale)
    gradient = jax.make_jaxpr(jax.value_and_grad(loss, argnums=(0, 1, 2)))(audio, text, scale)
    assert operations(value.jaxpr) == forward * unit
    assert operations(gradient.jaxpr) == 4 * forward * unit


def collectives(jaxpr, loops=1):
    """How often arrays of which size go over the mesh, loops counted as often as they run."""
    found = collections.Counter()
    for equation in jaxpr.eqns:
        name, inside = equation.primitive.name, loops * equation.params.get("length", 1)
        if name in ("ppermute", "all_gather", "reduce_scatter", "all_to_all"):
            found[name, equation.invars[0].aval.size] += loops
        for sub in jax.extend.core.jaxprs_in_params(equation.params):
            found += collectives(sub, inside)
    return found


def bilateral(audio, text, scale, **options):
    return supclap(audio, text, scale, audio_radius=0.2, text_radius=0.3, **options)[0]


@pytest.mark.parametrize(("loss", "keys"), [(symmetric_info_nce, 1), (bilateral, 2)])
def test_keys_travel_once_for_all_sweeps(loss, keys):
    """In two halves, forward once round the ring, backward with their gradients."""
    arguments = [jnp.asarray(x, jnp.float32) for x in problem(0, 32, dim=32)[:3]]
    loss = sharded(functools.partial(loss, block_size=5), make_mesh((4,)))
    half, hops = 4 * 32, 2 * 4
    forward = collectives(jax.make_jaxpr(loss)(*arguments).jaxpr)
    assert forward["ppermute", half] == hops * keys
    both = collectives(jax.make_jaxpr(jax.grad(loss, argnums=(0, 1)))(*arguments).jaxpr)
    last = 1  # gradients come home
    assert both["ppermute", half] == 3 * hops * keys + last * keys
    small = sum(count for (_, size), count in both.items() if size != half)
    assert small <= 3 * hops + 1  # what is known of rows and columns is one buffer


def test_auto_gathers_keys_once_and_scatters_their_gradients_once():
    arguments = [jnp.asarray(x, jnp.float32) for x in problem(0, 32, dim=32)[:3]]
    loss = sharded(functools.partial(symmetric_info_nce, block_size="auto"), make_mesh((4,)))
    found = collectives(jax.make_jaxpr(jax.grad(loss, argnums=(0, 1)))(*arguments).jaxpr)
    assert found["reduce_scatter", 32 * 32] == 1
    assert found["all_gather", 8 * 32] == 2
    assert sum(found.values()) <= 6
    assert not any(name == "ppermute" for name, _ in found)


def test_auto_needs_three_products_where_the_matrix_is_small():
    audio, text, scale = (jnp.asarray(x, jnp.float32) for x in problem(0, 32)[:3])
    loss = functools.partial(symmetric_info_nce, block_size="auto")
    gradient = jax.make_jaxpr(jax.value_and_grad(loss, argnums=(0, 1)))(audio, text, scale)
    assert operations(gradient.jaxpr) == 3 * 2 * 32 * 32 * DIM


def compiled(loss, batch, dim=64, dtype=jnp.float32, shardings=(None,) * 3):
    shapes = ((batch, dim), (batch, dim), ())
    dtypes = (dtype, dtype, jnp.float32)
    structs = [
        jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)
        for shape, dtype, sharding in zip(shapes, dtypes, shardings, strict=True)
    ]
    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2))).lower(*structs).compile()


def temporaries(*args):
    return compiled(*args).memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize("loss", [symmetric_info_nce, fused])
def test_memory_is_linear_in_the_batch(loss):
    small, large = (
        temporaries(functools.partial(loss, block_size=256), batch) for batch in (4096, 8192)
    )
    assert large <= 2.2 * small
    assert large <= temporaries(loss, 8192) / 20


@functools.cache
def on_eight_chips(loss, batch):
    """Compiled ahead of time, for TPUs that are not there."""
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    from jax.experimental import topologies

    topology = topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x4")
    mesh = jax.sharding.Mesh(np.array(topology.devices), ("data",))
    split, everywhere = (
        jax.sharding.NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("data",), ())
    )
    loss = sharded(functools.partial(loss, block_size=1024), mesh)
    return compiled(loss, batch, 256, jnp.bfloat16, (split, split, everywhere))


for_tpus = pytest.mark.skipif(
    not importlib.util.find_spec("libtpu"), reason="libtpu is not installed"
)


@for_tpus
@pytest.mark.filterwarnings("ignore:Error reading persistent compilation cache")
def test_memory_is_linear_in_the_batch_on_a_tpu():
    small, large = (
        on_eight_chips(symmetric_info_nce, batch).memory_analysis().temp_size_in_bytes
        for batch in (2**16, 2**17)
    )
    assert large <= 2.2 * small


@for_tpus
@pytest.mark.filterwarnings("ignore:Error reading persistent compilation cache")
@pytest.mark.parametrize(("loss", "keys"), [(symmetric_info_nce, 1), (bilateral, 2)])
def test_transfers_on_a_tpu_hide_behind_products(loss, keys):
    """In the order of the compiled loops a visit lies between start and end of each transfer."""
    text = on_eight_chips(loss, 2**17).as_text()
    loops = [part for part in re.split(r"\n(?=%|ENTRY)", text) if not part.startswith("ENTRY")]
    hidden = 0
    for lines in (part.splitlines() for part in loops):
        open_transfers = {}
        for line in lines:
            name = line.strip().partition(" ")[0].removeprefix("ROOT ")
            if " collective-permute-start(" in line and "[8192,256]" in line:
                open_transfers[name] = False
            elif " while(" in line:
                open_transfers = dict.fromkeys(open_transfers, True)
            found = re.search(r"collective-permute-done\((%[\w.-]+)\)", line)
            if found and found[1] in open_transfers:
                assert open_transfers.pop(found[1]), "starts and ends between two visits"
                hidden += 1
    halves = 2
    assert hidden == halves * keys * 3  # keys forward, keys and their gradients backward
