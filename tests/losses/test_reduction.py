"""Padded pairs, weights, losses of single pairs: as if what is padded were not there."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from supclap_jax.losses import info_nce, radius_constraint, sharded, siglip, supclap
from supclap_jax.losses import symmetric_info_nce as symmetric
from tests.losses.problems import make_mesh, problem, some_ids

pytestmark = pytest.mark.slow

MASK = np.array([True, True, False, True, True, True, False, True] * 2)
KEPT = np.flatnonzero(MASK)


def predict(summaries):
    """Radii that depend on every column of the summaries."""
    return {
        f"{side}_radius": 0.01 * jnp.sum(summary * jnp.arange(1, 9), axis=1)
        for side, summary in summaries.items()
    }


def info_nce_of(audio, text, radius, **options):
    return info_nce(audio, text, 9.0, **options), {}


def symmetric_of(audio, text, radius, **options):
    return symmetric(audio, text, 9.0, **options), {}


def siglip_of(audio, text, radius, **options):
    return siglip(audio, text, 9.0, -3.0, **options), {}


def supclap_of(audio, text, radius, **options):
    return supclap(audio, text, 9.0, audio_radius=radius, text_radius=0.2, beta=0.1, **options)


def supclap_predicted(audio, text, radius, **options):
    return supclap(audio, text, 9.0, predict_radii=predict, **options)


def supclap_siglip(audio, text, radius, **options):
    base = {"base": "siglip", "logit_bias": -3.0}
    return supclap(audio, text, 9.0, predict_radii=predict, **base, **options)


CASES = [
    (info_nce_of, "positive", None, 0),
    (symmetric_of, "ignore", None, 0),
    (siglip_of, "positive", None, 0),
    (siglip_of, "ignore", 5, 0),
    (symmetric_of, "positive", 3, 4),
    (supclap_of, "ignore", 5, 0),
    (supclap_predicted, "positive", None, 0),
    (supclap_siglip, "positive", 3, 4),
]


@pytest.mark.parametrize(("loss", "same_id", "block_size", "devices"), CASES)
def test_padded_pairs_are_as_if_they_were_not_there(loss, same_id, block_size, devices):
    """Values, gradients and metrics, whatever is in their rows, with weights."""
    audio, text, *_, radius, weights = problem(3)
    weights, ids = weights + 1, some_ids(3)
    padded = np.where(MASK[:, None], audio, np.nan)
    tiles = partial(loss, block_size=block_size, same_id=same_id)
    whole = sharded(tiles, make_mesh((devices,))) if devices else tiles
    with jax.enable_x64(True):
        arrays = tuple(jnp.asarray(x) for x in (padded, text, radius))
        options = {"ids": jnp.asarray(ids), "weights": jnp.asarray(weights)}
        found = jax.jit(
            jax.value_and_grad(
                partial(whole, mask=jnp.asarray(MASK), **options), (0, 1, 2), has_aux=True
            )
        )(*arrays)
        kept = {name: x[KEPT] for name, x in options.items()}
        dense = partial(loss, same_id=same_id, **kept)
        expected = jax.jit(jax.value_and_grad(dense, (0, 1, 2), has_aux=True))(
            *(x[KEPT] for x in arrays)
        )
    (value, metrics), gradients = jax.device_get(found)
    (other, other_metrics), other_gradients = jax.device_get(expected)
    np.testing.assert_allclose(value, other, rtol=1e-9)
    assert metrics.keys() == other_metrics.keys()
    for name in metrics:
        np.testing.assert_allclose(metrics[name], other_metrics[name], rtol=1e-9, err_msg=name)
    for gradient, one in zip(gradients, other_gradients, strict=True):
        np.testing.assert_allclose(gradient[KEPT], one, rtol=1e-9, atol=1e-12)
        assert not np.any(gradient[~MASK])


@pytest.mark.parametrize(
    ("loss", "block_size"),
    [(symmetric_of, None), (siglip_of, 5), (supclap_of, None)],
)
def test_losses_of_single_pairs_have_the_mean_for_their_mean(loss, block_size):
    audio, text, *_, radius, weights = (jnp.asarray(x, jnp.float32) for x in problem(4))
    tiles = partial(loss, audio, text, radius, block_size=block_size, mask=jnp.asarray(MASK))

    @jax.jit
    def losses(weights):
        return tiles()[0], tiles(weights=weights)[0], tiles(reduction="none")

    mean, weighted, (single, metrics) = losses(weights + 1)
    assert single.shape == MASK.shape
    assert not np.any(single[~MASK])
    assert all(np.ndim(x) == 0 for x in metrics.values())
    assert float(jnp.sum(single) / MASK.sum()) == pytest.approx(float(mean), rel=1e-6)
    shares = (weights + 1)[KEPT] / jnp.sum((weights + 1)[KEPT])
    assert float(jnp.sum(shares * single[KEPT])) == pytest.approx(float(weighted), rel=1e-6)


X = jnp.ones((4, 3))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"mask": jnp.ones(4)}, TypeError, "mask is float32; expected bool"),
        ({"mask": jnp.ones(3, bool)}, ValueError, r"mask has shape \(3,\); expected \(4,\), one"),
        ({"weights": jnp.ones(4, int)}, TypeError, "weights is int32; expected floating"),
        ({"weights": [1.0] * 4}, TypeError, "weights are a list"),
        ({"reduction": "sum"}, ValueError, "reduction is 'sum'; expected one of"),
        ({"reduction": "none", "weights": jnp.ones(4)}, ValueError, "weights are of the mean"),
    ],
)
def test_bad_options_are_refused(options, error, message):
    for loss in (partial(info_nce, X, X, 1.0), partial(radius_constraint, 0.1, X[:, 0])):
        with pytest.raises(error, match=message):
            loss(**options)


def test_radii_are_predicted_with_gradients_of_the_pairs_alone():
    """Summaries of padded pairs are zero: what is infinite in them would spoil the predictor."""
    audio, text, *_ = (jnp.asarray(x, jnp.float32) for x in problem(5))

    def gradient(audio, text, **options):
        def loss(weight):
            radii = lambda x: {f"{side}_radius": rows @ weight for side, rows in x.items()}  # noqa: E731
            return supclap(audio, text, 9.0, predict_radii=radii, block_size=5, **options)[0]

        return jax.jit(jax.grad(loss))(0.01 * jnp.ones(8))

    found = gradient(audio, text, mask=jnp.asarray(MASK))
    np.testing.assert_allclose(found, gradient(audio[KEPT], text[KEPT]), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("base", ["info_nce", "siglip", "decoupled"])
def test_nothing_is_lost_without_any_pair(base):
    bias = {"logit_bias": -5.0} if base == "siglip" else {}
    loss = lambda x: supclap(x, X, 1.0, base=base, mask=jnp.zeros(4, bool), **bias)[0]  # noqa: E731
    value, gradient = jax.jit(jax.value_and_grad(loss))(X)
    assert value == 0
    assert not np.any(gradient)


def test_a_function_that_gives_a_mean_or_sees_no_mask_is_refused():
    mean = lambda query, key, scale: jnp.mean(query @ key.T)  # noqa: E731
    with pytest.raises(ValueError, match="the loss is a mean already"):
        supclap(X, X, 1.0, base=mean, reduction="none")
    with pytest.raises(ValueError, match="sees no mask; leave out padded rows"):
        supclap(X, X, 1.0, base=mean, mask=jnp.ones(4, bool))
