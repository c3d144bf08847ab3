"""Every key of a file is accounted for, both ways, or the error says which is not."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from supclap_jax.errors import ConfigError
from supclap_jax.models.ced import CED, SIZES, resize_positions
from supclap_jax.models.ced_encoder import CedEncoder
from supclap_jax.models.ced_weights import CED_HUGGINGFACE, CED_ORIGINAL
from supclap_jax.models.dual_encoder import DualEncoder
from supclap_jax.models.log_mel import hann_window, mel_filterbank
from supclap_jax.models.ml_clap_weights import ML_CLAP
from supclap_jax.models.pretrained import load_pretrained, match, to_layout
from supclap_jax.models.sonar import SonarTextEncoder
from supclap_jax.models.sonar_weights import SONAR_FAIRSEQ2, SONAR_HUGGINGFACE
from tests.models.golden import GOLDEN

CED_MODEL = CED(dim=48, depth=2, heads=3)
SONAR_MODEL = SonarTextEncoder(vocab_size=320, dim=64, depth=2, heads=4, ffn_dim=128)
DUAL_MODEL = DualEncoder(CED_MODEL, SONAR_MODEL, CedEncoder().frontend, projection_dim=16)
LAYOUT_OF_FILE = {
    "ced_encoder.weights_original": CED_ORIGINAL,
    "ced_encoder.weights_hf": CED_HUGGINGFACE,
    "sonar_encoder.weights_hf": SONAR_HUGGINGFACE,
    "sonar_encoder.weights_fairseq2": SONAR_FAIRSEQ2,
    "ml_clap": ML_CLAP,
}
LAYOUTS = LAYOUT_OF_FILE.values()
MODEL_OF_TOWER = {"audio": CED_MODEL, "text": SONAR_MODEL, "dual": DUAL_MODEL}


def shapes_of(model):
    tokens = jnp.zeros([1, 4], jnp.int32)
    inputs = {CED: (jnp.zeros([1, 200, 64]),), SonarTextEncoder: (tokens,)}
    inputs = inputs.get(type(model), (jnp.zeros([1, 16_000]), tokens))
    return jax.eval_shape(model.init, jax.random.key(0), *inputs)


def ml_clap_tensors():
    """A file as ML-CLAP writes it, of the golden towers."""
    rng = np.random.default_rng(0)
    tensors = {}
    for name, prefix in (
        ("ced_encoder.weights_original", "audio_encoder.model."),
        ("sonar_encoder.weights_fairseq2", "text_encoder.model."),
    ):
        tower = load_file(GOLDEN / f"{name}.safetensors")
        tensors |= {prefix + key: value for key, value in tower.items()}
    for tower, width in (("audio", 48), ("text", 64)):
        for layer, inputs in (("0", width), ("2", 16)):
            weight = rng.normal(size=(16, inputs)).astype(np.float32)
            tensors[f"{tower}_proj.{layer}.weight"] = weight
            tensors[f"{tower}_proj.{layer}.bias"] = weight[:, 0].copy()
    return tensors | {"temperature": np.array(0.07, np.float32)}


@pytest.fixture(params=LAYOUT_OF_FILE)
def file(request, tmp_path):
    """A layout, a file of it, and its tensors."""
    tensors = ml_clap_tensors() if request.param == "ml_clap" else golden(request.param)
    path = tmp_path / "weights.safetensors"
    save_file(tensors, path)
    return LAYOUT_OF_FILE[request.param], path, tensors


@pytest.fixture
def write(tmp_path):
    def write(tensors):
        save_file(tensors, tmp_path / "changed.safetensors")
        return tmp_path / "changed.safetensors"

    return write


def golden(name):
    return load_file(GOLDEN / f"{name}.safetensors")


def load(path, model=CED_MODEL, tower="audio"):
    return load_pretrained(path, shapes_of(model), tower, LAYOUTS)


def test_a_file_fills_every_parameter_and_comes_back_bit_for_bit(file):
    layout, path, tensors = file
    model = MODEL_OF_TOWER[layout.tower]
    variables = load(path, model, layout.tower)
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, shapes_of(model))
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype(np.float32)}

    back = to_layout(layout, variables)
    left = {key for key in tensors if "outputlayer" in key or "batches_tracked" in key}
    left |= {key for key in tensors if "front_end" in key}
    assert back.keys() == tensors.keys() - left
    for key, value in back.items():
        assert value.shape == tensors[key].shape
        assert value.tobytes() == tensors[key].tobytes()


def test_our_parameters_come_back_bit_for_bit(tmp_path):
    """Also those that no published file holds: here a temperature, trained, and SigLIP's bias."""
    rng = np.random.default_rng(0)
    shapes = shapes_of(DUAL_MODEL.clone(bias=-10.0))
    variables = jax.tree.map(lambda x: rng.normal(2, 0.3, x.shape).astype(np.float32), shapes)
    path = tmp_path / "ours.safetensors"
    save_file(to_layout(ML_CLAP, variables), path)
    back = load_pretrained(path, shapes, "dual", LAYOUTS)
    assert jax.tree.all(jax.tree.map(lambda a, b: a.tobytes() == b.tobytes(), variables, back))


@pytest.mark.parametrize("temperature", [0.01, 0.05, 0.07, 0.1, 0.2, 1.0])
def test_a_temperature_is_kept(temperature, tmp_path):
    path = tmp_path / "ml_clap.safetensors"
    save_file(ml_clap_tensors() | {"temperature": np.array(temperature, np.float32)}, path)
    variables = load(path, DUAL_MODEL, "dual")
    scale = variables["params"]["log_logit_scale"]
    np.testing.assert_allclose(np.exp(np.float64(scale)), 1 / temperature, rtol=2e-7)
    assert to_layout(ML_CLAP, variables)["temperature"] == np.float32(temperature)


def test_other_spelling_of_the_temperature(write):
    tensors = ml_clap_tensors()
    tensors["temp"] = tensors.pop("temperature")
    scale = load(write(tensors), DUAL_MODEL, "dual")["params"]["log_logit_scale"]
    np.testing.assert_allclose(scale, -np.log(0.07), rtol=1e-6)


def test_a_fixed_temperature_leaves_that_of_the_file(write):
    model = DUAL_MODEL.clone(learn_temperature=False)
    found = match(write(ml_clap_tensors()), shapes_of(model), "dual", LAYOUTS)
    assert found.left == ("temperature",)
    assert match(write(ml_clap_tensors()), shapes_of(DUAL_MODEL), "dual", LAYOUTS).left == ()


@pytest.mark.parametrize("size", SIZES)
def test_every_published_size_of_ced_fits(size):
    """Expected shapes are those of the published state dict, written out for this width."""
    dim = SIZES[size]["dim"]
    shapes = shapes_of(CED(**SIZES[size]))
    zeros = jax.tree.map(lambda x: np.broadcast_to(np.float32(0), x.shape), shapes)
    got = {key: value.shape for key, value in to_layout(CED_ORIGINAL, zeros).items()}
    layer = {
        "attn.qkv.weight": (3 * dim, dim),
        "attn.qkv.bias": (3 * dim,),
        "attn.proj.weight": (dim, dim),
        "attn.proj.bias": (dim,),
        "mlp.fc1.weight": (4 * dim, dim),
        "mlp.fc1.bias": (4 * dim,),
        "mlp.fc2.weight": (dim, 4 * dim),
        "mlp.fc2.bias": (dim,),
        **{f"norm{n}.{p}": (dim,) for n in (1, 2) for p in ("weight", "bias")},
    }
    assert got == {
        "time_pos_embed": (1, dim, 1, 63),
        "freq_pos_embed": (1, dim, 4, 1),
        **{f"init_bn.1.{p}": (64,) for p in ("weight", "bias", "running_mean", "running_var")},
        "patch_embed.proj.weight": (dim, 1, 16, 16),
        "patch_embed.proj.bias": (dim,),
        "norm.weight": (dim,),
        "norm.bias": (dim,),
        **{f"blocks.{i}.{key}": shape for i in range(12) for key, shape in layer.items()},
    }


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_half_precision_becomes_float32(write, dtype):
    tensors = golden("ced_encoder.weights_original")
    half = {k: v.astype(dtype) if v.dtype == np.float32 else v for k, v in tensors.items()}
    got = load(write(half))
    rounded = {k: v.astype(np.float32) if v.dtype == dtype else v for k, v in half.items()}
    expected = load(write(rounded | {k: v for k, v in tensors.items() if "front_end" in k}))
    jax.tree.map(np.testing.assert_array_equal, got, expected)
    assert got["params"]["norm"]["bias"].dtype == np.float32


def test_every_problem_is_listed_with_its_shape(write):
    tensors = golden("ced_encoder.weights_original")
    del tensors["norm.bias"], tensors["blocks.0.norm1.bias"], tensors["blocks.1.norm1.bias"]
    tensors["cls_token"] = np.zeros([1, 1, 48], np.float32)
    tensors["patch_embed.proj.bias"] = np.zeros([47], np.float32)
    tensors["norm.weight"] = np.zeros([48], np.int32)
    with pytest.raises(ConfigError) as error:
        load(write(tensors))
    message = str(error.value)
    assert "3 missing: " in message
    assert "norm.bias (48,)" in message
    assert "blocks.0-1.norm1.bias (48,)" in message
    assert "1 unexpected: cls_token (1, 1, 48)" in message
    assert "1 of another shape: patch_embed.proj.bias (47,) instead of (48,)" in message
    assert "1 not of floating point: norm.weight I32" in message
    assert "\n" not in message


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_one_key_too_few_is_noticed_in_every_layout(layout, write):
    shapes = shapes_of(MODEL_OF_TOWER[layout.tower])
    tensors = to_layout(layout, jax.tree.map(lambda x: np.ones(x.shape, np.float32), shapes))
    for key in list(tensors)[:: len(tensors) // 4]:
        rest = {name: value for name, value in tensors.items() if name != key}
        with pytest.raises(ConfigError, match="1 missing: "):
            match(write(rest), shapes, layout.tower, LAYOUTS)


def test_another_size_says_which_config_fits(write):
    shapes = shapes_of(CED(**SIZES["tiny"]))
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, np.float32), shapes)
    path = write(to_layout(CED_HUGGINGFACE, zeros))
    fits = r"The file is of audio.dim=192, audio.heads=3, audio.depth=12$"
    with pytest.raises(ConfigError, match=fits):
        match(path, shapes_of(CED(**SIZES["base"])), "audio", LAYOUTS)


def test_another_depth_and_vocabulary_say_which_config_fits():
    path = GOLDEN / "sonar_encoder.weights_hf.safetensors"
    fits = "text.dim=64, text.depth=2, text.ffn_dim=128, text.vocab_size=311$"
    with pytest.raises(ConfigError, match=fits) as error:
        load(path, SONAR_MODEL.clone(depth=4), "text")
    assert "layers.2-3.fc1.weight (128, 64)" in str(error.value)
    with pytest.raises(ConfigError, match=r"embed_tokens.weight \(320, 64\) instead of \(99, 64\)"):
        load(path, SONAR_MODEL.clone(vocab_size=99), "text")


def test_a_file_of_the_other_tower_is_named():
    path = GOLDEN / "sonar_encoder.weights_hf.safetensors"
    with pytest.raises(ConfigError, match=r"holds a text encoder .*an audio encoder was expected"):
        load(path)


def test_an_unknown_file_names_the_nearest_layout(write):
    tensors = {f"model.{k}": v for k, v in golden("ced_encoder.weights_hf").items()}
    with pytest.raises(ConfigError, match=r"none of the known layouts .*the nearest is .* 0%"):
        load(write(tensors))
    few = golden("ced_encoder.weights_hf")
    few = {key: few[key] for key in list(few)[:9]}
    with pytest.raises(ConfigError, match="the nearest is CED, Hugging Face names, of which"):
        load(write(few))


@pytest.mark.parametrize("key", ["spectrogram.window", "mel_scale.fb"])
def test_another_front_end_is_refused(write, key):
    key = f"front_end.0.{key}"
    tensors = golden("ced_encoder.weights_original")
    tensors[key] = tensors[key] + np.float32(2e-4)
    with pytest.raises(ConfigError, match=f"another front end .*{key} differs by 0.0002"):
        load(write(tensors))
    tensors[key] = tensors[key][:-1].copy()
    with pytest.raises(ConfigError, match=f"{key} has shape"):
        load(write(tensors))


def test_our_front_end_is_that_of_the_published_file():
    tensors = golden("ced_encoder.weights_original")
    window, filters = (tensors[f"front_end.0.{k}"] for k in ("spectrogram.window", "mel_scale.fb"))
    np.testing.assert_allclose(hann_window(), window, atol=1e-6)
    np.testing.assert_allclose(mel_filterbank(), filters, atol=1e-5)


def test_values_that_are_not_finite_are_refused(write):
    tensors = golden("ced_encoder.weights_original")
    tensors["norm.bias"][3] = np.nan
    with pytest.raises(ConfigError, match=r"norm.bias are not finite"):
        load(write(tensors))


@pytest.mark.parametrize(("frames", "positions"), [(512, 32), (2024, 126)])
def test_positions_of_another_length(frames, positions):
    """Shorter: the first. Longer: linear in the middle of the new cells, as PyTorch's bilinear."""
    model = CED_MODEL.clone(target_length=frames)
    path = GOLDEN / "ced_encoder.weights_hf.safetensors"
    got = load(path, model)["params"]["time_pos_embed"]
    table = load(path)["params"]["time_pos_embed"].astype(np.float64)
    expected = table[:positions]
    if positions > 63:
        place = (np.arange(positions) + 0.5) * 63 / positions - 0.5
        columns = [np.interp(place, np.arange(63), column) for column in table.T]
        expected = np.stack(columns, axis=1)
    assert got.shape == (positions, 48)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-7)
    np.testing.assert_array_equal(got, resize_positions(np.float32(table), positions))


def test_towers_match_alone_and_within_ml_clap(write):
    dual = load(write(ml_clap_tensors()), DUAL_MODEL, "dual")
    audio = load(GOLDEN / "ced_encoder.weights_hf.safetensors")
    text = load(GOLDEN / "sonar_encoder.weights_hf.safetensors", SONAR_MODEL, "text")
    jax.tree.map(np.testing.assert_array_equal, dual["params"]["audio"], audio["params"])
    jax.tree.map(np.testing.assert_array_equal, dual["params"]["text"], text["params"])
    jax.tree.map(np.testing.assert_array_equal, dual["batch_stats"]["audio"], audio["batch_stats"])
