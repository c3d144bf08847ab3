"""Killed while it writes, damaged files, a full disk: nothing that was saved is lost."""

import os
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from supclap_jax.cli.main import main
from supclap_jax.errors import ConfigError
from supclap_jax.runs.checkpoints import SUMS, open_run
from supclap_jax.train.loop import train
from supclap_jax.runs.mesh import make_mesh
from supclap_jax.runs.states import abstract_states
from tests import tiny

STEPS = 6  # with a checkpoint at every second


@pytest.fixture(scope="module")
def recipe(soundscape):
    config = tiny.get_config("info_nce")
    config.data.path = str(soundscape)
    config.eval_every = STEPS
    return config.lock()


@pytest.fixture(scope="module")
def finished(recipe, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("finished") / "run"
    train(recipe, workdir)
    return workdir


def final_states(workdir):
    config, checkpoints, step = open_run(workdir, STEPS)
    states = checkpoints.restore(step, abstract_states(config, make_mesh(1, 1)))
    checkpoints.close()
    return jax.device_get(states)


def assert_same_end(workdir, other):
    jax.tree.map(np.testing.assert_array_equal, final_states(workdir), final_states(other))


def largest_file(step):
    return max((path for path in step.rglob("*") if path.is_file()), key=lambda p: p.stat().st_size)


def cut(step):
    path = largest_file(step)
    path.write_bytes(path.read_bytes()[:-1000])
    return "bytes"


def change(step):
    """One bit, which Orbax by itself does not notice."""
    path = largest_file(step)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    return "has changed"


def lose(step):
    (step / "default" / "manifest.ocdbt").unlink()
    return "manifest.ocdbt is missing"


def cut_metrics(step):
    (step / "metrics" / "metrics").write_text("{")
    return "metrics/metrics has 1 of"


def cut_without_list(step):
    """As a kill may leave it."""
    (step / SUMS).unlink()
    path = step / "default" / "_METADATA"
    path.write_bytes(path.read_bytes()[:100])
    return None


@pytest.mark.parametrize("damage", [cut, change, lose, cut_metrics, cut_without_list])
def test_a_damaged_checkpoint_is_reported_and_the_one_before_used(
    recipe, finished, tmp_path, capsys, damage
):
    workdir = tmp_path / "run"
    shutil.copytree(finished, workdir)
    newest = workdir / "checkpoints" / str(STEPS)
    problem = damage(newest)
    if problem:
        with pytest.raises(ConfigError, match=rf"{newest} is damaged: .*{problem}"):
            final_states(workdir)
    train(recipe, workdir)
    printed = capsys.readouterr().out
    assert f"Checkpoint {STEPS} is damaged and left out" in printed
    assert f"Continuing after step {STEPS - 2}" in printed
    assert_same_end(workdir, finished)


def test_with_all_damaged_it_does_not_begin_again(recipe, finished, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(finished, workdir)
    for step in (workdir / "checkpoints").iterdir():
        change(step)
    for _ in range(2):
        with pytest.raises(ConfigError, match=r"all checkpoints of .* are damaged"):
            train(recipe, workdir)


def test_killed_while_it_writes_a_checkpoint(recipe, finished, tmp_path):
    workdir = tmp_path / "run"
    command = [sys.executable, "-m", "supclap_jax.cli", "train", f"--workdir={workdir}"]
    command += ["--config=tests/tiny.py:info_nce", f"--config.data.path={recipe.data.path}"]
    programs = tmp_path / "programs"
    command += [f"--config.eval_every={STEPS}", f"--config.compilation_cache={programs}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    folder, unfinished = workdir / "checkpoints", []
    deadline = time.monotonic() + 120
    while not unfinished:
        assert time.monotonic() < deadline and process.poll() is None
        names = os.listdir(folder) if folder.is_dir() else []
        unfinished = [name for name in names if "tmp" in name and not name.startswith("2.")]
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert any("tmp" in name for name in os.listdir(folder))
    assert any(programs.iterdir())
    train(recipe, workdir)
    assert_same_end(workdir, finished)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 2 MB; `resize` makes it larger."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    result = subprocess.run(mount, capture_output=True, text=True)
    if result.returncode:
        pytest.skip(f"no file system can be mounted here: {result.stderr}")

    def resize(size):
        subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)

    yield disk, resize
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk_stops_with_one_line_and_loses_nothing(recipe, finished, small_disk, capsys):
    disk, resize = small_disk
    command = ["train", "--config=tests/tiny.py:info_nce", f"--workdir={disk / 'run'}"]
    command += [f"--config.data.path={recipe.data.path}", f"--config.eval_every={STEPS}"]
    assert main(command) == 6
    printed = capsys.readouterr().err
    assert "make room and start again" in printed
    assert len(printed.splitlines()) == 1
    before = {path.name for path in (disk / "run" / "checkpoints").iterdir()}
    assert before
    assert str(STEPS) not in before
    resize("64m")
    assert main(command) == 0
    assert f"Continuing after step {max(before)}" in capsys.readouterr().out
    assert_same_end(disk / "run", finished)


def test_every_checkpoint_has_its_sums(finished):
    assert all((step / SUMS).is_file() for step in (finished / "checkpoints").iterdir())
