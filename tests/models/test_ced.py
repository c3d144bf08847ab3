import json
from functools import partial
from math import prod
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from supclap_jax.models.ced import CED, SIZES
from supclap_jax.models.log_mel import log_mel
from tests.models.weights import load_ced

GOLDEN = Path(__file__).parents[1] / "golden"
CLIPS = json.loads((GOLDEN / "ced_encoder.json").read_text())["inputs"]["clips"]
START = {clip["name"]: clip["start"] for clip in CLIPS}
FRAMES = {clip["name"]: clip["frames"] for clip in CLIPS}
MODEL = CED(dim=48, depth=2, heads=3)


@pytest.fixture(scope="module", autouse=True)
def exact_matmuls():
    with jax.default_matmul_precision("highest"):
        yield


@pytest.fixture(scope="module")
def golden():
    return load_file(GOLDEN / "ced_encoder.cases.safetensors")


@pytest.fixture(scope="module", params=["original", "hf"])
def variables(request):
    return load_weights(request.param)


@pytest.fixture(scope="module")
def original():
    return load_weights("original")


def load_weights(layout):
    return load_ced(GOLDEN / f"ced_encoder.weights_{layout}.safetensors", layout, MODEL.depth)


def cut(golden, name):
    """A clip of the fixture, [frames, 64]."""
    bank = golden["logmel_bank"]
    return bank.T[(START[name] + np.arange(FRAMES[name])) % bank.shape[1]]


embed = jax.jit(MODEL.apply)
tokens = jax.jit(partial(MODEL.apply, method="tokens"))


def test_weights_have_the_structure_of_the_model(variables):
    initial = jax.eval_shape(MODEL.init, jax.random.key(0), jnp.zeros([1, 200, 64]))
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, initial)


def test_tokens_match_the_reference(golden, variables):
    got = tokens(variables, cut(golden, "f200")[None])
    np.testing.assert_allclose(got[0], golden["tokens.f200"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", FRAMES)
def test_embeddings_match_the_reference(golden, variables, name):
    got = embed(variables, cut(golden, name)[None])
    np.testing.assert_allclose(got[0], golden[f"embedding.{name}"], rtol=0, atol=5e-6)


def test_long_clips_of_a_batch_match_the_reference(golden, original):
    names = ["f1500_a", "f1500_b"]
    got = embed(original, np.stack([cut(golden, name) for name in names]))
    expected = np.stack([golden[f"embedding.{name}"] for name in names])
    np.testing.assert_allclose(got, expected, rtol=0, atol=5e-6)


def test_the_last_chunk_of_an_exact_multiple_counts(golden, original):
    got = embed(original, cut(golden, "f2024")[None])[0]
    assert np.abs(got - golden["upstream_wrong.f2024"]).max() > 0.1


@pytest.mark.parametrize("clip", ["loud", "quiet"])
def test_embeddings_of_waveforms_match_the_reference(golden, variables, clip):
    waveform = load_file(GOLDEN / "ced_frontend.safetensors")[f"waveform.{clip}"]
    got = embed(variables, log_mel(waveform[None]))
    np.testing.assert_allclose(got[0], golden[f"embedding.e2e_{clip}"], rtol=0, atol=2e-5)


@pytest.mark.parametrize("length", [200, 1100])
def test_an_embedding_does_not_depend_on_its_neighbours(golden, original, length):
    bank = golden["logmel_bank"].T
    clip, neighbour = bank[:length], 2 * bank[50 : 50 + length] + 30
    alone = embed(original, clip[None])
    np.testing.assert_allclose(alone, embed(original, np.stack([clip, neighbour]))[:1], atol=1e-5)
    np.testing.assert_allclose(alone, embed(original, np.stack([neighbour, clip]))[1:], atol=1e-5)


def test_training_moves_the_running_statistics_by_one_percent(golden, original):
    clips = np.stack([golden["logmel_bank"].T[:300], golden["logmel_bank"].T[300:600]])
    train = jax.jit(partial(MODEL.apply, train=True, mutable=["batch_stats"]))
    got, updated = train(original, clips)
    old = original["batch_stats"]["input_norm"]
    new = {"mean": clips.mean((0, 1), np.float64), "var": clips.var((0, 1), np.float64)}
    for name in ("mean", "var"):
        expected = 0.99 * old[name] + 0.01 * new[name]
        np.testing.assert_allclose(updated["batch_stats"]["input_norm"][name], expected, rtol=1e-5)

    by_the_batch = {
        "params": original["params"],
        "batch_stats": {"input_norm": jax.tree.map(np.float32, new)},
    }
    np.testing.assert_allclose(got, embed(by_the_batch, clips), atol=1e-5)


@pytest.mark.parametrize(
    "size, published",
    [("tiny", 5_503_183), ("mini", 9_696_655), ("small", 21_622_543), ("base", 85_711_759)],
)
def test_parameter_counts_are_those_published(size, published):
    """The published totals count the tagging head, LayerNorm and Linear(dim, 527), and no buffer:
    neither running statistics nor the front end."""
    variables = jax.eval_shape(CED(**SIZES[size]).init, jax.random.key(0), jnp.zeros([1, 16, 64]))
    encoder = sum(prod(x.shape) for x in jax.tree.leaves(variables["params"]))
    dim = SIZES[size]["dim"]
    tagging_head = 2 * dim + 527 * dim + 527
    assert encoder + tagging_head == published


def test_initialisation():
    init = jax.jit(CED(dim=96, depth=1, heads=3).init)
    params = init(jax.random.key(0), jnp.zeros([1, 16, 64]))["params"]
    block = jax.tree.map(lambda leaf: leaf[0], params["blocks"])
    for kernel in (params["patch_embed"]["kernel"], block["qkv"]["kernel"], block["fc2"]["kernel"]):
        assert np.abs(kernel).max() <= 2 * 0.02
        np.testing.assert_allclose(np.std(kernel), 0.88 * 0.02, rtol=0.05)
    np.testing.assert_allclose(np.std(params["time_pos_embed"]), 0.02, rtol=0.05)
    np.testing.assert_allclose(np.std(params["freq_pos_embed"]), 0.02, rtol=0.2)
    assert not np.any(block["qkv"]["bias"])


def test_bfloat16_keeps_float32_parameters_and_embeddings(golden, original):
    model = MODEL.clone(dtype=jnp.bfloat16)
    clips = cut(golden, "f200")[None]
    initial = jax.eval_shape(model.init, jax.random.key(0), clips)
    assert {x.dtype for x in jax.tree.leaves(initial)} == {jnp.dtype("float32")}
    got = jax.jit(model.apply)(original, clips)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got[0], golden["embedding.f200"], atol=0.05)
    assert np.abs(got[0] - golden["embedding.f200"]).max() > 1e-4


def test_errors_name_both_values(original):
    with pytest.raises(ValueError, match="64 mel bins, got 80"):
        MODEL.apply(original, jnp.zeros([1, 200, 80]))
    with pytest.raises(ValueError, match="at least 16 frames, got 15"):
        MODEL.apply(original, jnp.zeros([1, 15, 64]))
    with pytest.raises(ValueError, match=r"dim 48 .* heads 5"):
        CED(dim=48, depth=1, heads=5).init(jax.random.key(0), jnp.zeros([1, 16, 64]))
