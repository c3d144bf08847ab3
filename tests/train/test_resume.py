"""Real processes, killed or stopped and continued, end as if nothing had happened."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from supclap_jax import config as configs
from supclap_jax.runs.checkpoints import Checkpoints
from supclap_jax.runs.mesh import make_mesh
from supclap_jax.runs.states import abstract_states
from supclap_jax.train.loop import stop_signals
from tests.cli.test_main import TINY, lines

STEPS = 60


def start(data, workdir, workers=1):
    arguments = [
        sys.executable, "-m", "supclap_jax.cli", "train", f"--config={TINY}",
        f"--workdir={workdir}", f"--config.data.path={data}", f"--config.total_steps={STEPS}",
        "--config.checkpoint_every=5", "--config.eval_every=20", "--config.keep_last=2",
        f"--config.data.workers={workers}",
    ]  # fmt: skip
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(arguments, start_new_session=True, **pipe)


def finish(process):
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return output


def wait_for_step(process, workdir, step):
    metrics = workdir / "metrics.jsonl"
    deadline = time.monotonic() + 240
    while not (metrics.is_file() and f'"step": {step},' in metrics.read_text()):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "the run does not get on"
        time.sleep(0.02)


def wait_for_checkpoint(process, workdir):
    """Checkpoints are written while training goes on: without a whole one it would start anew."""
    while not any(path.name.isdigit() for path in (workdir / "checkpoints").iterdir()):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.005)


def final_states(workdir):
    config = configs.load(workdir / "config.json")
    checkpoints = Checkpoints(workdir, config.keep_last)
    states = checkpoints.restore(STEPS, abstract_states(config, make_mesh(1, config.batch_size)))
    checkpoints.close()
    return jax.device_get(states)


@pytest.fixture(scope="module")
def undisturbed(soundscape, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("undisturbed") / "run"
    finish(start(soundscape, workdir))
    return workdir


def wait_until_gone(group):
    """No process of the group is left, decoding workers included."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    raise AssertionError("processes outlive their run")


def assert_same_run(workdir, undisturbed):
    jax.tree.map(np.testing.assert_array_equal, final_states(workdir), final_states(undisturbed))
    timing = {"steps_per_second", "clips_per_second", "step_seconds", "step_seconds_max"}
    timing |= {"data_wait", "useful_seconds", "goodput"}

    def logged(folder):
        return [{k: v for k, v in line.items() if k not in timing} for line in lines(folder)]

    assert logged(workdir) == logged(undisturbed)
    mine, theirs = (
        json.loads((folder / "evaluation.json").read_text()) for folder in (workdir, undisturbed)
    )
    assert mine == theirs


@pytest.mark.parametrize("workers", [1, 2], ids=["same workers", "other workers"])
def test_killed_and_continued_is_undisturbed_bit_for_bit(
    soundscape, tmp_path, undisturbed, workers
):
    workdir = tmp_path / "run"
    process = start(soundscape, workdir)
    step = random.randrange(6, STEPS // 2)
    print(f"killed after step {step}")
    wait_for_step(process, workdir, step)
    wait_for_checkpoint(process, workdir)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    wait_until_gone(process.pid)
    output = finish(start(soundscape, workdir, workers))
    assert "Continuing after step" in output
    assert_same_run(workdir, undisturbed)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_makes_a_checkpoint_and_stops(soundscape, tmp_path, undisturbed, number):
    workdir = tmp_path / "run"
    process = start(soundscape, workdir)
    wait_for_step(process, workdir, 7)
    os.killpg(process.pid, number)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 128 + number, output
    wait_until_gone(process.pid)
    assert f"{number.name}: stopped after step" in output
    assert "Traceback" not in output
    stopped = int(output.split("stopped after step ")[1].split(";")[0])
    assert (workdir / "checkpoints" / str(stopped)).is_dir()
    output = finish(start(soundscape, workdir))
    assert f"Continuing after step {stopped} of {STEPS}." in output
    assert_same_run(workdir, undisturbed)


def test_a_signal_stops_the_step_that_asks_after_it():
    with stop_signals() as stop:
        before = stop(1)
        signal.raise_signal(signal.SIGTERM)
        assert not before
        assert stop(2) == signal.SIGTERM
