"""Two processes: the same run as one, and what happens when one of them is stopped or killed."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from supclap_jax.errors import Disconnected
from supclap_jax.runs.run import Run
from supclap_jax.train.loop import train

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
STEPS, EVERY = 20, 4
OPTIONS = {"total_steps": STEPS, "eval_every": STEPS, "checkpoint_every": EVERY, "mesh.data": -1}
SECONDS = 600  # against a hang


class Launch:
    """A run of two processes with two devices each, by the launch script."""

    def __init__(self, soundscape, workdir):
        recipe = ["train", f"--config={ROOT}/tests/tiny.py:info_nce", f"--workdir={workdir}"]
        options = OPTIONS | {"data.path": soundscape}
        self.workdir = workdir
        self.process = subprocess.Popen(
            ["bash", f"{ROOT}/launch/local.sh", "2", *recipe]
            + [f"--config.{key}={value}" for key, value in options.items()],
            env=os.environ | {"JAX_NUM_CPU_DEVICES": "2"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def signal_second(self, number, after_step):
        """Sends a signal to the second process alone, after that step and between checkpoints."""
        deadline = time.monotonic() + SECONDS
        while (step := max(losses(self.workdir), default=0)) < after_step or step % EVERY != 2:
            assert time.monotonic() < deadline and self.process.poll() is None
            time.sleep(0.05)
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        _, second = map(int, children.read_text().split())
        os.kill(second, number)

    def wait(self):
        """Exit code and all that was printed."""
        output, _ = self.process.communicate(timeout=SECONDS)
        return self.process.returncode, output


def losses(workdir):
    """Step -> loss, of the whole lines so far; a step that stands there twice is an error."""
    path = workdir / "metrics.jsonl"
    text = path.read_text() if path.is_file() else ""
    found = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
    pairs = [(line["step"], line["loss"]) for line in found if "loss" in line]
    assert len(pairs) == len(dict(pairs))
    return dict(pairs)


def states(workdir, step):
    return jax.device_get(Run(workdir).restore(step)[1])


@pytest.fixture(scope="module")
def undisturbed(soundscape, tmp_path_factory):
    run = Launch(soundscape, tmp_path_factory.mktemp("two") / "run")
    code, output = run.wait()
    assert code == 0, output
    return run.workdir


def test_two_processes_are_one(undisturbed, config, tmp_path):
    """Two of two devices and one of eight; dropout is on, so even the order of rows counts."""
    assert config.text.dropout
    config.update_from_flattened_dict(OPTIONS)
    train(config, tmp_path)
    alone = losses(tmp_path)
    assert list(alone) == list(range(1, STEPS + 1))
    assert losses(undisturbed) == pytest.approx(alone, rel=1e-5)
    assert json.loads((undisturbed / "evaluation.json").read_text())["clips"] == 8


def test_stopped_and_killed_it_ends_as_undisturbed(soundscape, undisturbed, tmp_path):
    """SIGTERM for one process stops all at one step; SIGKILL of one ends the other.

    What is left continues bit for bit.
    """
    workdir = tmp_path / "run"
    run = Launch(soundscape, workdir)
    run.signal_second(signal.SIGTERM, after_step=4)
    code, output = run.wait()
    assert code == 128 + signal.SIGTERM, output
    stopped = max(losses(workdir))
    assert f"stopped after step {stopped};" in output
    assert (workdir / "checkpoints" / str(stopped)).is_dir()

    run = Launch(soundscape, workdir)
    run.signal_second(signal.SIGKILL, after_step=stopped + 5)
    code, output = run.wait()
    assert code == Disconnected.exit_code, output
    assert "process 0 of 2 lost the others" in output
    assert "Traceback" not in output

    code, output = Launch(soundscape, workdir).wait()
    assert code == 0, output
    assert losses(workdir) == losses(undisturbed)
    jax.tree.map(np.testing.assert_array_equal, states(workdir, STEPS), states(undisturbed, STEPS))


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({}, "coordinator_address should be defined"),
        ({"JAX_COORDINATOR_ADDRESS": "127.0.0.1:9", "JAX_NUM_PROCESSES": "two"}, "'two'"),
    ],
)
def test_what_names_no_processes_is_refused(variables, message):
    command = [sys.executable, "-m", "supclap_jax.cli", "evaluate", "--workdir=x", "--distributed"]
    result = subprocess.run(
        command, env=os.environ | variables, capture_output=True, text=True, timeout=SECONDS
    )
    assert result.returncode == 2, result.stderr
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("fault", ["other caption", "no file"])
def test_processes_with_other_data_end_with_one_line_each(fault, soundscape, tmp_path):
    """Neither hangs, neither trains; both say which process and which split."""
    other = shutil.copytree(soundscape, tmp_path / "other")
    if fault == "no file":
        (other / "validation" / "validation_00001.wav").unlink()
    else:
        path = other / "clotho_captions_validation.csv"
        text = path.read_text()
        path.write_text(text.replace(" a ", " one ", 1))
        assert path.read_text() != text
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    processes = []
    for number, data in enumerate((soundscape, other)):
        command = [sys.executable, "-m", "supclap_jax.cli", "train", "--distributed"]
        command += [f"--config={ROOT}/tests/tiny.py:info_nce", f"--workdir={tmp_path / 'run'}"]
        command += [f"--config.data.path={data}", "--config.mesh.data=-1"]
        variables = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2"}
        variables |= {"JAX_PROCESS_ID": str(number), "JAX_NUM_CPU_DEVICES": "1"}
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        processes.append(subprocess.Popen(command, env=os.environ | variables, **streams))
    for number, process in enumerate(processes):
        _, errors = process.communicate(timeout=SECONDS)
        lines = [line for line in errors.splitlines() if line.startswith("supclap: ")]
        assert process.returncode == 2, errors
        assert len(lines) == 1 and "Traceback" not in errors
        if fault == "other caption":
            assert "the validation clips of process 1 are not those of process 0" in lines[0]
        else:
            assert "validation_00001.wav" in lines[0]
            assert ("process 1 of 2 cannot begin" in lines[0]) == (number == 0)
    assert not (tmp_path / "run").exists()
