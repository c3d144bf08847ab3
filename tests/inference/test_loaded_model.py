"""One vector a sound and a sentence: in any company, from a file, its bytes or its samples."""

import io
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
import soundfile

from supclap_jax.data.clotho import read_clotho
from supclap_jax.errors import ConfigError, DataError, RunError
from supclap_jax.inference import load
from supclap_jax.inference.embedder import Embedder
from supclap_jax.inference.model_export import export
from supclap_jax.models.dual_encoder import make_model
from supclap_jax.runs.mesh import batch_sharding, make_mesh

RATE = 16_000
CLOSE = {"atol": 1e-5, "rtol": 0}


@pytest.fixture(scope="module")
def model(untrained):
    return load(untrained, step=0)


def noise(seconds, seed=0, channels=None):
    shape = (round(RATE * seconds), channels) if channels else round(RATE * seconds)
    return np.random.default_rng(seed).uniform(-0.5, 0.5, shape).astype(np.float32)


def test_one_vector_a_sound_in_any_company(model, tmp_path):
    """Of 0.05 to 3.3 s, as files, bytes and samples, alone and together, in any order."""
    sounds = [noise(seconds, seed) for seed, seconds in enumerate((0.05, 0.3, 0.7, 1.0, 3.3))]
    alone = np.concatenate([model.encode_audio([sound]) for sound in sounds])
    np.testing.assert_allclose(np.linalg.norm(alone, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(model.encode_audio(sounds), alone, **CLOSE)
    np.testing.assert_allclose(model.encode_audio(sounds[::-1]), alone[::-1], **CLOSE)
    paths = [tmp_path / f"{place}.wav" for place in range(len(sounds))]
    for path, sound in zip(paths, sounds, strict=True):
        soundfile.write(path, sound, RATE, "FLOAT")
    mixture = [str(paths[0]), paths[1], paths[2].read_bytes(), *paths[3:]]
    np.testing.assert_allclose(model.encode_audio(mixture), alone, **CLOSE)
    eight = [np.repeat(sound[:, None], 8, axis=1) for sound in sounds]
    np.testing.assert_allclose(model.encode_audio(eight), alone, **CLOSE)
    assert model.encode_audio([]).shape == (0, model.dim)


def test_another_rate_is_resampled(model, tmp_path):
    time = np.arange(44_100) / 44_100
    tone = 0.3 * np.sin(2 * np.pi * 440 * time).astype(np.float32)
    same = 0.3 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE).astype(np.float32)
    soundfile.write(tmp_path / "tone.wav", tone, 44_100, "FLOAT")
    found = model.encode_audio([tmp_path / "tone.wav"])
    np.testing.assert_allclose(model.encode_audio([tone], rate=44_100), found, **CLOSE)
    np.testing.assert_allclose(model.encode_audio([same]), found, atol=1e-2)


def test_a_long_sound_is_the_mean_of_its_windows(model, tmp_path):
    sound, size = noise(3.3), RATE
    last = len(sound) - size
    starts = [0, (last + 1) // 3, 2 * (last + 1) // 3, last]
    windows = model.encode_audio([sound[start : start + size] for start in starts])
    mean = windows.astype(np.float64).mean(axis=0)
    np.testing.assert_allclose(model.encode_audio([sound])[0], mean / np.linalg.norm(mean), **CLOSE)


def test_evaluation_finds_the_same(model, untrained, soundscape):
    """Whose batches have one shape, and whose clips are padded."""
    clips = read_clotho(Path(soundscape), "evaluation", ("eng_Latn",))
    mesh = make_mesh(1, 8)
    embedder = Embedder(
        make_model(model.config), model.tokenizer, model.config, batch_sharding(mesh)
    )
    heard = [soundfile.read(path, dtype="float32")[0][:RATE] for path in clips.paths]
    np.testing.assert_allclose(
        model.encode_audio(heard), embedder.audio(model.variables, clips), **CLOSE
    )
    texts = [text for of_clip in clips.captions["eng_Latn"] for text in of_clip]
    expected = embedder.text(model.variables, texts, "eng_Latn")
    with pytest.warns(UserWarning, match="longer than the model reads"):
        np.testing.assert_allclose(model.encode_text(texts), expected, **CLOSE)


def test_programs_are_compiled_for_few_shapes(untrained):
    """At most one for each power of two of the batch, and each half of a length."""
    model = load(untrained, step=0)
    rng = np.random.default_rng(0)
    for count in (1, 2, 3, 5, 6, 7, 8, 9, 13):
        model.encode_audio([noise(rng.uniform(0.1, 1)) for _ in range(count)])
        model.encode_text(["rain"] * count)
    rows, lengths = 4, 2  # 1, 2, 4, 8; 0.5 s, 1 s
    assert model._embedder._encode_audio._cache_size() <= rows * lengths
    assert model._embedder._encode_text._cache_size() <= rows


def test_sentences(model):
    texts = ["a dog barks", "rain", "a door closes and a child laughs"]
    together = model.encode_text(texts)
    alone = np.concatenate([model.encode_text([text]) for text in texts])
    np.testing.assert_allclose(together, alone, **CLOSE)
    with pytest.warns(UserWarning, match="was not trained on fra_Latn"):
        french = model.encode_text(texts, language="fra_Latn")
    assert np.abs(french - together).max() > 1e-3
    assert model.encode_text([]).shape == (0, model.dim)
    for bad, message in (
        *((text, "holds no words") for text in ("", "  ", "?!", "\udce9")),
        ("a" * 100_000, "has 100,000 letters"),
        (None, r"texts\[1\] is a NoneType; expected a str"),
    ):
        with pytest.raises(DataError, match=message):
            model.encode_text(["rain", bad])
    with pytest.raises(DataError, match="texts is one str; expected a list"):
        model.encode_text("rain")
    np.testing.assert_array_equal(
        model.encode_text(t for t in ["rain"]), model.encode_text(["rain"])
    )
    with pytest.raises(ConfigError, match="no token for 'tlh_Latn'"):
        model.encode_text(texts, language="tlh_Latn")


def test_classes_are_the_softmax_of_cosines(model):
    sounds, labels = [noise(1.0, seed) for seed in range(3)], ["dog_bark", "rain", "wind"]
    found = model.classify(sounds, labels)
    audio = model.encode_audio(sounds).astype(np.float64)
    text = model.encode_text([f"This is a sound of {name}." for name in ("dog bark", *labels[1:])])
    shares = np.exp(audio @ text.T / model.temperature)
    np.testing.assert_allclose(found, shares / shares.sum(axis=1, keepdims=True), atol=1e-4)
    assert model.temperature == pytest.approx(0.07)
    of_rows = model.classify(model.encode_audio(sounds), labels)
    np.testing.assert_allclose(of_rows, found, atol=1e-6)
    two = model.classify(sounds, labels, templates=("{}", "the noise of {}"))
    assert np.abs(two - found).max() > 1e-5
    for bad in ([], ["rain", "rain"], ["Rain.", "rain"], ["rain", "..."], "rain"):
        with pytest.raises(DataError, match=r"cannot be told apart|one str"):
            model.classify(sounds, bad)


def test_what_is_no_sound_is_named(model, tmp_path):
    good = tmp_path / "good.wav"
    soundfile.write(good, noise(1.0), RATE)
    cut = tmp_path / "cut.wav"
    cut.write_bytes(good.read_bytes()[:9_000])
    text = tmp_path / "text.wav"
    text.write_text("not a sound")
    opposite = noise(1.0)
    quiet = io.BytesIO()
    soundfile.write(quiet, np.zeros((RATE, 2)), RATE, format="WAV")
    assert model.encode_audio([quiet.getvalue()]).shape == (1, model.dim)
    for bad, reason in (
        (tmp_path / "none.wav", "there is no such file"),
        (tmp_path, "it is not a file"),
        (cut, "the file is truncated"),
        (text, "it cannot be decoded"),
        (np.stack([opposite, -opposite], axis=1), "its channels cancel each other"),
        (np.full(9_000, np.nan), "NaN"),
        (np.zeros((0,)), "no samples"),
        (b"", "the file is empty"),
    ):
        with pytest.raises(DataError, match=f"cannot be used: .*{reason}"):
            model.encode_audio([good, bad])


def test_models_are_told_apart_by_their_space(model, untrained, tmp_path):
    assert load(untrained, step=0, dtype="bfloat16").space == model.space
    other = jax.tree.map(lambda x: x + 1e-3, model.variables)
    changed = load(untrained, step=0)
    changed.variables = other
    assert changed.space != model.space
    with pytest.raises(ConfigError, match="dtype is 'int8'"):
        load(untrained, step=0, dtype="int8")
    with pytest.raises(RunError, match="neither a run nor"):
        load(tmp_path)


def test_bfloat16_is_close(model, untrained):
    narrow = load(untrained, step=0, dtype="bfloat16")
    sound = [noise(1.0)]
    assert (narrow.encode_audio(sound) * model.encode_audio(sound)).sum() > 0.99


def test_a_collapsed_model_is_warned_of(untrained):
    model = load(untrained, step=0)
    model.variables["params"]["text_projection"]["Dense_1"]["kernel"] *= 0
    model.variables["params"]["text_projection"]["Dense_1"]["bias"] += 1
    with pytest.warns(UserWarning, match="a cosine of 1.000"):
        model.warn_if_collapsed()


def test_a_run_with_the_fused_kernel_is_loaded_without_a_gpu(untrained, model, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(untrained, run)
    config = json.loads((run / "config.json").read_text())
    config |= {"attention": "cudnn", "compute_dtype": "bfloat16"}
    (run / "config.json").write_text(json.dumps(config))
    fused = load(run, step=0)
    np.testing.assert_array_equal(fused.encode_text(["rain"]), model.encode_text(["rain"]))


def test_samples_of_another_kind_are_the_same_or_refused(model):
    sound = np.round(noise(1.0) * 32_767).astype(np.int16)
    expected = model.encode_audio([sound.astype(np.float32) / 32_768])
    np.testing.assert_allclose(model.encode_audio([sound]), expected, **CLOSE)
    np.testing.assert_allclose(
        model.encode_audio([sound.astype(np.int32) << 16]), expected, **CLOSE
    )
    for bad, message in (
        (sound.astype(np.float32), "samples reach 1.6e"),
        (np.stack([noise(1.0)] * 2), r"samples are \[2, 16000\]; expected \[frames, channels\]"),
        (sound.astype(np.uint8), "samples are uint8"),
        (None, r"sounds\[0\] is a NoneType"),
        ([0.1, 0.2], r"sounds\[0\] is a list"),
    ):
        with pytest.raises(DataError, match=message):
            model.encode_audio([bad])
    for bad in ("dog.wav", noise(1.0), b"RIFF"):
        with pytest.raises(DataError, match="expected a list of sounds"):
            model.encode_audio(bad)


def test_damaged_weights_are_told(model, untrained, tmp_path):
    broken = load(untrained, step=0)
    broken.variables["params"]["text_projection"]["Dense_1"]["bias"] += np.nan
    with pytest.raises(RunError, match="gives NaN"):
        broken.encode_text(["rain"])
    out = tmp_path / "exported"
    export(untrained, out, step=0)
    weights = bytearray((out / "model.safetensors").read_bytes())
    weights[-5_000] ^= 1
    (out / "model.safetensors").write_bytes(weights)
    with pytest.raises(RunError, match="is damaged"):
        load(out)
