"""The geometry of support vectors: contraction of the perpendicular gradient, and safe edges."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from supclap_jax.losses import info_nce, siglip, support_vectors, svr


def unit_rows(seed, batch=6, dim=10):
    rows = np.random.default_rng(seed).normal(size=(batch, dim))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def parallel_and_perpendicular(vectors, direction):
    along = np.sum(vectors * direction, axis=1, keepdims=True) * direction
    return along, vectors - along


@pytest.mark.parametrize("ratio", [0.4, 1.0, 1.7, -0.6], ids=["R<d", "R=d", "R>d", "R<0"])
@pytest.mark.parametrize("loss", ["info_nce", "siglip"])
def test_perpendicular_gradient_is_scaled_by_one_minus_r_over_d(loss, ratio):
    """Reference: the chain rule in numpy float64, from the gradient at the support vector itself.

    The gradient with respect to the text embedding is taken with the audio keys held fixed.
    """
    audio, text = unit_rows(0), unit_rows(1)
    apart = np.linalg.norm(audio - text, axis=1)
    radius = ratio * apart

    def contrast(query, key):
        return info_nce(query, key, 14.0) if loss == "info_nce" else siglip(query, key, 10.0, -5.0)

    with jax.enable_x64(True):
        through_svr = jax.grad(
            lambda text: svr(
                jnp.asarray(audio),
                text,
                None,
                jnp.asarray(radius),
                contrast,
                direction="text_to_audio",
            )
        )(jnp.asarray(text))
        moved = text + ratio * (audio - text)
        at_support = jax.grad(lambda query: contrast(query, jnp.asarray(audio)))(jnp.asarray(moved))
    direction = (audio - text) / apart[:, None]
    along, across = parallel_and_perpendicular(np.asarray(through_svr), direction)
    along_support, across_support = parallel_and_perpendicular(np.asarray(at_support), direction)
    scale = np.max(np.abs(at_support))
    np.testing.assert_allclose(along, along_support, rtol=0, atol=1e-12 * scale)
    np.testing.assert_allclose(across, (1 - ratio) * across_support, rtol=0, atol=1e-12 * scale)
    assert np.max(np.abs(across_support)) > 1e-2 * scale


def test_the_factor_is_of_the_svr_term_alone():
    """The whole across-u gradient of a text from softmaxes in numpy; on both terms it is wrong."""
    audio, text = unit_rows(0), unit_rows(1)
    apart = np.linalg.norm(audio - text, axis=1)
    scale, alpha, share = 14.0, 0.7, 0.4

    def loss(text, audio):
        def contrast(query, key):
            return info_nce(query, key, scale)

        regularized = svr(audio, text, None, share * apart, contrast, direction="text_to_audio")
        return len(text) * (contrast(text, audio) + alpha * regularized)

    with jax.enable_x64(True):
        step = -np.asarray(jax.grad(loss)(jnp.asarray(text), jnp.asarray(audio)))

    def force(query):
        """Pull less pushes, s sum_j (1[j = i] - P_ij) a_j."""
        logits = scale * query @ audio.T
        softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        return scale * (np.eye(len(audio)) - softmax) @ audio

    direction = (audio - text) / apart[:, None]
    across, of_base, of_svr = (
        parallel_and_perpendicular(vectors, direction)[1]
        for vectors in (step, force(text), force(text + share * (audio - text)))
    )
    np.testing.assert_allclose(across, of_base + alpha * (1 - share) * of_svr, atol=1e-12 * scale)
    on_both = (1 - share) * (of_base + alpha * of_svr)
    assert np.linalg.norm(across - on_both) > 0.1 * np.linalg.norm(across)


def test_radius_zero_is_the_base_loss_and_radius_d_is_the_positive():
    audio, text = jnp.asarray(unit_rows(2), jnp.float32), jnp.asarray(unit_rows(3), jnp.float32)
    np.testing.assert_array_equal(support_vectors(text, audio, 0.0), text)
    apart = jnp.linalg.norm(audio - text, axis=1)
    np.testing.assert_allclose(support_vectors(text, audio, apart), audio, atol=1e-6)


def test_support_vectors_are_not_normalised():
    moved = support_vectors(jnp.eye(2), jnp.eye(2)[::-1], 2**-0.5)
    np.testing.assert_allclose(moved, np.full((2, 2), 0.5), atol=1e-6)


def test_identical_pairs_have_finite_gradients_and_no_pull():
    same = jnp.asarray(unit_rows(4), jnp.float32)

    def loss(audio, text, radius):
        return svr(audio, text, radius, radius, lambda q, k: info_nce(q, k, 14.0))

    gradients = jax.grad(loss, argnums=(0, 1, 2))(same, same, jnp.full(6, 0.3))
    assert all(np.all(np.isfinite(gradient)) for gradient in gradients)
    np.testing.assert_array_equal(gradients[2], 0)


def test_accepts_any_contrast():
    """A stranger's loss, a hinge over the hardest negative, against the same in numpy."""
    audio, text = unit_rows(5), unit_rows(6)

    def hinge(query, key):
        scores = query @ key.T
        negatives = jnp.where(jnp.eye(len(scores), dtype=bool), -jnp.inf, scores)
        return jnp.mean(jax.nn.relu(0.2 + jnp.max(negatives, axis=1) - jnp.diagonal(scores)))

    value = svr(jnp.asarray(audio, jnp.float32), jnp.asarray(text, jnp.float32), 0.3, 0.1, hinge)
    expected = 0
    for anchor, positive, radius in ((text, audio, 0.1), (audio, text, 0.3)):
        for i in range(6):
            towards = positive[i] - anchor[i]
            query = anchor[i] + radius * towards / np.linalg.norm(towards)
            scores = positive @ query
            expected += max(0, 0.2 + max(np.delete(scores, i)) - scores[i]) / 12
    np.testing.assert_allclose(value, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: svr(x, x, 0.1, 0.1, info_nce, direction="up"), "direction is 'up'"),
        (lambda x: svr(x, x, 0.1, None, info_nce), "text_radius is None"),
        (lambda x: support_vectors(x, x[:2], 0.1), r"\(3, 3\) and \(2, 3\)"),
        (lambda x: support_vectors(x, x, jnp.ones(2)), r"radius has shape \(2,\)"),
    ],
)
def test_errors_name_what_was_given(call, message):
    with pytest.raises(ValueError, match=message):
        call(jnp.eye(3))
