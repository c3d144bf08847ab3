"""A run that starts from the weights of another, through files under published names."""

import shutil

import jax
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from supclap_jax.cli.main import main
from supclap_jax.config import load, to_json
from supclap_jax.errors import ConfigError
from supclap_jax.models.dual_encoder import make_model
from supclap_jax.runs.checkpoints import Checkpoints
from supclap_jax.runs.initial_weights import check_weights
from supclap_jax.runs.mesh import make_mesh, replicated
from supclap_jax.runs.run import Run
from supclap_jax.runs.states import abstract_states, init_states, variables_of
from tests import tiny

pytestmark = pytest.mark.slow

STEP = 2


@pytest.fixture(scope="module")
def run(soundscape, tmp_path_factory):
    """A trained run of the tiny recipe."""
    workdir = tmp_path_factory.mktemp("first") / "run"
    data = f"--config.data.path={soundscape}"
    short = ["--config.total_steps=2", "--config.eval_every=2"]
    assert (
        main(["train", f"--config={tiny.PATH}:siglip", f"--workdir={workdir}", data, *short]) == 0
    )
    return workdir


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    """Its weights, in a folder for each kind of names."""
    folder = tmp_path_factory.mktemp("weights")
    command = ["export-weights", f"--workdir={run}", f"--step={STEP}"]
    for names in ("original", "huggingface", "ml-clap"):
        assert main([*command, f"--out={folder / names}", f"--names={names}"]) == 0
    return folder


def state_of(workdir, step):
    run = Run(workdir)
    return run.config, run.restore(step)[1].dual


def config_of(run, **changes):
    """That run's config with its tokenizer, and other fields changed."""
    config = load(run / "config.json").copy_and_resolve_references()
    config.unlock()
    config.text.tokenizer = str(run / "tokenizer.model")
    config.update_from_flattened_dict({k.replace("__", "."): v for k, v in changes.items()})
    return config


def assert_equal(got, expected):
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(got), jax.device_get(expected))


def test_training_starts_from_the_exported_dual_encoder(run, exported, soundscape, tmp_path):
    """The warm-up's first step has a learning rate of zero: its checkpoint holds the beginning."""
    workdir = tmp_path / "second"
    arguments = [f"--config={tiny.PATH}:siglip", f"--workdir={workdir}", "--config.seed=7"]
    arguments += [f"--config.data.path={soundscape}", "--config.total_steps=1"]
    arguments += [f"--config.pretrained={exported / 'ml-clap' / 'dual.safetensors'}"]
    arguments += [f"--config.text.tokenizer={run / 'tokenizer.model'}"]
    assert main(["train", *arguments]) == 0
    assert (workdir / "tokenizer.model").read_bytes() == (run / "tokenizer.model").read_bytes()

    config, first = state_of(run, STEP)
    _, second = state_of(workdir, 1)
    assert_equal(second.params, first.params)
    begun = init_states(load(workdir / "config.json"), make_mesh(1, 8)).dual
    assert_equal(variables_of(begun, config), variables_of(first, config))
    waveform = np.random.default_rng(0).normal(size=(2, 16_000)).astype(np.float32)
    tokens = np.array([[301, 9, 8, 2], [302, 7, 2, 1]], np.int32)
    embed = jax.jit(make_model(config).apply)
    got, expected = (
        embed(variables_of(state, config), waveform, tokens) for state in (begun, first)
    )
    assert_equal(got, expected)


def test_a_run_goes_on_without_its_weights(run, exported, soundscape, tmp_path):
    weights = shutil.copytree(exported / "original", tmp_path / "weights")
    arguments = [f"--config={tiny.PATH}:siglip", f"--workdir={tmp_path / 'run'}"]
    arguments += [f"--config.data.path={soundscape}", "--config.total_steps=1"]
    arguments += [f"--config.audio.pretrained={weights / 'audio.safetensors'}"]
    assert main(["train", *arguments]) == 0
    shutil.rmtree(weights)
    assert main(["train", *arguments]) == 0


@pytest.mark.parametrize("names", ["original", "huggingface"])
def test_towers_start_from_exported_towers(run, exported, names, capsys):
    config = config_of(
        run,
        audio__pretrained=str(exported / names / "audio.safetensors"),
        text__pretrained=str(exported / names / "text.safetensors"),
        seed=5,
        ema_decay=0.9,
    )
    got = init_states(config, make_mesh(8, 8)).dual
    _, first = state_of(run, STEP)
    for tower in ("audio", "text"):
        assert_equal(got.params[tower], first.params[tower])
    assert_equal(got.batch_stats, first.batch_stats)
    assert_equal(got.ema, got.params)
    kernel = got.params["text"]["blocks"]["fc1"]["kernel"]
    assert kernel.sharding.is_equivalent_to(replicated(make_mesh(8, 8)), kernel.ndim)
    other = init_states(config_of(run, seed=5), make_mesh(1, 8)).dual
    assert_equal(got.params["audio_projection"], other.params["audio_projection"])
    printed = capsys.readouterr().out
    assert "outputlayer.* (the tagging head)" in printed
    assert "non-commercial use only (CC-BY-NC 4.0)" in printed


def test_what_a_file_says_of_itself(exported):
    with safe_open(exported / "original" / "audio.safetensors", "numpy") as file:
        metadata = file.metadata()
    assert metadata["producer"] == "supclap_jax"
    assert metadata["step"] == str(STEP)
    assert metadata["audio.heads"] == "2"


def test_another_number_of_heads_is_refused(run, exported):
    path = str(exported / "original" / "audio.safetensors")
    config = config_of(run, audio__pretrained=path, audio__heads=4)
    with pytest.raises(ConfigError, match=r"audio.heads is 4, .* of a model with 2"):
        check_weights(config, abstract_states(config, make_mesh(1, 8)).dual)


def test_a_fixed_temperature_is_exported(run, tmp_path):
    config = config_of(run, temperature__learned=False, temperature__initial=0.05)
    workdir, out = tmp_path / "run", tmp_path / "weights.safetensors"
    workdir.mkdir()
    (workdir / "config.json").write_text(to_json(config))
    checkpoints = Checkpoints(workdir, keep_last=1)
    checkpoints.save(init_states(config, make_mesh(1, 8)), 1)
    checkpoints.close()
    command = ["export-weights", f"--workdir={workdir}", f"--out={out}", "--names=ml-clap"]
    assert main(command) == 0
    assert load_file(out)["temperature"] == np.float32(0.05)
    assert {path.name for path in tmp_path.iterdir()} == {"run", out.name}


def test_bad_exports_are_one_line(run, exported, tmp_path, capsys):
    command = ["export-weights", f"--workdir={run}"]
    before = (exported / "original" / "audio.safetensors").read_bytes()
    for arguments, message in [
        ([f"--out={exported / 'original'}"], "audio.safetensors exists already"),
        ([f"--out={tmp_path / 'x.safetensors'}"], "writes two files; give a folder"),
        ([f"--out={tmp_path}", "--step=9"], "no checkpoint of step 9; there are 2"),
        ([f"--out={tmp_path}", f"--workdir={tmp_path}"], "holds no run"),
    ]:
        capsys.readouterr()
        assert main([*command, *arguments]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    assert (exported / "original" / "audio.safetensors").read_bytes() == before
    assert list(tmp_path.iterdir()) == []


def test_bad_weights_are_one_line_before_anything_is_written(
    run, exported, soundscape, tmp_path, capsys
):
    tokenizer = f"--config.text.tokenizer={run / 'tokenizer.model'}"
    dual = f"--config.pretrained={exported / 'ml-clap' / 'dual.safetensors'}"
    audio = exported / "original" / "audio.safetensors"
    tensors = load_file(audio)
    save_file({**tensors, "norm.bias": tensors["norm.bias"][:9]}, tmp_path / "bad.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(audio.read_bytes()[:-4])
    for overrides, message in [
        ([dual], "text.tokenizer is not"),
        ([dual, tokenizer, f"--config.audio.pretrained={audio}"], "leave one of them empty"),
        ([dual, tokenizer, "--config.text.vocab_size=9"], "pieces, but text.vocab_size is 9"),
        ([dual, tokenizer, "--config.text.vocab_size=301"], "text.vocab_size=300"),
        ([f"--config.text.tokenizer={audio}"], "is not a sentencepiece model"),
        (["--config.audio.pretrained=model.pt"], "weights_only=True"),
        ([f"--config.audio.pretrained={tmp_path / 'bad.safetensors'}"], "norm.bias (9,) instead"),
        ([f"--config.audio.pretrained={tmp_path / 'cut.safetensors'}"], "not a whole safetensors"),
        ([f"--config.audio.pretrained={audio}", "--config.audio.dim=64"], "audio.dim=32"),
        (["--config.audio.pretrained=nowhere.safetensors"], "there is no file"),
    ]:
        capsys.readouterr()
        arguments = [f"--config={tiny.PATH}:siglip", f"--workdir={tmp_path / 'run'}"]
        assert main(["train", *arguments, f"--config.data.path={soundscape}", *overrides]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
        assert not (tmp_path / "run").exists()
