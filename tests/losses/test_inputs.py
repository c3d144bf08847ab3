"""What is taken as an argument, and what is refused, in a sentence."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from supclap_jax.losses import (
    info_nce,
    radius_constraint,
    sharded,
    siglip,
    supclap,
    symmetric_info_nce,
)
from tests.losses.problems import make_mesh

X = jnp.ones((4, 3))
RADII = {"audio_radius": 0.1, "text_radius": 0.1}
BAD = [
    (lambda: info_nce([[1.0]], X, 1.0), TypeError, "first embeddings are a list; expected an arr"),
    (lambda: info_nce(X, X, 1.0, ids=[1, 2, 3, 4]), TypeError, "ids are a list"),
    (
        lambda: info_nce(X.astype("float8_e4m3fn"), X, 1.0),
        TypeError,
        "float8_e4m3fn; expected at l",
    ),
    (lambda: info_nce(X, X, [1.0]), TypeError, r"logit_scale is \[1\.0\]; expected a number or"),
    (
        lambda: info_nce(X, X, 1.0, ids=np.array([1, 2**32 + 1, 3, 4])),
        ValueError,
        "do not fit 32 b",
    ),
    (
        lambda: info_nce(X, X, 1.0, margin=X[0, 0]),
        TypeError,
        "margin is 1.0; expected a number that",
    ),
    (lambda: info_nce(X[:0], X[:0], 1.0), ValueError, r"\(0, 3\); expected one row or more"),
    (lambda: symmetric_info_nce(X[:0], X[:0], 1.0, block_size=2), ValueError, "one row or more"),
    (lambda: info_nce(X, X, jnp.ones(4)), ValueError, r"logit_scale has shape \(4,\); expected a"),
    (lambda: siglip(X, X, 1.0, jnp.ones((1, 1))), ValueError, r"logit_bias has shape \(1, 1\)"),
    (lambda: supclap(X, X, jnp.ones((1, 1))), ValueError, r"logit_scale has shape \(1, 1\)"),
    (lambda: info_nce(X, X, 1.0, axis_name="data"), ValueError, "'data' is no axis of a jax.shard"),
    (lambda: radius_constraint(1.0, jnp.ones(3), axis_name="x"), ValueError, "'x' is no axis"),
    (lambda: radius_constraint(X[:, :1], X[:, 0]), ValueError, r"\(4, 1\) and \(4,\); expected"),
    (lambda: supclap(X, X, 1.0, direction="up"), ValueError, "direction is 'up'; expected one of"),
    (
        lambda: supclap(X, X, 1.0, predict_radii=lambda _: (0.1, 0.2)),
        ValueError,
        "predict_radii gives a tuple; expected a dict of text_radius and audio_radius",
    ),
    (
        lambda: supclap(X, X, 1.0, predict_radii=lambda _: {"audio": 0.1}),
        ValueError,
        r"predict_radii gives \['audio'\]",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD)
def test_what_cannot_be_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("block_size", [None, np.int64(2)])
def test_a_scale_and_a_bias_may_have_an_axis_of_one(block_size):
    """As big_vision keeps them; their gradients have the shape that was given."""
    rng = np.random.default_rng(0)
    audio, text = (jnp.asarray(rng.normal(size=(5, 3)), jnp.float32) for _ in range(2))

    def loss(scale, bias):
        sig = siglip(audio, text, scale, bias, block_size=block_size)
        return sig + supclap(audio, text, scale, block_size=block_size, **RADII)[0]

    gradient = jax.jit(jax.value_and_grad(loss, (0, 1)))
    values, gradients = gradient(jnp.float32(2.0), jnp.float32(-1.0))
    with_axis = gradient(jnp.array([2.0]), jnp.array([-1.0]))
    np.testing.assert_array_equal(values, with_axis[0])
    np.testing.assert_array_equal(jnp.stack(gradients)[:, None], jnp.stack(with_axis[1]))


def test_tiles_of_a_batch_that_is_divided_point_to_sharded():
    mesh = make_mesh((2,), types=(AxisType.Explicit,))
    x = jax.device_put(X, NamedSharding(mesh, PartitionSpec("data")))
    with pytest.raises(ValueError, match="divided over 'data' of the mesh, and block_size is 2"):
        info_nce(x, x, 1.0, block_size=2)


WRONG_ON_A_MESH = [
    (lambda f: f(X, X[:2]), "argument '0' has 4, '1' has 2; what is no array of the batch belongs"),
    (lambda f: f(X[:3], X[:3]), "2 devices cannot share 3 rows; expected a multiple"),
]


@pytest.mark.parametrize(("call", "message"), WRONG_ON_A_MESH)
def test_arrays_that_cannot_be_divided_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(sharded(lambda x, y, axis_name: 0.0, make_mesh((2,))))


def test_specs_of_no_argument_and_shared_embeddings_are_refused():
    loss = sharded(info_nce, make_mesh((2,)), in_specs={"w": PartitionSpec()})
    with pytest.raises(
        ValueError, match="in_specs has w, but the arguments of this call are 0, 1, 2"
    ):
        loss(X, X, 1.0)
    in_dict = sharded(
        lambda x, axis_name: info_nce(x["a"], x["a"], 1.0, axis_name=axis_name), make_mesh((2,))
    )
    with pytest.raises(ValueError, match="the same on all devices of data; expected each device's"):
        in_dict({"a": X})


def test_a_mesh_without_the_axis_and_no_mesh_at_all_are_refused():
    with pytest.raises(ValueError, match=r"axis_name is \('rows',\); expected some of the mesh's"):
        sharded(info_nce, make_mesh((2,)), "rows")(X, X, 1.0)
    with pytest.raises(ValueError, match="there is no mesh; give one to sharded, or call under"):
        sharded(info_nce)(X, X, 1.0)


ALL = {
    "info_nce": lambda a, t, s, **options: info_nce(a, t, s, **options),
    "symmetric": lambda a, t, s, **options: symmetric_info_nce(a, t, s, **options),
    "siglip": lambda a, t, s, **options: siglip(a, t, s, -5.0, **options),
    "supclap": lambda a, t, s, **options: supclap(a, t, s, **RADII, **options)[0],
    "predicted": lambda a, t, s, **options: supclap(
        a, t, s, predict_radii=lambda x: {f"{k}_radius": v[:, 0] for k, v in x.items()}, **options
    )[0],
}
each_loss = pytest.mark.parametrize("loss", ALL.values(), ids=ALL)


@each_loss
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_no_type_is_promoted_silently(loss, dtype):
    x, ids = X.astype(dtype), jnp.zeros(4, jnp.int32)
    with jax.numpy_dtype_promotion("strict"):
        for options in ({}, {"ids": ids}, {"ids": ids, "block_size": 3}):
            gradient = jax.value_and_grad(lambda *a, options=options: loss(*a, **options), (0, 1))
            value, _ = jax.eval_shape(gradient, x, x, 10.0)
            assert value.dtype == jnp.float32


@each_loss
def test_the_batch_may_be_symbolic(loss):
    """In jax.export; a summary of the four hardest negatives needs five pairs."""
    (batch,) = jax.export.symbolic_shape("batch", constraints=["batch >= 5"])
    x = jax.ShapeDtypeStruct((batch, 3), jnp.float32)
    whole = jax.jit(lambda a, t: loss(a, t, 10.0, block_size="auto"))
    assert jax.export.export(whole)(x, x).in_avals[0].shape[0] == batch


@pytest.mark.parametrize("block_size", [None, "auto"])
def test_symbolic_batches_on_a_mesh_and_among_other_keys(block_size):
    half, keys = jax.export.symbolic_shape("half, keys")
    whole = sharded(partial(symmetric_info_nce, block_size=block_size), make_mesh((2,)))
    x, scale = (jax.ShapeDtypeStruct(s, jnp.float32) for s in ((2 * half, 3), ()))
    jax.export.export(jax.jit(whole))(x, x, scale)
    to_keys = lambda q, k, t: info_nce(q, k, 8.0, target=t, block_size=block_size)  # noqa: E731
    key, target = (
        jax.ShapeDtypeStruct(s, t) for s, t in (((keys, 3), jnp.float32), ((2 * half,), jnp.int32))
    )
    jax.export.export(jax.jit(to_keys))(x, key, target)


def composed(audio, text, scale):
    """SupCLAP whose base is a function, which has no rule of its own for the gradient."""
    radii = {"audio_radius": 0.2, "text_radius": 0.3}
    return supclap(audio, text, scale, base=partial(info_nce, reduction="none"), **radii)[0]


@pytest.mark.parametrize("name", ["info_nce", "symmetric", "siglip", "composed"])
def test_dense_forms_have_forward_derivatives(name):
    rng = np.random.default_rng(1)
    pairs = [jnp.asarray(rng.normal(size=(4, 3)), jnp.float32) for _ in range(4)]
    loss = lambda a, t: (ALL | {"composed": composed})[name](a, t, 3.0)  # noqa: E731
    _, slope = jax.jvp(loss, pairs[:2], pairs[2:])
    gradients = jax.grad(loss, (0, 1))(*pairs[:2])
    assert float(slope) == pytest.approx(
        sum(float(jnp.vdot(x, y)) for x, y in zip(gradients, pairs[2:], strict=True)), rel=1e-5
    )


@pytest.mark.parametrize("options", [{}, {"ids": jnp.zeros(4, jnp.int32), "same_id": "ignore"}])
def test_nothing_is_infinite_on_the_way_out(options):
    with jax.debug_infs(True), jax.debug_nans(True):
        jax.jit(jax.grad(lambda x: ALL["supclap"](x, X, 10.0, block_size=3, **options)))(X)
