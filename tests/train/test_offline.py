"""Radii predicted from a frozen model's similarities: what the predictor sees, and the command."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from supclap_jax.cli.main import main
from supclap_jax.data.batches import training_batches
from supclap_jax.data.opening import load_training
from supclap_jax.data.reference_embeddings import (
    FILE,
    check_reference,
    open_reference,
    write_reference,
)
from supclap_jax.data.text import label_caption
from supclap_jax.errors import DataError
from supclap_jax.inference.embedder import Embedder
from supclap_jax.inference.model import find_model
from supclap_jax.inference.reference_embedder import embed_reference
from supclap_jax.losses import supclap
from supclap_jax.models.dual_encoder import make_model
from supclap_jax.runs.mesh import batch_sharding, make_mesh
from supclap_jax.runs.run import Run
from supclap_jax.train.step import make_loss
from tests import tiny
from tests.data import published
from tests.data.preparing import prepared

pytestmark = pytest.mark.slow

OFFLINE = ["--config.loss.svr.similarity=offline", "--config.total_steps=2"]


@pytest.fixture(scope="module")
def reference(soundscape, tmp_path_factory):
    """A run of one step, and what it says of the training data."""
    folder = tmp_path_factory.mktemp("offline")
    data = [f"--config.data.path={soundscape}", "--config.data.languages=('fra_Latn','eng_Latn')"]
    run = ["train", f"--config={tiny.PATH}:info_nce", f"--workdir={folder / 'run'}", *data]
    assert main([*run, "--config.total_steps=1"]) == 0
    embed = ["embed-reference", f"--model={folder / 'run'}", f"--config={tiny.PATH}:dynamic"]
    assert main([*embed, f"--out={folder / 'reference'}", *data]) == 0
    return folder


@pytest.mark.parametrize("features", ["row", "summary"])
@pytest.mark.parametrize("devices", [1, 8])
def test_radii_are_those_of_the_given_similarities(features, devices):
    """As `supclap` with radii that plain numpy makes of the reference's similarities."""
    config = tiny.get_config("dynamic")
    config.loss.svr.features = features
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((4, 8, 6)).astype(np.float32)
    audio, text, *reference = rows / np.linalg.norm(rows, axis=-1, keepdims=True)
    scale, width = 9.0, 8
    kernels = {
        side: [
            (rng.standard_normal(shape).astype(np.float32), rng.standard_normal(shape[1]))
            for shape in ((width, 64), (64, 64), (64, 1))
        ]
        for side in ("audio", "text")
    }
    params = {
        f"predictors_{side}": {
            f"layers_{place}": {"kernel": kernel * 0.1, "bias": bias.astype(np.float32) * 0.1}
            for place, (kernel, bias) in zip((0, 2, 4), layers, strict=True)
        }
        for side, layers in kernels.items()
    }
    logits = scale * reference[0].astype(np.float64) @ reference[1].astype(np.float64).T

    def row_of(matrix, i):
        others = np.delete(matrix[i], i)
        if features == "row":
            return np.concatenate([[matrix[i, i]], others])
        top = np.sort(others)[::-1][:4]
        mean_exp = np.log(np.mean(np.exp(others)))
        return np.array([matrix[i, i], *top, mean_exp, others.mean(), others.std()])

    radii = {}
    for side, matrix in (("audio", logits), ("text", logits.T)):
        x = np.stack([row_of(matrix, i) for i in range(8)])
        for place, (kernel, bias) in enumerate(kernels[side]):
            x = x @ (kernel.astype(np.float64) * 0.1) + bias * 0.1
            x = np.maximum(x, 0) if place < 2 else x
        radii[f"{side}_radius"] = jnp.asarray(x[:, 0], jnp.float32)

    config.mesh.data = devices
    mesh = make_mesh(devices, config.batch_size)
    loss = make_loss(config, mesh)

    def ours(audio, text):
        ids = jnp.arange(8)
        value, (metrics, _) = loss(
            audio, text, scale, None, ids, params, reference=tuple(map(jnp.asarray, reference))
        )
        return value, metrics

    def plain(audio, text):
        return supclap(audio, text, scale, ids=jnp.arange(8), beta=0.01, **radii)

    (mine, metrics), gradient = jax.value_and_grad(ours, (0, 1), has_aux=True)(audio, text)
    (theirs, expected), other = jax.value_and_grad(plain, (0, 1), has_aux=True)(audio, text)
    assert mine == pytest.approx(float(theirs), rel=1e-5)
    assert float(expected["radius/text_std"]) > 0.01
    for name in ("radius/text_mean", "radius/audio_std", "contraction/text"):
        assert metrics[name] == pytest.approx(float(expected[name]), rel=1e-4)
    np.testing.assert_allclose(gradient, other, rtol=1e-4, atol=1e-5)


def test_batches_carry_the_embeddings_of_their_own_clips_and_captions(reference, soundscape):
    run = Run(reference / "run")
    config = run.config.copy_and_resolve_references()
    config.loss.svr.update(radius="dynamic", similarity="offline")
    config.loss.svr.reference = str(reference / "reference")
    clips, opened = load_training(config), open_reference(config.loss.svr.reference)
    assert opened.first.shape == (28, 2) and len(opened.text) == 28 * 5 * 2
    batches = training_batches(clips, run.tokenizer, config)
    seen = set()
    for batch in (next(batches) for _ in range(3)):
        for row, clip in enumerate(batch["group_ids"]):
            np.testing.assert_array_equal(
                batch["reference_audio"][row], opened.audio[clip].astype(np.float32)
            )
            candidates = {
                tuple(run.tokenizer.encode(text, language, config.text.max_tokens)): (column, i)
                for column, language in enumerate(opened.languages)
                for i, text in enumerate(clips.captions[language][clip])
            }
            column, i = candidates[tuple(batch["tokens"][row])]
            expected = opened.text[opened.first[clip, column] + i].astype(np.float32)
            np.testing.assert_array_equal(batch["reference_text"][row], expected)
            seen.add(column)
    assert seen == {0, 1}


def test_the_embeddings_are_those_of_the_model(reference, soundscape):
    """Unit rows in float16; of one clip and caption, what the run's own embedder gives."""
    opened = open_reference(str(reference / "reference"))
    model, mesh = find_model(reference / "run"), make_mesh(1, 8)
    variables = model.variables(mesh)
    embedder = Embedder(
        make_model(model.config), model.tokenizer, model.config, batch_sharding(mesh)
    )
    clips = load_training(model.config).select([7])
    np.testing.assert_allclose(embedder.audio(variables, clips)[0], opened.audio[7], atol=1e-3)
    for column, language in enumerate(opened.languages):
        text = embedder.text(variables, clips.captions[language][0], language)
        first = opened.first[7, column]
        np.testing.assert_allclose(text, opened.text[first : first + 5], atol=1e-3)
    facts = json.loads((reference / "reference" / FILE).read_text())
    assert facts["model"] == str(reference / "run") and facts["step"] == 1


def test_clips_with_labels_alone_are_embedded_by_the_caption_of_these(reference, tmp_path):
    """Though none of them has a caption in a language that is trained on."""
    for name in ("audioset", "clotho"):
        prepared(name, published.make(name, tmp_path / f"{name}_source"), tmp_path / name)
    config = tiny.get_config("dynamic")
    config.data.update(path=str(tmp_path), evaluation="clotho")
    config.data.mixture = ConfigDict({"audioset": 1.0, "clotho": 1.0})
    config.data.languages = ("fra_Latn", "eng_Latn")
    model, mesh = find_model(reference / "run"), make_mesh(1, 8)
    embed_reference(model, config, tmp_path / "reference")
    config.loss.svr.similarity = "offline"
    config.loss.svr.reference = str(tmp_path / "reference")
    clips = load_training(config)
    check_reference(config.loss.svr.reference, clips, config.data.languages)
    embedder = Embedder(
        make_model(model.config), model.tokenizer, model.config, batch_sharding(mesh)
    )
    variables, labelled = model.variables(mesh), 0
    batches = training_batches(clips, model.tokenizer, config)
    for batch in (next(batches) for _ in range(2)):
        for row, clip in enumerate(batch["group_ids"]):
            if not clips[clip].captions:
                caption = [label_caption(clips[clip].labels)]
                text = embedder.text(variables, caption, "eng_Latn")[0]
                np.testing.assert_allclose(batch["reference_text"][row], text, atol=1e-3)
                labelled += 1
    assert labelled >= 4

    found = open_reference(config.loss.svr.reference)
    facts = json.loads((tmp_path / "reference" / FILE).read_text())
    first = np.where(found.first == found.first[0], -1, found.first)  # the first clip has none
    write_reference(tmp_path / "without", found.audio, found.text, first, facts)
    with pytest.raises(DataError, match="its arrays do not fit together"):
        open_reference(str(tmp_path / "without"))


def test_offline_training_runs_with_what_it_began_with(reference, soundscape, tmp_path, capsys):
    data = [f"--config.data.path={soundscape}", "--config.data.languages=('fra_Latn','eng_Latn')"]
    folder = shutil.copytree(reference / "reference", tmp_path / "reference")
    data += [*OFFLINE, f"--config.loss.svr.reference={folder}"]
    train = ["train", f"--config={tiny.PATH}:dynamic", f"--workdir={tmp_path / 'run'}"]
    assert main([*train, *data]) == 0
    steps = [line for line in Run(tmp_path / "run").metrics() if "loss" in line]
    assert [line["step"] for line in steps] == [1, 2]
    assert steps[0]["radius/text_mean"] == pytest.approx(0.1, abs=1e-3)
    assert np.isfinite(steps[1]["loss"])
    begun = json.loads((tmp_path / "run" / "data.json").read_text())
    assert begun["reference embeddings"] == open_reference(str(folder)).digest

    audio, text, first = (np.load(folder / f"{name}.npy") for name in ("audio", "text", "first"))
    write_reference(folder, -audio, text, first, json.loads((folder / FILE).read_text()))
    open_reference.cache_clear()  # of this process
    assert main([*train, *data]) == 2
    assert "reference embeddings are not those that the run" in capsys.readouterr().err


def test_what_does_not_fit_is_one_line(reference, soundscape, tmp_path, capsys):
    train = ["train", f"--config={tiny.PATH}:dynamic", f"--workdir={tmp_path / 'run'}", *OFFLINE]
    train += [f"--config.data.path={soundscape}"]
    here = f"--config.loss.svr.reference={reference / 'reference'}"
    damaged = tmp_path / "damaged"
    ones = np.ones((28, 4))
    facts = {"languages": ["x"], "asked": ["x"], "clips": ""}
    write_reference(damaged, ones, ones, np.full((27, 1), 3), facts)
    other = shutil.copytree(reference / "reference", tmp_path / "other")
    np.save(other / "audio.npy", np.load(other / "audio.npy")[::-1])
    for options, message in (
        ([], "loss.svr.reference is not set"),
        ([f"--config.loss.svr.reference={tmp_path}"], "holds no reference embeddings"),
        ([f"--config.loss.svr.reference={damaged}"], "its arrays do not fit together"),
        ([here], "are of other clips or captions"),  # asked for in French, too
        ([f"--config.loss.svr.reference={other}"], "are not as they were written"),
        ([here, "--config.loss.block_size=4"], "loss.block_size = 4 does not go with"),
        ([here, "--config.data.mixup=0.5"], "data.mixup = 0.5 does not go with"),
    ):
        assert main([*train, *options]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line
    assert not (tmp_path / "run").exists()
    embed = ["embed-reference", f"--model={reference / 'run'}", f"--config={tiny.PATH}"]
    assert main([*embed, f"--out={reference}", f"--config.data.path={soundscape}"]) == 2
    assert "is not an empty folder" in capsys.readouterr().err
