"""Encoders of a user's own, named in the config: trained, resumed, sharded, planned, exported."""

import importlib.util
import shutil

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from supclap_jax.errors import ConfigError
from supclap_jax.inference.weights_export import export_weights
from supclap_jax.planning.flops import train_step_flops
from supclap_jax.planning.planner import plan
from supclap_jax.runs import mesh as meshes
from supclap_jax.runs.mesh import make_mesh, mesh_of
from supclap_jax.runs.metrics import read_metrics
from supclap_jax.runs.run import Run
from supclap_jax.runs.states import init_states
from supclap_jax.train.loop import train
from supclap_jax.train.step import make_train_step
from tests import tiny
from tests.models.user_encoders import HOP

pytestmark = pytest.mark.slow

STEPS = 4


def make_config(data):
    """Two microbatches for four groups of two devices."""
    config = tiny.get_config("info_nce")
    config.audio.update(encoder="tests.models.user_encoders:Conv", dim=24, depth=12, heads=12)
    config.text.update(encoder="tests.models.user_encoders:BagOfTokens", depth=24, heads=16)
    config.text.update(ffn_dim=8192)
    config.data.path = str(data)
    config.total_steps = config.eval_every = STEPS
    config.batch_size, config.microbatch_size = 16, 8
    config.mesh.update(data=4, fsdp=2)
    return config


@pytest.fixture
def config(soundscape):
    return make_config(soundscape)


@pytest.fixture(autouse=True, scope="module")
def divide_small_arrays_too():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(meshes, "MIN_SHARDED", 1)
        yield


@pytest.fixture(scope="module")
def run(soundscape, tmp_path_factory):
    """The folder of a run over eight devices."""
    workdir = tmp_path_factory.mktemp("user_encoders") / "run"
    train(make_config(soundscape), workdir)
    return workdir


def states_of(workdir, config):
    mesh = mesh_of(config)
    return Run(workdir).restore(STEPS, mesh)[1]


def test_it_trains_divided_over_devices_and_in_parts_as_whole(run, config, tmp_path):
    kernel = states_of(run, config).dual.params["audio"]["Conv_0"]["kernel"]
    assert kernel.sharding.shard_shape(kernel.shape) == (3, HOP, 12)
    config.microbatch_size = None
    config.mesh.update(data=1, fsdp=1)
    train(config, tmp_path / "alone")
    divided, alone = (
        [line["loss"] for line in read_metrics(folder) if "loss" in line]
        for folder in (run, tmp_path / "alone")
    )
    assert len(alone) == STEPS
    np.testing.assert_allclose(divided, alone, rtol=1e-5)


def test_it_resumes_bit_for_bit(run, config, tmp_path):
    resumed = shutil.copytree(run, tmp_path / "resumed")
    shutil.rmtree(resumed / "checkpoints" / str(STEPS))
    train(config, resumed)
    jax.tree.map(np.testing.assert_array_equal, states_of(resumed, config), states_of(run, config))


def test_its_weights_are_exported_and_read_under_their_own_names(run, config, tmp_path):
    export_weights(run, tmp_path, STEPS, "original")
    weights = load_file(tmp_path / "audio.safetensors")
    assert weights.keys() == {"params.Conv_0.kernel", "params.Conv_0.bias"}
    config.audio.pretrained = str(tmp_path / "audio.safetensors")
    config.text.pretrained = str(tmp_path / "text.safetensors")
    config.text.tokenizer = str(run / "tokenizer.model")
    begun, trained = init_states(config, make_mesh(4, 16, 2)), states_of(run, config)
    for tower in ("audio", "text"):
        params = begun.dual.params[tower], trained.dual.params[tower]
        jax.tree.map(np.testing.assert_array_equal, *params)
    with pytest.raises(ConfigError, match="--names=ml-clap is of ML-CLAP's encoders"):
        export_weights(run, tmp_path / "other", STEPS, "ml-clap")


def test_xla_counts_its_operations(config):
    """Four forward passes of a convolution, but for biases and means."""
    windows = 16_000 // HOP - 2
    counted = train_step_flops(config)
    products = 2 * config.batch_size * windows * 3 * HOP * config.audio.dim
    assert counted["audio encoder"] == pytest.approx(4 * products, rel=0.01)


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed")
def test_it_is_planned(config):
    config.mesh.update(data=2, fsdp=2)
    planned = plan(config, "v5e:2x2")
    assert planned["memory"]["total"] > 0
    assert planned["flops"]["audio encoder"] > 0


def test_a_batch_norm_needs_pooling_in_microbatches(config):
    config.audio.encoder = "tests.models.user_encoders:NormedConv"
    mesh = make_mesh(4, config.batch_size, 2)
    with pytest.raises(ConfigError, match=r"audio\.encoder .*NormedConv' has a batch norm"):
        make_train_step(config, mesh)
    config.microbatch_size = None
    make_train_step(config, mesh)
