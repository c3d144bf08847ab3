"""Branches: a trunk and a cooldown are one run, bit for bit; what does not fit is refused."""

from pathlib import Path

import jax
import numpy as np
import pytest

from supclap_jax.data.clotho import read_clotho
from supclap_jax.data.splits import CLOTHO
from supclap_jax.errors import ConfigError, DataError, RunError
from supclap_jax.runs.branch import check_branch
from supclap_jax.runs.run import Run
from supclap_jax.train.loop import train
from supclap_jax.train.progress import Progress
from tests import tiny

pytestmark = pytest.mark.slow

TIMING = {"steps_per_second", "clips_per_second", "step_seconds", "step_seconds_max"}
TIMING |= {"data_wait", "useful_seconds", "goodput"}


def make_config(data, **values):
    """Two optimizers with states, an average, dropout, and a cooldown from step 4 of 6 on."""
    config = tiny.get_config("static")
    config.data.path = str(data)
    config.ema_decay = 0.9
    config.eval_every = config.total_steps
    config.radius_optimizer.warmup_steps = 3
    config.optimizer.update(schedule="wsd", decay_steps=2)
    config.update_from_flattened_dict(values)
    return config.lock()


@pytest.fixture(scope="module")
def trunk(soundscape, tmp_path_factory):
    """A run at a constant rate, to step 8, with checkpoints at 2, 4, 6 and 8."""
    workdir = tmp_path_factory.mktemp("trunk") / "run"
    config = make_config(soundscape, total_steps=8)
    config.optimizer.update(schedule="constant", decay_steps=2_000)
    train(config, workdir)
    return workdir


@pytest.fixture
def config(soundscape, trunk):
    """Of a branch from step 4."""
    return make_config(soundscape, **{"branch.run": str(trunk), "branch.step": 4})


@pytest.fixture
def clips_of_split(soundscape):
    return {
        split: read_clotho(Path(soundscape), name, ("eng_Latn",)) for split, name in CLOTHO.items()
    }


def interrupt(_):
    raise KeyboardInterrupt


def states(workdir, step):
    return jax.device_get(Run(workdir).restore(step)[1])


def logged(workdir):
    lines = Run(workdir).metrics()
    return [{k: v for k, v in line.items() if k not in TIMING} for line in lines]


def test_a_trunk_and_a_cooldown_are_one_run_bit_for_bit(config, soundscape, trunk, tmp_path):
    """The branch is stopped before its first step, and goes on without its trunk."""
    whole, branch = tmp_path / "whole", tmp_path / "branch"
    train(make_config(soundscape), whole)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Progress, "waiting_for_data", interrupt)
        train(config, branch)
    for name in ("data.json", "tokenizer.model"):
        assert (branch / name).read_bytes() == (trunk / name).read_bytes()

    away = trunk.rename(tmp_path / "away")
    train(config, branch)
    away.rename(trunk)
    jax.tree.map(np.testing.assert_array_equal, states(branch, 6), states(whole, 6))
    assert logged(branch) == [line for line in logged(whole) if line["step"] > 4]
    assert Run(branch).find_step() == 6


def test_a_refused_branch_leaves_no_folder(config, tmp_path):
    config.seed = 1
    with pytest.raises(ConfigError, match="cannot differ from it in seed; set them as in"):
        train(config, tmp_path / "branch")
    assert not (tmp_path / "branch").exists()


@pytest.mark.parametrize(
    ("values", "keys"),
    [
        ({"batch_size": 4, "seed": 5}, "batch_size, seed"),
        ({"audio.depth": 2, "text.dim": 64}, "audio.depth, text.dim"),
        ({"optimizer.learning_rate": 1.0}, "optimizer.learning_rate"),
        ({"radius_optimizer.warmup_steps": 2}, "radius_optimizer.warmup_steps"),
        ({"ema_decay": 0.5}, "ema_decay"),
        ({"data.gain_db": 1.0}, "data.gain_db"),
    ],
)
def test_another_model_or_training_is_refused(config, clips_of_split, values, keys):
    config.update_from_flattened_dict(values)
    with pytest.raises(ConfigError, match=f"cannot differ from it in {keys}; ") as error:
        check_branch(config, clips_of_split)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("values", "keys"),
    [
        ({"branch.step": 6}, "optimizer.decay_steps, optimizer.schedule, total_steps"),
        ({"optimizer.schedule": "cosine", "total_steps": 8}, "optimizer.schedule"),
    ],
)
def test_another_learning_rate_up_to_the_branch_is_refused(config, clips_of_split, values, keys):
    """A step of the cooldown lies before step 6; and a cosine falls from the start."""
    config.optimizer.decay_steps = 2_000 if "total_steps" in values else 2
    config.update_from_flattened_dict(values)
    with pytest.raises(ConfigError, match=f"^{keys} give the steps up to branch.step"):
        check_branch(config, clips_of_split)


def test_a_branch_may_have_another_length_and_other_devices(config, clips_of_split):
    config.update(total_steps=20, keep_last=1)
    config.mesh.data = -1
    config.optimizer.update(schedule="constant", decay_steps=2_000)
    check_branch(config, clips_of_split)


def test_other_clips_are_refused(config, clips_of_split):
    fewer = clips_of_split | {"train": clips_of_split["train"].select(range(27))}
    with pytest.raises(DataError, match=r"train clips or .* began with \(28 clips then, 27 now"):
        check_branch(config, fewer)


def test_no_trunk_and_no_checkpoint_are_said(config, clips_of_split, tmp_path):
    config.branch.step = 3
    with pytest.raises(RunError, match="holds no checkpoint of step 3; there are 2, 4, 6, 8"):
        check_branch(config, clips_of_split)
    config.branch.run = str(tmp_path)
    with pytest.raises(RunError, match=f"{tmp_path} holds no run"):
        check_branch(config, clips_of_split)
