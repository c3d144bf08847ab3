"""Embeddings of whole data sets: the same in any company, any batch size, on any devices."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest
import soundfile

from supclap_jax.data.clips import Clips
from supclap_jax.data.clotho import read_clotho
from supclap_jax.data.text import Tokenizer, train_tokenizer
from supclap_jax.evaluate.scoring import validate
from supclap_jax.inference.embedder import Embedder
from supclap_jax.models.dual_encoder import make_model
from supclap_jax.runs.mesh import batch_sharding, make_mesh
from supclap_jax.runs.states import init_states


@pytest.fixture(scope="module")
def clips(soundscape):
    return read_clotho(Path(soundscape), "development", ("eng_Latn", "zho_Hans"))


@pytest.fixture
def embedder(config, clips):
    def build(batch_size=8, devices=1):
        config.evaluate.batch_size = batch_size
        captions = [text for row in clips.captions["eng_Latn"] for text in row]
        tokenizer = Tokenizer(train_tokenizer(captions, 300), 300)
        return Embedder(
            make_model(config), tokenizer, config, batch_sharding(make_mesh(devices, 8))
        )

    return build


@pytest.fixture
def variables(config):
    state = init_states(config, make_mesh(1, 8)).dual
    return jax.device_get({"params": state.params, "batch_stats": state.batch_stats})


def test_the_same_clip_has_the_same_embedding_in_any_company(embedder, variables, clips):
    embed = embedder().audio
    whole = embed(variables, clips)
    order = np.random.default_rng(0).permutation(len(clips))
    np.testing.assert_array_equal(embed(variables, clips.select(order)), whole[order])
    np.testing.assert_array_equal(embed(variables, clips.select([5])), whole[[5]])
    captions = clips.captions["eng_Latn"][3]
    text = embedder().text(variables, captions, "eng_Latn")
    alone = embedder().text(variables, captions[4:], "eng_Latn")
    np.testing.assert_array_equal(text[4:], alone)


@pytest.mark.parametrize(("batch_size", "devices"), [(5, 1), (28, 1), (6, 8)])
def test_batch_size_and_devices_change_nothing_to_speak_of(
    embedder, variables, clips, batch_size, devices
):
    whole = embedder().audio(variables, clips)
    other = embedder(batch_size, devices).audio(variables, clips)
    np.testing.assert_allclose(other, whole, atol=1e-5)


def test_entropy_depends_on_no_batch_size_and_no_devices(embedder, variables, clips, config):
    expected = validate(embedder(), variables, clips)
    config.batch_size = 16  # of training
    found = validate(embedder(batch_size=6, devices=8), variables, clips)
    for direction in ("text_to_audio", "audio_to_text"):
        assert found[direction]["entropy"] == pytest.approx(
            expected[direction]["entropy"], abs=1e-5
        )


def test_windows_are_those_cut_by_hand(embedder, variables, config, tmp_path):
    """A clip of 3.3 windows is the mean of four that cover it; one that fits is as cropped."""
    rate, seconds = 16_000, config.audio.seconds
    rng = np.random.default_rng(0)
    lengths = (0.5, 1.0, 3.3)
    sounds = [rng.uniform(-0.5, 0.5, round(rate * seconds * length)) for length in lengths]
    size = round(rate * seconds)
    last = len(sounds[2]) - size
    starts = (0, (last + 1) // 3, 2 * (last + 1) // 3, last)
    cut = [sounds[2][start : start + size] for start in starts]
    files = [tmp_path / f"{number}.wav" for number in range(7)]
    for path, samples in zip(files, (*sounds, *cut), strict=True):
        soundfile.write(path, samples, rate, "FLOAT")
    durations = tuple(seconds * length for length in (*lengths, 1.0, 1.0, 1.0, 1.0))
    whole = Clips(tuple(files), {}, ((),) * 7, seconds=durations)
    crops = embedder().audio(variables, whole)
    config.evaluate.long_audio = "windows"
    windows = embedder().audio(variables, whole)
    np.testing.assert_array_equal(windows[[0, 1, 3, 4, 5, 6]], crops[[0, 1, 3, 4, 5, 6]])
    mean = crops[3:].astype(np.float64).mean(axis=0)
    np.testing.assert_allclose(windows[2], mean / np.linalg.norm(mean), atol=2e-6)
    assert np.abs(windows[2] - crops[2]).max() > 1e-4
    with pytest.raises(ValueError, match="lengths of all clips"):
        embedder().audio(variables, dataclasses.replace(whole, seconds=()))
