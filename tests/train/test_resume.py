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

from supclap_jax.runs.metrics import read_metrics
from supclap_jax.runs.processes import stop_signals
from supclap_jax.runs.run import Run
from tests import tiny

pytestmark = pytest.mark.slow

STEPS = 40


def start(data, workdir, programs, workers=1):
    arguments = [
        sys.executable, "-m", "supclap_jax.cli", "train", f"--config={tiny.PATH}",
        f"--workdir={workdir}", f"--config.data.path={data}", f"--config.total_steps={STEPS}",
        "--config.checkpoint_every=5", "--config.eval_every=20", "--config.keep_last=2",
        f"--config.data.workers={workers}", f"--config.compilation_cache={programs}",
    ]  # fmt: skip
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(arguments, start_new_session=True, **pipe)


def finish(process):
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    return output


def wait_for_steps(process, workdir, starts, steps):
    """Until the run has been started so many times, and has made so many steps since."""
    run, deadline = Run(workdir), time.monotonic() + 600
    while True:
        begun = [line["step"] for line in run.history if line["event"] == "start"]
        done = max((line["step"] for line in run.metrics()), default=0)
        if len(begun) == starts and done >= begun[-1] + steps:
            return
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "the run does not get on"
        time.sleep(0.02)


def wait_for_checkpoint(process, workdir):
    """Checkpoints are written while training goes on: without a whole one it would start anew."""
    while not any(path.name.isdigit() for path in (workdir / "checkpoints").iterdir()):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.005)


def final_states(workdir):
    return jax.device_get(Run(workdir).restore(STEPS)[1])


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """The folder in which these runs keep their compiled programs."""
    return tmp_path_factory.mktemp("programs")


@pytest.fixture(scope="module")
def undisturbed(soundscape, tmp_path_factory, programs):
    workdir = tmp_path_factory.mktemp("undisturbed") / "run"
    finish(start(soundscape, workdir, programs))
    assert any(programs.iterdir())
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
        return [{k: v for k, v in line.items() if k not in timing} for line in read_metrics(folder)]

    assert logged(workdir) == logged(undisturbed)
    mine, theirs = (
        json.loads((folder / "evaluation.json").read_text()) for folder in (workdir, undisturbed)
    )
    assert mine.pop("made_by")["config"] == theirs.pop("made_by")["config"]
    assert mine == theirs


def test_killed_stopped_and_continued_is_undisturbed_bit_for_bit(
    soundscape, tmp_path, undisturbed, programs
):
    """SIGKILL at a random step; then, with other workers, SIGINT; then the end."""
    workdir = tmp_path / "run"
    process = start(soundscape, workdir, programs)
    steps = random.randrange(6, STEPS // 3)
    print(f"killed after step {steps}")
    wait_for_steps(process, workdir, 1, steps)
    wait_for_checkpoint(process, workdir)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    wait_until_gone(process.pid)

    process = start(soundscape, workdir, programs, workers=2)
    wait_for_steps(process, workdir, 2, 7)
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 128 + signal.SIGINT, output
    wait_until_gone(process.pid)
    assert "Continuing after step " in output
    assert "SIGINT: stopped after step" in output
    assert "Traceback" not in output
    stopped = int(output.split("stopped after step ")[1].split(";")[0])
    assert (workdir / "checkpoints" / str(stopped)).is_dir()

    output = finish(start(soundscape, workdir, programs))
    assert f"Continuing after step {stopped} of {STEPS}." in output
    assert_same_run(workdir, undisturbed)


def test_ctrl_c_while_the_step_is_compiled(soundscape, tmp_path):
    """Into the midst of XLA's threads: the documented code, and nothing is left behind."""
    process = start(soundscape, tmp_path / "run", tmp_path / "programs", workers=2)
    deadline = time.monotonic() + 600
    while not Run(tmp_path / "run").history:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(1)
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 128 + signal.SIGINT, output
    assert "Traceback" not in output and "leaked" not in output
    wait_until_gone(process.pid)


def test_a_signal_stops_the_step_that_asks_after_it():
    with stop_signals() as stop:
        before = stop(1)
        signal.raise_signal(signal.SIGTERM)
        assert not before
        assert stop(2) == signal.SIGTERM
