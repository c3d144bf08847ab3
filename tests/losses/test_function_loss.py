"""A base loss that is a plain function: against the loss objects, and a decoupled one in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from supclap_jax.losses import supclap
from tests.losses.decoupled import decoupled
from tests.losses.problems import BATCH, problem, some_ids

pytestmark = pytest.mark.slow
BIAS = -5.0


def info_nce(query, key, logit_scale):
    logits = logit_scale * query @ key.T
    return jax.nn.logsumexp(logits, axis=1) - jnp.diagonal(logits)


def mean_info_nce(query, key, logit_scale):
    return jnp.mean(info_nce(query, key, logit_scale))


def siglip(query, key, logit_scale):
    logits = logit_scale * query @ key.T + BIAS
    return jnp.sum(jax.nn.softplus(jnp.where(jnp.eye(len(query)), -logits, logits)), axis=1)


def predict(summaries):
    return {f"{side}_radius": 0.02 * jnp.mean(x, axis=1) for side, x in summaries.items()}


@pytest.mark.parametrize(
    ("function", "named", "radii"),
    [
        (info_nce, "info_nce", "predicted"),
        (mean_info_nce, "info_nce", "none"),
        (siglip, "siglip", "fixed"),
    ],
)
def test_a_function_that_is_a_known_loss(function, named, radii):
    """The same loss, metrics, pulls and gradients as the object's."""
    audio, text, scale, _, audio_radius, text_radius = problem(0)
    options = {
        "none": {},
        "fixed": {"audio_radius": audio_radius, "text_radius": text_radius},
        "predicted": {"predict_radii": predict},
    }[radii]
    options |= {"pulls": True}
    bias = BIAS if named == "siglip" else None

    def step(base, bias):
        def loss(audio, text, scale):
            return supclap(audio, text, scale, base=base, logit_bias=bias, **options)

        return jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))

    with jax.enable_x64(True):
        ours, known = (
            step(function, None)(audio, text, scale),
            step(named, bias)(audio, text, scale),
        )
    assert jax.tree.structure(ours) == jax.tree.structure(known)
    for x, y in zip(jax.tree.leaves(ours), jax.tree.leaves(known), strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=1e-12 * np.max(np.abs(y), initial=1e-3))


def decoupled_in_numpy(query, key, scale):
    losses = []
    for i in range(BATCH):
        logits = scale * key @ query[i]
        losses.append(np.log(np.sum(np.exp(np.delete(logits, i)))) - logits[i])
    return np.mean(losses)


def predicted_in_numpy(logits):
    """`predict` of one side: the mean of the eight statistics, times 0.02."""
    radii = []
    for i, row in enumerate(logits):
        others = np.delete(row, i)
        soft_maximum = np.log(np.mean(np.exp(others)))
        hardest = np.sort(others)[-4:]
        statistics = [row[i], *hardest, soft_maximum, np.mean(others), np.std(others)]
        radii.append(0.02 * np.mean(statistics))
    return np.array(radii)


@pytest.mark.parametrize("predicted", [False, True], ids=["static", "predicted"])
def test_a_decoupled_loss_against_numpy(predicted):
    audio, text, scale, _, *radii = problem(1)
    given = {"predict_radii": predict}
    if predicted:
        logits = scale * audio @ text.T
        radii = predicted_in_numpy(logits), predicted_in_numpy(logits.T)
    else:
        given = {"audio_radius": radii[0], "text_radius": radii[1]}
    ids = some_ids(1)
    with jax.enable_x64(True):
        objective = jax.jit(lambda *args: supclap(*args, base=decoupled, ids=ids, **given))
        loss, metrics = objective(audio, text, scale)
    base = (decoupled_in_numpy(audio, text, scale) + decoupled_in_numpy(text, audio, scale)) / 2
    apart = np.linalg.norm(audio - text, axis=1)
    svr, constraint = 0, 0
    for anchor, positive, radius in ((audio, text, radii[0]), (text, audio, radii[1])):
        moved = anchor + (radius / apart)[:, None] * (positive - anchor)
        svr += decoupled_in_numpy(moved, positive, scale) / 2
        constraint += np.mean(np.maximum(radius - apart, 0) + np.maximum(-radius, 0)) / 2
    same = ids[:, None] == ids[None, :]
    scores = audio @ text.T
    best, other = np.where(same, scores, -2).max(1), np.where(same, -2, scores).max(1)
    expected = {
        "loss/base": base,
        "loss/svr": svr,
        "loss/constraint": constraint,
        "loss": base + svr + 0.01 * constraint,
        "R@1/audio_to_text": 100 * np.mean(best > other),
        "contraction/text": np.mean(1 - radii[1] / apart),
    }
    assert loss == metrics["loss"]
    for name, value in expected.items():
        assert metrics[name] == pytest.approx(value, rel=1e-12), name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"block_size": 2}, "tiles and rings need a BaseLoss object"),
        ({"axis_name": "data"}, "tiles and rings need a BaseLoss object"),
        ({"logit_bias": 0.0}, "takes no bias"),
        ({"base": lambda q, k, s: q @ k.T}, r"gives the shape \(3, 3\); expected a scalar"),
    ],
)
def test_errors_name_what_was_given(options, message):
    with pytest.raises(ValueError, match=message):
        supclap(jnp.eye(3), jnp.eye(3), 1.0, **{"base": decoupled} | options)
