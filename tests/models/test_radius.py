"""Radius models: where they start, what they may know, and the features against plain loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from supclap_jax.models.radius import (
    DynamicRadius,
    FixedRadius,
    NoRadius,
    StaticRadius,
    similarity_row,
    similarity_summary,
)


def random_similarity(batch, seed=0):
    return jnp.asarray(14 * np.random.default_rng(seed).uniform(-1, 1, (batch, batch)), jnp.float32)


def leaves(params):
    return jax.tree.leaves(params)


def test_none_and_fixed_have_no_parameters():
    similarity = random_similarity(4)
    assert NoRadius().init_with_output(jax.random.key(0), similarity) == ({}, {})
    radii, variables = FixedRadius(0.3).init_with_output(jax.random.key(0), similarity)
    assert variables == {}
    assert {name: float(value) for name, value in radii.items()} == pytest.approx(
        {"text_radius": 0.3, "audio_radius": 0.3}
    )


@pytest.mark.parametrize(
    ("direction", "names"),
    [
        ("both", {"text_radius", "audio_radius"}),
        ("text_to_audio", {"text_radius"}),
        ("audio_to_text", {"audio_radius"}),
    ],
)
@pytest.mark.parametrize("model", [StaticRadius, DynamicRadius])
def test_starts_at_the_initial_radius_in_its_directions(model, direction, names):
    model = model(initial_radius=0.25, direction=direction)
    radii, variables = model.init_with_output(jax.random.key(0), random_similarity(5))
    assert set(radii) == names
    for radius in radii.values():
        np.testing.assert_array_equal(radius, np.full(radius.shape, 0.25, np.float32))
    assert len(leaves(variables)) == len(names) * (1 if isinstance(model, StaticRadius) else 6)


@pytest.mark.parametrize("model", [StaticRadius, DynamicRadius])
def test_bounded_radii_start_at_a_share_and_stay_within_the_distance(model):
    model = model(initial_radius=0.25, bounded=True)
    radii, variables = model.init_with_output(jax.random.key(0), random_similarity(5))
    for radius in radii.values():
        np.testing.assert_allclose(radius, 0.25, rtol=1e-6)
    for size in (-30.0, 30.0):
        far = jax.tree.map(lambda x, size=size: x + size, variables)
        for radius in model.apply(far, random_similarity(5)).values():
            assert np.all((radius >= 0) & (radius <= 1))


@pytest.mark.parametrize("model", [StaticRadius, DynamicRadius])
def test_shared_radii_have_one_set_of_parameters(model):
    similarity = random_similarity(5)
    separate = model(0.25).init(jax.random.key(0), similarity)
    shared = model(0.25, shared=True).init(jax.random.key(0), similarity)
    assert len(leaves(separate)) == 2 * len(leaves(shared))


def test_dynamic_is_a_three_layer_mlp():
    """Reference: the same MLP in numpy on the parameters by name."""
    similarity = random_similarity(6)
    model = DynamicRadius(0.1, features="row", hidden=8)
    params = model.init(jax.random.key(0), similarity)["params"]
    rng = np.random.default_rng(1)
    params = jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape), jnp.float32), params)
    radii = model.apply({"params": params}, similarity)
    for side, rows in (("audio", np.asarray(similarity)), ("text", np.asarray(similarity).T)):
        layers = params[f"predictors_{side}"]
        x = np.stack([[rows[i, i], *np.delete(rows[i], i)] for i in range(6)])
        for layer in ("layers_0", "layers_2", "layers_4"):
            x = x @ layers[layer]["kernel"] + layers[layer]["bias"]
            x = x if layer == "layers_4" else np.maximum(x, 0)
        np.testing.assert_allclose(radii[f"{side}_radius"], x[:, 0], rtol=1e-4)


@pytest.mark.parametrize("batch", [2, 3, 7])
def test_row_puts_the_positive_first(batch):
    similarity = random_similarity(batch)
    rows = np.asarray(similarity)
    expected = [[rows[i, i], *np.delete(rows[i], i)] for i in range(batch)]
    np.testing.assert_array_equal(similarity_row(similarity), expected)


@pytest.mark.parametrize("batch", [2, 4, 5, 30])
def test_summary_against_numpy(batch):
    similarity = random_similarity(batch)
    rows = np.asarray(similarity, np.float64)
    for i, summary in enumerate(np.asarray(similarity_summary(similarity))):
        negatives = np.sort(np.delete(rows[i], i))[::-1]
        hardest = [*negatives[:4], *[negatives[-1]] * (5 - batch)]
        soft = np.log(np.mean(np.exp(negatives)))
        expected = [rows[i, i], *hardest[:4], soft, negatives.mean(), negatives.std()]
        np.testing.assert_allclose(summary, expected, rtol=1e-5, atol=1e-5)


def test_summary_does_not_know_the_order_of_the_batch():
    similarity = random_similarity(9)
    order = np.random.default_rng(3).permutation(9)
    shuffled = similarity_summary(similarity[order][:, order])
    np.testing.assert_allclose(shuffled, similarity_summary(similarity)[order], rtol=1e-5)


def test_summary_serves_any_batch_size_and_row_only_its_own():
    for features, fits in (("summary", True), ("row", False)):
        model = DynamicRadius(0.1, features=features)
        variables = model.init(jax.random.key(0), random_similarity(6))
        if fits:
            assert model.apply(variables, random_similarity(1))["text_radius"].shape == (1,)
            assert model.apply(variables, random_similarity(11))["text_radius"].shape == (11,)
        else:
            with pytest.raises(Exception, match="shape"):
                model.apply(variables, random_similarity(11))


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_summary_of_equal_negatives_has_a_finite_gradient(batch):
    gradient = jax.grad(lambda s: jnp.sum(similarity_summary(s)))(jnp.ones((batch, batch)))
    assert np.all(np.isfinite(gradient))


def test_a_model_needs_no_more_than_it_looks_at():
    similarity = random_similarity(5)
    for model in (NoRadius(), FixedRadius(0.3), StaticRadius(0.3)):
        assert model.looks_at == "nothing"
        variables = model.init(jax.random.key(0), similarity)
        assert model.apply(variables, None) == model.apply(variables, similarity)

    model = DynamicRadius(0.1)
    assert model.looks_at == "summary"
    params = model.init(jax.random.key(0), similarity)["params"]
    variables = {"params": jax.tree.map(lambda p: p + 0.1, params)}
    summaries = {"audio": similarity_summary(similarity), "text": similarity_summary(similarity.T)}
    jax.tree.map(
        np.testing.assert_array_equal,
        model.apply(variables, summaries),
        model.apply(variables, similarity),
    )
    assert DynamicRadius(0.1, features="row").looks_at == "matrix"
    assert DynamicRadius(0.1, detach=False).looks_at == "matrix"


@pytest.mark.parametrize("detach", [True, False])
def test_input_is_detached_by_default(detach):
    model = DynamicRadius(0.1, detach=detach)
    assert DynamicRadius(0.1).detach
    similarity = random_similarity(6)
    params = model.init(jax.random.key(0), similarity)["params"]
    params = jax.tree.map(lambda p: p + 0.1, params)

    def total(similarity):
        return sum(jnp.sum(r) for r in model.apply({"params": params}, similarity).values())

    assert bool(jnp.any(jax.grad(total)(similarity) != 0)) is not detach
