from functools import partial
from math import prod

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from supclap_jax.models.sonar import SONAR, SonarTextEncoder
from supclap_jax.models.tokens import PAD_ID
from tests.models.golden import EMBEDDING_ERROR, SONAR_MODEL, TOKENS, cases_of, sonar_weights_of


@pytest.fixture(scope="module", autouse=True)
def exact_matmuls():
    with jax.default_matmul_precision("highest"):
        yield


@pytest.fixture(scope="module")
def golden():
    return cases_of("sonar_encoder.cases")


@pytest.fixture(scope="module", params=["hf", "fairseq2"])
def variables(request):
    return sonar_weights_of(request.param)


@pytest.fixture(scope="module")
def hf():
    return sonar_weights_of("hf")


embed = jax.jit(SONAR_MODEL.apply)
hidden_states = jax.jit(partial(SONAR_MODEL.apply, method="hidden_states"))


def test_weights_have_the_structure_of_the_model(variables):
    initial = jax.eval_shape(SONAR_MODEL.init, jax.random.key(0), jnp.zeros([1, 4], jnp.int32))
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, initial)


@pytest.mark.parametrize("batch", TOKENS)
def test_hidden_states_match_the_reference(golden, variables, batch):
    valid = golden[f"{batch}.attention_mask"].astype(bool)
    got = hidden_states(variables, golden[f"{batch}.input_ids"])
    expected = golden[f"{batch}.hidden_states"]
    np.testing.assert_allclose(np.asarray(got)[valid], expected[valid], rtol=0, atol=1e-5)


@pytest.mark.parametrize("batch", TOKENS)
def test_embeddings_match_the_reference(golden, variables, batch):
    got = embed(variables, golden[f"{batch}.input_ids"])
    np.testing.assert_allclose(got, golden[f"{batch}.embeddings"], rtol=0, atol=EMBEDDING_ERROR)


def test_padding_changes_nothing(golden, hf):
    tokens = golden["batch0.input_ids"]
    padded = np.pad(tokens, ((0, 0), (0, 20)), constant_values=PAD_ID)
    np.testing.assert_allclose(embed(hf, tokens), embed(hf, padded), rtol=0, atol=1e-5)


def test_positions_count_valid_tokens(golden, hf):
    row = golden["batch0.input_ids"][1]
    length = golden["batch0.attention_mask"][1].sum()
    moved_right = np.roll(row, len(row) - length)
    assert moved_right[0] == PAD_ID
    got = embed(hf, np.stack([row, moved_right]))
    np.testing.assert_allclose(got[0], got[1], rtol=0, atol=1e-5)


def test_an_embedding_does_not_depend_on_its_neighbours(golden, hf):
    tokens = golden["batch0.input_ids"]
    together = embed(hf, tokens)
    for row in range(len(tokens)):
        alone = embed(hf, tokens[row : row + 1])
        np.testing.assert_allclose(alone[0], together[row], rtol=0, atol=1e-5)


def test_a_row_of_padding_embeds_to_zero(hf):
    np.testing.assert_array_equal(
        embed(hf, np.full([1, 5], PAD_ID)), np.zeros([1, SONAR_MODEL.dim])
    )


def test_dropout_acts_in_training_only(golden, hf):
    tokens = golden["batch0.input_ids"]
    rngs = {"dropout": jax.random.key(0)}
    evaluated = SONAR_MODEL.apply(hf, tokens)
    np.testing.assert_array_equal(SONAR_MODEL.apply(hf, tokens, rngs=rngs), evaluated)
    trained = SONAR_MODEL.apply(hf, tokens, train=True, rngs=rngs)
    assert np.abs(trained - evaluated).max() > 0.01
    np.testing.assert_array_equal(SONAR_MODEL.apply(hf, tokens, train=True, rngs=rngs), trained)


def test_dropout_reaches_the_embedded_tokens_and_every_layer(golden, hf):
    """At a rate of 1 nothing but the bias of the final norm is left."""
    model = SONAR_MODEL.clone(dropout=1.0)
    rngs = {"dropout": jax.random.key(0)}
    got = model.apply(hf, golden["batch0.input_ids"], train=True, rngs=rngs)
    np.testing.assert_allclose(got, np.tile(hf["params"]["norm"]["bias"], (len(got), 1)), atol=1e-6)


def test_without_dropout_training_needs_no_rng(golden, hf):
    tokens = golden["batch0.input_ids"]
    trained = SONAR_MODEL.clone(dropout=0.0).apply(hf, tokens, train=True)
    np.testing.assert_array_equal(trained, SONAR_MODEL.apply(hf, tokens))


def test_parameter_count_is_that_published():
    tokens = jnp.zeros([1, 4], jnp.int32)
    variables = jax.eval_shape(SonarTextEncoder(**SONAR).init, jax.random.key(0), tokens)
    assert sum(prod(x.shape) for x in jax.tree.leaves(variables)) == 766_091_264


def test_bfloat16_keeps_float32_parameters_and_embeddings(golden, hf):
    model = SONAR_MODEL.clone(dtype=jnp.bfloat16)
    tokens = golden["batch0.input_ids"]
    initial = jax.eval_shape(model.init, jax.random.key(0), tokens)
    assert {x.dtype for x in jax.tree.leaves(initial)} == {jnp.dtype("float32")}
    got = jax.jit(model.apply)(hf, tokens)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, golden["batch0.embeddings"], atol=0.1)
    assert np.abs(got - golden["batch0.embeddings"]).max() > 1e-4


def test_errors_name_both_values(hf):
    with pytest.raises(ValueError, match=r"65 tokens .* maximum of 64"):
        SONAR_MODEL.apply(hf, jnp.zeros([1, 65], jnp.int32))
    with pytest.raises(ValueError, match=r"dim 64 .* heads 5"):
        SONAR_MODEL.clone(heads=5).init(jax.random.key(0), jnp.zeros([1, 4], jnp.int32))
