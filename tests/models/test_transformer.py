"""The stack of blocks: one layout of parameters, and one result, however it is compiled."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from supclap_jax.models.transformer import _attention, attention, blocks, gelu, kept, product
from supclap_jax.models.transformer_flops import RELU, Stack

pytestmark = pytest.mark.slow

DEPTH, DIM, HEADS, HIDDEN = 3, 16, 4, 40
OPTIONS = dict(
    heads=HEADS,
    hidden=HIDDEN,
    activation=nn.relu,
    epsilon=1e-5,
    kernel_init=nn.initializers.xavier_uniform(),
    dropout=0.2,
)
TOKENS = np.random.default_rng(0).normal(size=(2, 6, DIM)).astype(np.float32)
VALID = np.array([[True] * 6, [True] * 4 + [False] * 2])


def build(**options):
    return blocks(DEPTH, **{**OPTIONS, **options})


@pytest.fixture(scope="module")
def params():
    """Of random values everywhere, so that no bias or scale is without effect."""
    params = build().init(jax.random.key(0), TOKENS, None, False)
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda x: x + 0.1 * rng.normal(size=x.shape).astype(x.dtype), params)


def gradient(stack):
    """Of a sum of squares, with dropout, in parameters and tokens."""

    def loss(params, tokens):
        rngs = {"dropout": jax.random.key(7)}
        return (stack.apply(params, tokens, VALID, True, rngs=rngs)[0] ** 2).sum()

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))


@pytest.fixture(scope="module")
def expected(params):
    """The gradient of the stack as it is by default."""
    return gradient(build())(params, TOKENS)


def test_layout():
    params = build().init(jax.random.key(0), TOKENS, None, False)["params"]
    assert jax.tree.map(jnp.shape, params) == {
        "norm1": {"scale": (3, 16), "bias": (3, 16)},
        "qkv": {"kernel": (3, 16, 48), "bias": (3, 48)},
        "proj": {"kernel": (3, 16, 16), "bias": (3, 16)},
        "norm2": {"scale": (3, 16), "bias": (3, 16)},
        "fc1": {"kernel": (3, 16, 40), "bias": (3, 40)},
        "fc2": {"kernel": (3, 40, 16), "bias": (3, 16)},
    }
    unrolled = build(scan_layers=False).init(jax.random.key(0), TOKENS, None, False)["params"]
    jax.tree.map(np.testing.assert_array_equal, params, unrolled)


def test_is_the_pre_norm_transformer(params):
    """Reference: loops in float64."""
    layers = jax.tree.map(np.float64, params["params"])

    def norm(x, p):
        centred = x - x.mean(-1, keepdims=True)
        return centred / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * p["scale"] + p["bias"]

    def dense(x, p):
        return x @ p["kernel"] + p["bias"]

    def attention(x, valid):
        out = np.empty_like(x[:, :DIM])
        for head in np.split(np.arange(DIM), HEADS):
            q, k, v = x[:, head], x[:, DIM + head], x[:, 2 * DIM + head]
            score = np.exp(q @ k.T / np.sqrt(DIM // HEADS)) * valid
            out[:, head] = score / score.sum(-1, keepdims=True) @ v
        return out

    expected = np.float64(TOKENS)
    for layer in range(DEPTH):
        p = jax.tree.map(lambda leaf, layer=layer: leaf[layer], layers)
        for x, valid in zip(expected, VALID, strict=True):
            x += dense(attention(dense(norm(x, p["norm1"]), p["qkv"]), valid), p["proj"])
            x += dense(np.maximum(dense(norm(x, p["norm2"]), p["fc1"]), 0), p["fc2"])
    got, _ = build().apply(params, TOKENS, VALID, False)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_attention_is_that_of_jax(dtype):
    qkv = jax.random.normal(jax.random.key(0), (2, 6, 3, 4, 8), dtype)
    for valid in (None, VALID):
        mask = None if valid is None else valid[:, None, None, :]
        expected = jax.nn.dot_product_attention(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2], mask=mask)
        got = attention(qkv, valid)
        assert got.dtype == expected.dtype == dtype
        tolerance = {jnp.float32: 1e-6, jnp.bfloat16: 2e-2}[dtype]
        np.testing.assert_allclose(np.float32(got), np.float32(expected), atol=tolerance)


def test_fused_attention_takes_a_mask(monkeypatch):
    """As far as this goes without a GPU: its checks of shapes, in value and gradient."""
    cudnn = pytest.importorskip("jax._src.cudnn.fused_attention_stablehlo")
    monkeypatch.setattr(cudnn, "check_cudnn_version", lambda: 91_000)
    monkeypatch.setattr(cudnn, "check_compute_capability", lambda capability: True)
    monkeypatch.setattr(cudnn, "is_cuda_compute_capability_equal", lambda capability: False)
    qkv = jax.ShapeDtypeStruct((2, 6, 3, 4, 8), jnp.bfloat16)
    valid = jax.ShapeDtypeStruct((2, 6), jnp.bool)

    def pulled_back(qkv, valid):
        value, pull_back = jax.vjp(lambda qkv: _attention("cudnn", qkv, valid), qkv)
        return value, pull_back(value)[0]

    value, gradient = jax.eval_shape(pulled_back, qkv, valid)
    assert (value.shape, gradient.shape) == ((2, 6, 4, 8), qkv.shape)


@pytest.mark.parametrize("valid", [None, VALID])
@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float32, 2e-6), (jnp.bfloat16, 3e-2)])
def test_the_gradient_of_attention_is_that_of_jax(valid, dtype, tolerance):
    def expected(qkv):
        mask = None if valid is None else valid[:, None, None, :]
        return jax.nn.dot_product_attention(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2], mask=mask)

    qkv, pulled = (
        jax.random.normal(key, (2, 6, 3, 4, 8), dtype)
        for key in jax.random.split(jax.random.key(1))
    )
    _, theirs = jax.vjp(expected, jnp.float32(qkv))
    _, ours = jax.vjp(lambda qkv: attention(qkv, valid), qkv)
    (got,), (reference,) = ours(pulled[:, :, 0]), theirs(jnp.float32(pulled[:, :, 0]))
    assert got.dtype == dtype
    np.testing.assert_allclose(np.float32(got), reference, atol=tolerance)


def test_the_gradient_of_a_product():
    rng = np.random.default_rng(0)
    x, kernel, pulled = (rng.normal(size=shape) for shape in ((2, 6, 5), (5, 7), (2, 6, 7)))
    value, back = jax.vjp(product, *map(jnp.float32, (x, kernel)))
    np.testing.assert_allclose(value, x @ kernel, atol=1e-5)
    to_x, to_kernel = back(jnp.float32(pulled))
    np.testing.assert_allclose(to_x, pulled @ kernel.T, atol=1e-5)
    np.testing.assert_allclose(to_kernel, np.einsum("btk,btn->kn", x, pulled), atol=1e-5)


def test_gelu_is_exact():
    x = np.linspace(-8, 8, 1001, dtype=np.float32)
    expected = [t * (1 + math.erf(t / math.sqrt(2))) / 2 for t in x.tolist()]
    np.testing.assert_allclose(gelu(x), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("scan_layers", "remat"),
    [(True, "dots"), (True, "full"), (False, "none"), (False, "dots"), (False, "full")],
)
def test_scan_and_remat_change_no_gradient(params, expected, scan_layers, remat):
    """To the rounding of the largest entry: that of a key's bias is zero, a sum of large ones."""
    got = gradient(build(scan_layers=scan_layers, remat=remat))(params, TOKENS)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6 * np.abs(b).max())


def test_only_the_scan_compiles_to_a_loop(params):
    loops = {
        scan_layers: gradient(build(scan_layers=scan_layers, dropout=0.0, heads=1))
        .lower(params, TOKENS)
        .compile()
        .as_text()
        .count(" while(")
        for scan_layers in (True, False)
    }
    assert loops == {True: 2, False: 0}  # forward and backward


def test_remat_trades_memory_for_products(params):
    """A block has 6 products, 18 with its gradient, and the gradient of attention repeats its
    scores. "dots" repeats both products of the attention besides, "full" all but the last, whose
    output has no part in the gradient."""
    memory, products = {}, {}
    for remat in ("none", "dots", "full"):
        compiled = gradient(build(remat=remat)).lower(params, TOKENS).compile()
        products[remat] = compiled.as_text().count(" dot(")
        memory[remat] = compiled.memory_analysis().temp_size_in_bytes
    assert products == {"none": 19, "dots": 21, "full": 24}
    assert memory["full"] < memory["dots"] < memory["none"]


@pytest.mark.parametrize(
    ("saved", "offloaded", "products"),
    [(("qkv",), (), 23), (("hidden", "sum"), (), 22), (("hidden",), ("qkv", "attended"), 20)],
)
def test_each_activation_that_is_kept_saves_its_products(
    params, expected, saved, offloaded, products
):
    """Of "full"'s 24: one each of qkv, the sum and the hidden layer, two of attention's output."""
    run = gradient(build(remat="full", saved=saved, offloaded=offloaded))
    got = run(params, TOKENS)
    assert run.lower(params, TOKENS).compile().as_text().count(" dot(") == products
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6 * np.abs(b).max())


@pytest.mark.parametrize(
    ("remat", "saved", "offloaded"),
    [
        ("full", (), ()),
        ("full", ("qkv",), ()),
        ("full", ("sum", "hidden"), ()),
        ("full", ("attended",), ("qkv",)),
        ("dots", (), ()),
        ("none", (), ()),
    ],
)
def test_what_blocks_are_counted_to_hold_is_what_jax_keeps(params, remat, saved, offloaded):
    """Of activations, bytes on the device; those that are offloaded are none there."""
    stack = build(remat=remat, saved=saved, offloaded=offloaded, dropout=0.0)

    def pull_back(tokens):
        return jax.vjp(lambda x: stack.apply(params, x, VALID, True)[0], tokens)[1]

    kept_by_jax = [
        x.size * x.dtype.itemsize
        for x in jax.tree.leaves(jax.eval_shape(pull_back, TOKENS))
        if x.shape[:3] == (DEPTH, *TOKENS.shape[:2]) and jnp.issubdtype(x.dtype, jnp.floating)
    ]
    names = kept(remat, saved + offloaded)
    counted = Stack(
        rows=2, tokens=6, dim=DIM, depth=DEPTH, heads=HEADS, hidden=HIDDEN, activation=RELU,
        kept=names, held=[name for name in names if name not in offloaded], itemsize=4,
    )  # fmt: skip
    on_host = counted.dim * 3 * 4 * 2 * 6 * DEPTH if "qkv" in offloaded else 0
    assert sum(kept_by_jax) - on_host == counted.parts("text")["text dense layers"].held


def test_layers_start_different_with_the_fan_of_one():
    kernels = blocks(4, **{**OPTIONS, "hidden": 400}).init(
        jax.random.key(0), np.zeros([1, 2, 100]), None, False
    )["params"]["fc1"]["kernel"]
    limit = np.sqrt(6 / (100 + 400))
    for kernel in kernels:
        assert 0.99 * limit < np.abs(kernel).max() <= limit
        np.testing.assert_allclose(np.std(kernel), limit / np.sqrt(3), rtol=0.02)
    assert np.abs(np.corrcoef(kernels.reshape(4, -1)) - np.eye(4)).max() < 0.03


@pytest.mark.parametrize("scan_layers", [True, False])
def test_dropout_differs_per_layer(params, scan_layers):
    """With kernels of zero and biases of one a block adds, to each entry, 0, 2 or 4 of rate 1/2;
    three blocks of the same masks would add 0, 6 or 12."""
    fill = {"kernel": 0.0, "bias": 1.0, "scale": 1.0}
    constant = jax.tree.map_with_path(lambda path, x: jnp.full_like(x, fill[path[-1].key]), params)
    stack = build(scan_layers=scan_layers, dropout=0.5)
    rngs = {"dropout": jax.random.key(0)}
    added = stack.apply(constant, np.zeros([2, 6, DIM]), None, True, rngs=rngs)[0]
    assert set(np.unique(added)) == {0, 2, 4, 6, 8, 10, 12}


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match=r"dim 16 .* heads 5"):
        build(heads=5).init(jax.random.key(0), TOKENS, None, False)
