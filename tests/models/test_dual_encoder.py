"""The dual encoder's own parts: projection, temperature, bias."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from supclap_jax.models.ced import CED
from supclap_jax.models.ced_encoder import CedEncoder
from supclap_jax.models.dual_encoder import DualEncoder, clip_temperature
from supclap_jax.models.sonar import SonarTextEncoder

pytestmark = pytest.mark.slow

AUDIO = np.random.default_rng(0).normal(size=(3, 8000)).astype(np.float32)
TOKENS = np.array([[5, 6, 2, 1], [7, 2, 1, 1], [5, 9, 8, 2]], np.int32)


def build(**options):
    model = DualEncoder(
        audio=CED(16, 1, 2),
        text=SonarTextEncoder(vocab_size=12, dim=16, depth=1, heads=2, ffn_dim=16),
        frontend=CedEncoder().frontend,
        projection_dim=24,
        **options,
    )
    return model, model.init(jax.random.key(0), AUDIO, TOKENS)


def test_embeddings_are_unit_rows_of_the_projections():
    """Reference: `Linear -> ReLU -> Linear` and L2 norm in numpy, after the encoder itself."""
    model, variables = build()
    audio, text, _, _ = model.apply(variables, AUDIO, TOKENS)
    assert audio.shape == text.shape == (3, 24)
    encoder = SonarTextEncoder(vocab_size=12, dim=16, depth=1, heads=2, ffn_dim=16)
    pooled = np.asarray(encoder.apply({"params": variables["params"]["text"]}, TOKENS))
    layers = variables["params"]["text_projection"]
    hidden = np.maximum(pooled @ layers["Dense_0"]["kernel"] + layers["Dense_0"]["bias"], 0)
    projected = hidden @ layers["Dense_1"]["kernel"] + layers["Dense_1"]["bias"]
    expected = projected / np.linalg.norm(projected, axis=1, keepdims=True)
    np.testing.assert_allclose(text, expected, atol=2e-6)
    np.testing.assert_allclose(np.linalg.norm(audio, axis=1), 1, atol=1e-5)


def test_towers_do_not_know_each_other():
    model, variables = build()
    audio, text, _, _ = model.apply(variables, AUDIO, TOKENS)
    np.testing.assert_array_equal(model.apply(variables, AUDIO, method="encode_audio"), audio)
    np.testing.assert_array_equal(model.apply(variables, TOKENS, method="encode_text"), text)


LENGTHS = [160 * (frames - 1) + extra for frames in (16, 32, 1012, 2024) for extra in (0, 159, 160)]
LENGTHS += [160 * 31 - 1, 2_401, 2_911, 12_345, 160 * 1011 - 1, 160 * 2023 - 1]


@pytest.fixture(scope="module")
def clips():
    """Noise that fades, with silence at the end of some, of all lengths that need care."""
    rng = np.random.default_rng(1)
    clips = []
    for number, length in enumerate(LENGTHS):
        clip = rng.normal(size=length) * np.exp(-3 * np.arange(length) / length)
        if number % 3 == 0:
            clip[-length // 4 :] = 0
        clips.append(clip.astype(np.float32))
    return clips


@pytest.fixture(scope="module")
def alone(clips):
    """Parameters that leave nothing out, and each clip's embedding without any padding."""
    model, variables = build()
    rng = np.random.default_rng(2)
    variables = jax.tree.map(lambda x: x + 0.1 * rng.normal(size=x.shape), variables)
    variables["batch_stats"]["audio"]["input_norm"] = {
        "mean": np.full(64, -20, np.float32),
        "var": np.full(64, 400, np.float32),
    }
    encode = jax.jit(partial(model.apply, method="encode_audio"))
    return encode, variables, np.concatenate([encode(variables, clip[None]) for clip in clips])


@pytest.mark.parametrize(
    ("longest", "bucket"), [(4_000, 4_000), (16_000, 100_001), (170_000, 200_000), (330_000,) * 2]
)
def test_padding_and_company_change_no_embedding(clips, alone, longest, bucket):
    """Whatever follows a clip, and in whichever order clips stand."""
    encode, variables, expected = alone
    rng = np.random.default_rng(3)
    rows = rng.permutation([i for i, clip in enumerate(clips) if len(clip) <= longest])
    batch = rng.normal(size=(len(rows), bucket)).astype(np.float32)
    for filled, row in zip(batch, rows, strict=True):
        filled[: len(clips[row])] = clips[row]
    got = encode(variables, batch, np.array([len(clips[row]) for row in rows], np.int32))
    np.testing.assert_allclose(got, expected[rows], rtol=0, atol=1e-5)
    assert np.abs(expected - expected[0])[1:].max(axis=1).min() > 1e-3  # all of them differ


@pytest.mark.parametrize("learned", [True, False])
def test_temperature(learned):
    model, variables = build(temperature=0.05, learn_temperature=learned)
    scale = model.apply(variables, method="logit_scale")
    assert float(scale) == pytest.approx(20.0, rel=1e-6)
    assert ("log_logit_scale" in variables["params"]) == learned


def test_learned_temperature_is_clipped_at_its_minimum():
    model, variables = build(temperature=0.05)
    for minimum, scale in ((0.02, 20.0), (0.1, 10.0)):
        params = clip_temperature(variables["params"], minimum)
        scale_now = model.apply({**variables, "params": params}, method="logit_scale")
        assert float(scale_now) == pytest.approx(scale)
    fixed = build(learn_temperature=False)[1]["params"]
    assert clip_temperature(fixed, 0.02) is fixed


def test_bias_only_where_asked_for():
    assert build()[0].apply(build()[1], AUDIO, TOKENS)[3] is None
    model, variables = build(bias=-10.0)
    assert float(model.apply(variables, AUDIO, TOKENS)[3]) == -10.0


def test_bfloat16_computes_close_to_float32_and_keeps_float32_parameters():
    model, variables = build()
    low = model.clone(
        audio=model.audio.clone(dtype=jnp.bfloat16),
        text=model.text.clone(dtype=jnp.bfloat16),
        dtype=jnp.bfloat16,
    )
    assert {leaf.dtype for leaf in jax.tree.leaves(low.init(jax.random.key(0), AUDIO, TOKENS))} == {
        jnp.dtype("float32")
    }
    exact, rough = (m.apply(variables, AUDIO, TOKENS)[0] for m in (model, low))
    assert rough.dtype == jnp.float32
    assert 0 < float(jnp.max(jnp.abs(exact - rough))) < 0.03
