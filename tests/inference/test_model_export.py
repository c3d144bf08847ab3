"""A model in a folder of its own: the same vectors, from weights and from programs."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import sentencepiece
import yaml
from huggingface_hub.file_download import repo_folder_name

from supclap_jax.errors import ConfigError, RunError
from supclap_jax.inference import load
from supclap_jax.inference import towers as towers_module
from supclap_jax.inference.model_card import model_card
from supclap_jax.inference.model_export import export

RATE = 16_000
TEXTS = ["a dog barks", "heavy rain"]
RUN_AGAIN = """
import sys, jax, numpy as np
given = dict(np.load("given.npz"))
for name, inputs in (("audio", ("waveform", "lengths")), ("text", ("tokens",))):
    program = jax.export.deserialize(open(name + ".stablehlo", "rb").read())
    assert program.platforms == ("cpu", "cuda", "tpu")
    np.save(name + ".npy", program.call(*(given[key] for key in inputs)))
assert not any(module.startswith("supclap") for module in sys.modules)
"""


@pytest.fixture(scope="module")
def model(untrained):
    return load(untrained, step=0)


@pytest.fixture(scope="module")
def given(model):
    """Noise, shorter noise, a tone, a click and silence, as a program takes them; two sentences."""
    samples = round(model.seconds * RATE)
    lengths = np.array([samples, 5_000, samples, samples, samples], np.int32)
    waveform = np.zeros((5, samples), np.float32)
    waveform[:2] = np.random.default_rng(0).uniform(-0.5, 0.5, (2, samples))
    waveform[2] = 0.5 * np.sin(2 * np.pi * 1_000 * np.arange(samples) / RATE)
    waveform[3, samples // 2] = 1
    waveform[np.arange(samples) >= lengths[:, None]] = 0
    tokens = [model.tokenizer.encode(text, "eng_Latn", 24) for text in TEXTS]
    return {"waveform": waveform, "lengths": lengths, "tokens": np.stack(tokens)}


@pytest.fixture(scope="module")
def expected(model, given):
    sounds = [row[:n] for row, n in zip(given["waveform"], given["lengths"], strict=True)]
    return {"audio": model.encode_audio(sounds), "text": model.encode_text(TEXTS)}


def test_weights_are_the_same_model(model, untrained, expected, tmp_path):
    out = tmp_path / "exported"
    export(untrained, out, step=0)
    again = load(out)
    assert again.space == model.space == json.loads((out / "export.json").read_text())["space"]
    np.testing.assert_array_equal(again.encode_text(TEXTS), expected["text"])
    assert (out / "model.safetensors").stat().st_mode & 0o044 == 0o044
    assert sorted(path.name for path in tmp_path.iterdir()) == ["exported"]
    export(out, tmp_path / "of_export")
    assert load(tmp_path / "of_export").space == model.space
    with pytest.raises(ConfigError, match="not an empty folder"):
        export(untrained, out, step=0)


def test_the_card_is_what_hubs_read(untrained, model, tmp_path):
    export(untrained, tmp_path / "out", step=0)
    _, head, body = (tmp_path / "out" / "README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(head)["library_name"] == "supclap_jax"
    assert model.space in body and "load(" in body


def test_a_model_of_the_hub(untrained, model, tmp_path, monkeypatch):
    """Out of the cache that the hub's own library keeps."""
    cache = tmp_path / repo_folder_name(repo_id="someone/clap", repo_type="model")
    (cache / "refs").mkdir(parents=True)
    (cache / "snapshots").mkdir()
    (cache / "refs" / "main").write_text("0" * 40)
    export(untrained, cache / "snapshots" / ("0" * 40), step=0)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert load("hf://someone/clap").space == model.space


def test_stablehlo_runs_from_the_file_alone(untrained, given, expected, tmp_path):
    out = tmp_path / "programs"
    export(untrained, out, step=0, kind="stablehlo")
    np.savez(out / "given.npz", **given)
    subprocess.run([sys.executable, "-c", RUN_AGAIN], cwd=out, check=True)
    for tower, embedded in expected.items():
        np.testing.assert_allclose(np.load(out / f"{tower}.npy"), embedded, atol=1e-6)
    with pytest.raises(RunError, match="programs for other runtimes"):
        load(out)


def test_onnx_runs_in_its_own_runtime(untrained, given, expected, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("jax2onnx")
    out = tmp_path / "programs"
    export(untrained, out, step=0, kind="onnx")
    for tower, inputs in (("audio", ("waveform", "lengths")), ("text", ("tokens",))):
        session = runtime.InferenceSession(out / f"{tower}.onnx")
        (found,) = session.run(None, {name: given[name] for name in inputs})
        np.testing.assert_allclose(found, expected[tower], atol=1e-4)
        assert session.get_modelmeta().custom_metadata_map == {
            "space": json.loads((out / "export.json").read_text())["space"]
        }


def test_what_cannot_be_written_leaves_nothing(untrained, tmp_path, monkeypatch):
    monkeypatch.setattr(towers_module, "LARGEST", 1_000)
    with pytest.raises(ConfigError, match=r"the audio encoder has 0\.0 GiB of weights"):
        export(untrained, tmp_path / "programs", step=0, kind="stablehlo")
    monkeypatch.setitem(sys.modules, "jax2onnx", None)
    with pytest.raises(ConfigError, match=r"needs jax2onnx and onnxruntime .*pip install"):
        export(untrained, tmp_path / "programs", step=0, kind="onnx")
    assert not any(tmp_path.iterdir())
    (tmp_path / "programs" / ".killed.part").mkdir(parents=True)
    monkeypatch.undo()
    export(untrained, tmp_path / "programs", step=0)
    assert not list(tmp_path.rglob(".*"))


def test_a_reader_of_the_card_makes_the_same_tokens(model):
    """By sentencepiece alone, from what the card says."""
    card = model_card(model, "onnx", {"eng_Latn": 301}, None)
    shown = re.search(r'So "(.*)" in eng_Latn is ([\d, ]+), filled up', card)
    pieces = sentencepiece.SentencePieceProcessor(model_proto=model.tokenizer.serialized)
    text = " ".join(re.sub(r"[^\w\s]", " ", shown[1].lower()).split())
    ids = [piece + 1 if piece != pieces.unk_id() else 3 for piece in pieces.encode(text)]
    assert [int(token) for token in shown[2].split(", ")] == [301, *ids[:22], 2]
    assert "eng_Latn 301" in card
