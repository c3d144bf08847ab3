"""Pull and push against numpy in float64, pair by pair, and the contraction they show."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from supclap_jax.losses import forces, sharded, supclap
from tests.losses.decoupled import decoupled
from tests.losses.problems import make_mesh

pytestmark = pytest.mark.slow

BATCH, DIM, SCALE, BIAS, ALPHA = 8, 6, 12.0, -3.0, 0.7
IDS = np.array([0, 1, 2, 3, 1, 5, 6, 0], np.int32)


def pairs(seed=0):
    rng = np.random.default_rng(seed)
    audio = rng.normal(size=(BATCH, DIM))
    text = audio + 0.8 * rng.normal(size=(BATCH, DIM))
    unit = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (audio, text))
    return *unit, rng.uniform(0, 0.4, BATCH)


def slopes(base, scores, ids):
    """Gradient `[query, key]` of the summed one-directional losses with respect to the scores."""
    logits = SCALE * scores + (BIAS if base == "siglip" else 0)
    same = np.eye(BATCH) if ids is None else (ids[:, None] == ids[None, :]).astype(float)
    if base == "siglip":
        return SCALE * np.where(same, -1 / (1 + np.exp(logits)), 1 / (1 + np.exp(-logits)))
    weights = np.exp(logits) * (1 - np.eye(BATCH) if base is decoupled else 1)
    target = same / same.sum(1, keepdims=True)
    return SCALE * (weights / weights.sum(1, keepdims=True) - target)


def reference(base, ids):
    """Pull and push `[batch, dim]` on text and audio; SVR with text support vectors."""
    audio, text, radius = pairs()
    pull, push = ({"text": np.zeros((BATCH, DIM)), "audio": np.zeros((BATCH, DIM))} for _ in "ab")
    slope = slopes(base, text @ audio.T, ids)
    if base != "siglip":
        slope = (slope + slopes(base, audio @ text.T, ids).T) / 2
    difference = audio - text
    apart = np.linalg.norm(difference, axis=1)
    moved = text + (radius / apart)[:, None] * difference
    svr_slope = ALPHA * slopes(base, moved @ audio.T, ids)
    for i in range(BATCH):
        u = difference[i] / apart[i]
        across = np.eye(DIM) - np.outer(u, u)
        share = radius[i] / apart[i]
        for j in range(BATCH):
            kind = pull if i == j else push
            kind["text"][i] -= slope[i, j] * audio[j]
            kind["audio"][j] -= slope[i, j] * text[i]
            force = -svr_slope[i, j] * audio[j]
            kind["text"][i] += (np.outer(u, u) + (1 - share) * across) @ force
            kind["audio"][i] += share * across @ force
            kind["audio"][j] -= svr_slope[i, j] * moved[i]
    return pull, push, {"text": difference, "audio": -difference}


def loss(audio, text, radius, ids=None, base="info_nce", **options):
    bias = BIAS if base == "siglip" else None
    options |= {"direction": "text_to_audio", "alpha": ALPHA, "beta": 0.0, "pulls": True}
    return supclap(
        audio, text, SCALE, base=base, logit_bias=bias, text_radius=radius, ids=ids, **options
    )


@pytest.mark.parametrize(
    ("base", "ids", "devices", "block_size"),
    [
        ("info_nce", None, 0, None),
        ("info_nce", IDS, 4, 1),
        ("siglip", None, 4, 1),
        ("siglip", IDS, 0, 3),
        (decoupled, None, 0, None),
    ],
)
def test_forces_are_those_of_each_pair(base, ids, devices, block_size):
    audio, text, radius = (jnp.asarray(x, jnp.float32) for x in pairs())
    function = partial(loss, base=base, block_size=block_size)
    if devices:
        out_specs = (PartitionSpec(), (PartitionSpec(), PartitionSpec("data")))
        function = sharded(function, make_mesh((devices,)), out_specs=out_specs)
    ids = None if ids is None else jnp.asarray(ids)
    step = jax.jit(jax.value_and_grad(function, argnums=(0, 1), has_aux=True))
    (_, (_, pulls)), gradients = step(audio, text, radius, ids=ids)
    pull, push, towards = reference(base, ids)
    embeddings = {"audio": (audio, text, gradients[0]), "text": (text, audio, gradients[1])}
    for side, arguments in embeddings.items():
        found = forces(*arguments, pulls[side])
        u = towards[side] / np.linalg.norm(towards[side], axis=1, keepdims=True)
        parallel = np.sum(push[side] * u, 1)
        force = pull[side] + push[side]
        expected = {
            "pull": np.linalg.norm(pull[side], axis=1),
            "push_parallel": parallel,
            "push_perpendicular": np.linalg.norm(push[side] - parallel[:, None] * u, axis=1),
            "drift_cosine": np.sum(force * u, 1) / np.linalg.norm(force, axis=1),
        }
        assert set(found) == set(expected)
        for name, value in expected.items():
            error = 2e-5 * np.max(np.abs(value))
            np.testing.assert_allclose(found[name], value, rtol=0, atol=error, err_msg=name)


def test_a_radius_of_the_distance_leaves_only_force_along_the_pair():
    """alpha is so large that only SVR counts: at R = d nothing pulls or pushes across u."""

    @jax.jit
    def drift(audio, text, share):
        radius = share * jnp.linalg.norm(audio - text, axis=1)
        options = {"text_radius": radius, "direction": "text_to_audio", "pulls": True}
        function = partial(supclap, logit_scale=SCALE, alpha=1e9, beta=0.0, **options)
        step = jax.value_and_grad(function, argnums=1, has_aux=True)
        (_, (_, pulls)), gradient = step(audio, text)
        return forces(text, audio, gradient, pulls["text"])["drift_cosine"]

    with jax.enable_x64(True):
        audio, text, _ = map(jnp.asarray, pairs())
        assert np.min(np.abs(drift(audio, text, 0.1))) < 0.3
        np.testing.assert_allclose(np.abs(drift(audio, text, 1.0)), 1, atol=1e-6)


def test_coinciding_pairs_have_no_direction():
    """Zero, not NaN."""
    audio = jnp.asarray(pairs()[0], jnp.float32)
    found = forces(audio, audio, -audio, audio)
    assert all(np.all(np.isfinite(x)) for x in found.values())
    np.testing.assert_array_equal(found["drift_cosine"], 0)
