"""The dense forms: symmetry, ids, precision, edges; metrics by hand; errors of every loss."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from supclap_jax.losses import info_nce, siglip, supclap, symmetric_info_nce

LOSSES = {
    "info_nce": lambda audio, text, **ids: info_nce(audio, text, 14.0, **ids),
    "symmetric_info_nce": lambda audio, text, **ids: symmetric_info_nce(audio, text, 14.0, **ids),
    "siglip": lambda audio, text, **ids: siglip(audio, text, 10.0, -10.0, **ids),
}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


def unit_rows(seed, batch=16, dim=8):
    rows = np.random.default_rng(seed).normal(size=(batch, dim))
    return jnp.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), jnp.float32)


@every_loss
def test_does_not_depend_on_the_order_of_pairs(loss):
    audio, text = unit_rows(0), unit_rows(1)
    ids = jnp.arange(16) // 3
    order = np.random.default_rng(2).permutation(16)
    shuffled = loss(audio[order], text[order], ids=ids[order])
    np.testing.assert_allclose(loss(audio, text, ids=ids), shuffled, rtol=1e-6)


@every_loss
@pytest.mark.parametrize("same_id", ["positive", "ignore"])
def test_distinct_ids_change_nothing(loss, same_id):
    audio, text = unit_rows(0), unit_rows(1)
    distinct = loss(audio, text, ids=jnp.arange(16), same_id=same_id)
    np.testing.assert_allclose(loss(audio, text), distinct, rtol=1e-6)


@every_loss
def test_bfloat16_accumulates_in_float32(loss):
    """bf16 products are exact in float32: only the order of sums may show."""
    audio, text = unit_rows(0, dim=512), unit_rows(1, dim=512)
    low = audio.astype(jnp.bfloat16), text.astype(jnp.bfloat16)
    value = loss(*low)
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, loss(*(x.astype(jnp.float32) for x in low)), rtol=1e-5)


@every_loss
@pytest.mark.parametrize("case", ["aligned", "identical rows", "one pair"])
def test_edges_stay_finite(loss, case):
    audio = unit_rows(3)
    if case == "identical rows":
        audio = jnp.tile(audio[:1], (16, 1))
    if case == "one pair":
        audio = audio[:1]
    value, gradients = jax.value_and_grad(loss, argnums=(0, 1))(audio, audio)
    assert np.isfinite(value)
    assert all(np.all(np.isfinite(gradient)) for gradient in gradients)


@pytest.mark.parametrize("scale", [1e3, 1e5])
def test_large_logit_scale_stays_finite(scale):
    value, gradient = jax.value_and_grad(symmetric_info_nce)(unit_rows(0), unit_rows(1), scale)
    assert np.isfinite(value)
    assert np.all(np.isfinite(gradient))


def test_all_of_one_clip():
    """All pairs show one clip: "ignore" leaves each query its own key, so the loss is zero."""
    audio, text = unit_rows(0), unit_rows(1)
    ids = jnp.zeros(16, jnp.int32)
    assert info_nce(audio, text, 14.0, ids=ids, same_id="ignore") == pytest.approx(0, abs=1e-6)


def test_supclap_metrics():
    """Three pairs in the plane, worked out by hand: only the first text is nearest to its audio."""
    audio = jnp.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    text = jnp.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])
    radii = {"audio_radius": jnp.array([0.0, 0.5, 1.0]), "text_radius": 0.5}
    _, metrics = supclap(audio, text, 2.0, **radii)
    root = 2**0.5
    expected = {
        "R@1/text_to_audio": 100 / 3,
        "R@1/audio_to_text": 100 / 3,
        "distance": 2 * root / 3,
        "radius/audio_mean": 0.5,
        "radius/audio_std": (1 / 6) ** 0.5,
        "radius/text_mean": 0.5,
        "radius/text_std": 0.0,
        "contraction/audio": (1 + (1 - 0.5 / root) + (1 - 1 / root)) / 3,
        "contraction/text": (1 + 2 * (1 - 0.5 / root)) / 3,
        "loss/constraint": 0.5 / 3 / 2,
    }
    for name, value in expected.items():
        assert float(metrics[name]) == pytest.approx(value, rel=1e-6), name


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: info_nce(x, x[:2], 1.0), ValueError, r"\(3, 4\) and \(2, 4\)"),
        (lambda x: info_nce(x[0], x[0], 1.0), ValueError, r"expected the same \[batch, dim\]"),
        (lambda x: info_nce(x, x.astype(int), 1.0), TypeError, "second embeddings are int32"),
        (lambda x: siglip(x, x, 1.0, 0.0, same_id="share"), ValueError, "'share'; expected one"),
        (lambda x: siglip(x, x, 1.0, 0.0, ids=jnp.arange(4)), ValueError, r"ids have shape \(4,\)"),
        (lambda x: info_nce(x, x, 1.0, ids=jnp.ones(3)), TypeError, "ids are float32"),
        (lambda x: supclap(x, x, 1.0, base="clip"), ValueError, "base is 'clip'"),
        (lambda x: supclap(x, x, 1.0, base="siglip"), ValueError, "'siglip' needs a bias"),
        (lambda x: supclap(x, x, 1.0, logit_bias=0.0), ValueError, "'info_nce' takes no bias"),
        (lambda x: supclap(x, x, 1.0, base=3), TypeError, "base is 3; expected a name"),
        (lambda x: supclap(x, x, 1.0, text_radius=0.1), ValueError, "audio_radius is None"),
    ],
)
def test_errors_name_what_was_given(call, error, message):
    with pytest.raises(error, match=message):
        call(jnp.ones((3, 4)))
