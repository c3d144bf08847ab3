"""Killed while it writes, damaged files, a full disk: nothing that was saved is lost."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from supclap_jax.cli.main import main
from supclap_jax.errors import RunError
from supclap_jax.runs.checkpoint_files import SUMS
from supclap_jax.runs.checkpoints import Checkpoints
from supclap_jax.runs.mesh import make_mesh
from supclap_jax.runs.metrics import read_metrics
from supclap_jax.runs.run import Run
from supclap_jax.runs.states import States, abstract_states
from supclap_jax.train.loop import train
from tests import tiny

pytestmark = pytest.mark.slow

STEPS = 6  # with a checkpoint at every second


def states_of(workdir, step=STEPS):
    return jax.device_get(Run(workdir).restore(step)[1])


def assert_equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.fixture
def workdir(finished, tmp_path):
    """The finished run, to be damaged."""
    return shutil.copytree(finished, tmp_path / "run")


def largest_file(step):
    return max((path for path in step.rglob("*") if path.is_file()), key=lambda p: p.stat().st_size)


def cut(step):
    path = largest_file(step)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return r"\d+ of \d+ bytes"


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


def other_sums(step):
    (step / SUMS).write_text("[]")
    return "sums.json holds no sums"


def strange_sums(step):
    (step / SUMS).write_text('{"default/_METADATA": 5}')
    return "sums.json holds no sums"


def without_sums(damage, problem):
    """As a kill may leave it."""

    def damage_unlisted(step):
        (step / SUMS).unlink()
        damage(step)
        return problem

    damage_unlisted.__name__ = f"{damage.__name__} without sums"
    return damage_unlisted


def empty(step):
    shutil.rmtree(step / "default")
    (step / "default").mkdir()


def cut_metadata(step):
    path = step / "default" / "_METADATA"
    path.write_bytes(path.read_bytes()[:100])


DAMAGES = [
    cut, change, lose, cut_metrics, other_sums, strange_sums,
    without_sums(cut, "OUT_OF_RANGE"), without_sums(lose, "NOT_FOUND"),
    without_sums(cut_metrics, "metrics/metrics is cut off"),
    without_sums(cut_metadata, "default/_METADATA is cut off"),
    without_sums(empty, "default/_METADATA is missing"),
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_checkpoint_is_put_away_and_the_one_before_used(
    recipe, finished, workdir, capsys, damage
):
    newest = workdir / "checkpoints" / str(STEPS)
    problem = damage(newest)
    with pytest.raises(RunError, match=rf"{newest} is damaged: .*{problem}"):
        states_of(workdir)
    with closing(Run(workdir).checkpoints(repair=True)) as checkpoints:
        abstract = abstract_states(recipe, make_mesh(1, recipe.batch_size))
        step, states = checkpoints.restore_newest(abstract)
    assert f"Checkpoint {STEPS} is damaged and left out" in capsys.readouterr().out
    assert step == STEPS - 2
    assert_equal(jax.device_get(states), states_of(finished, STEPS - 2))
    assert {path.name for path in (workdir / "checkpoints").iterdir()} == {"2", "4"}
    assert len(list((workdir / "damaged").iterdir())) == 1


def test_damage_of_another_checkpoint_is_none_of_the_one_that_is_read(finished, workdir):
    first, newest = (workdir / "checkpoints" / str(step) for step in (2, STEPS))
    lose(first)
    cut_metadata(first)
    assert_equal(states_of(workdir, STEPS), states_of(finished, STEPS))
    change(newest)
    with pytest.raises(RunError, match=f"{newest} is damaged"):
        states_of(workdir, STEPS)


def test_a_changed_recall_does_not_choose_another_checkpoint(workdir):
    """Of equal length, so that it reads as well as before; another step can still be asked for."""
    best = Run(workdir).find_step()
    metrics = workdir / "checkpoints" / str(best) / "metrics" / "metrics"
    text = metrics.read_text()
    metrics.write_text(
        text.replace(":", " ", 1) if "recall" not in text else text.replace("e", "f")
    )
    assert len(text) == metrics.stat().st_size and text != metrics.read_text()
    with pytest.raises(RunError, match=f"{best} is damaged: metrics/metrics has changed"):
        Run(workdir).find_step()
    other = next(step for step in (2, 4, STEPS) if step != best)
    assert Run(workdir).find_step(other) == other


def test_an_incomplete_checkpoint_leaves_the_others_to_choose_from(workdir, capsys):
    """An empty folder, or one whose metrics did not come along; and it is told."""
    best = Run(workdir).find_step()
    (workdir / "checkpoints" / "12").mkdir()
    assert Run(workdir).find_step() == best
    assert "Checkpoint 12 is damaged and left out" in capsys.readouterr().out
    (workdir / "checkpoints" / str(best) / "metrics" / "metrics").unlink()
    assert Run(workdir).find_step() in {2, 4, STEPS} - {best}
    assert f"Checkpoint {best} is damaged and left out" in capsys.readouterr().out


def test_what_cannot_be_read_at_all_is_no_damage(workdir):
    """Of the errors of a file system, the one that is to be had: the list of sums is a folder."""
    sums = workdir / "checkpoints" / str(STEPS) / SUMS
    sums.unlink()
    sums.mkdir()
    with pytest.raises(RunError, match=r"cannot be read: IsADirectoryError.* was left as it is"):
        Run(workdir).checkpoints(repair=True)
    assert sums.is_dir()
    assert not (workdir / "damaged").exists()


def test_training_goes_on_from_the_one_before_to_the_same_end(recipe, finished, workdir, capsys):
    change(workdir / "checkpoints" / str(STEPS))
    train(recipe, workdir)
    assert f"Continuing after step {STEPS - 2}" in capsys.readouterr().out
    assert_equal(states_of(workdir), states_of(finished))


def test_with_all_damaged_it_does_not_begin_again(recipe, workdir):
    for step in (workdir / "checkpoints").iterdir():
        change(step)
    for _ in range(2):
        with pytest.raises(RunError, match=r"all checkpoints of .* are damaged"):
            train(recipe, workdir)


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def small_states(width):
    return States(dual={"w": jnp.arange(6.0 * width).reshape(6, width)}, radius={})


@pytest.fixture(params=[True, False], ids=["with sums", "without sums"])
def small(request, tmp_path):
    """Checkpoints of small states after steps 1 and 2, the newest one with sums or without."""
    with closing(Checkpoints(tmp_path, keep_last=9)) as checkpoints:
        for step in (1, 2):
            checkpoints.save(small_states(4), step)
    if not request.param:
        (tmp_path / "checkpoints" / "2" / SUMS).unlink()
    return tmp_path


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (None, r"ValueError: Requested shape: \(6, 5\) is not compatible"),
        (OSError(errno.EIO, "Input/output error"), r"OSError: .* Input/output error"),
        (MemoryError("no room"), "MemoryError: no room"),
        (ValueError("UNKNOWN: Error reading: Input/output error"), "UNKNOWN: Error reading"),
    ],
    ids=["other shapes", "OSError", "MemoryError", "TensorStore"],
)
def test_what_is_not_damaged_stays_and_what_failed_is_said(small, monkeypatch, error, message):
    """Other shapes fail by themselves; no other error can be had at will."""
    before = contents(small)
    with closing(Checkpoints(small, keep_last=9, repair=True)) as checkpoints:
        if error:

            def fail(*_, **__):
                raise error

            monkeypatch.setattr(checkpoints._manager, "restore", fail)
        with pytest.raises(RunError, match=message) as raised:
            checkpoints.restore_newest(small_states(4 if error else 5))
    assert f"{small / 'checkpoints' / '2'} cannot be restored" in str(raised.value)
    assert str(raised.value).count("\n") == 0
    assert contents(small) == before


def test_killed_while_it_writes_a_checkpoint(recipe, finished, tmp_path):
    workdir = tmp_path / "run"
    command = [sys.executable, "-m", "supclap_jax.cli", "train", f"--workdir={workdir}"]
    command += [f"--config={tiny.PATH}:info_nce", f"--config.data.path={recipe.data.path}"]
    command += [f"--config.eval_every={STEPS}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    folder, unfinished = workdir / "checkpoints", []
    deadline = time.monotonic() + 600
    while not unfinished:
        assert time.monotonic() < deadline and process.poll() is None
        names = os.listdir(folder) if folder.is_dir() else []
        unfinished = [name for name in names if "tmp" in name and not name.startswith("2.")]
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert any("tmp" in name for name in os.listdir(folder))
    train(recipe, workdir)
    assert_equal(states_of(workdir), states_of(finished))


def test_a_full_disk_stops_with_one_line_and_loses_nothing(recipe, finished, small_disk, capsys):
    disk, resize = small_disk
    command = ["train", f"--config={tiny.PATH}:info_nce", f"--workdir={disk / 'run'}"]
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
    assert_equal(states_of(disk / "run"), states_of(finished))


def test_a_checkpoint_has_its_sums_as_soon_as_it_has_its_name(finished, tmp_path):
    assert all((step / SUMS).is_file() for step in (finished / "checkpoints").iterdir())
    with closing(Checkpoints(tmp_path, keep_last=9)) as checkpoints:
        checkpoints.save(small_states(4), 1)
        newest = tmp_path / "checkpoints" / "1"
        deadline = time.monotonic() + 60
        while not newest.is_dir():
            assert time.monotonic() < deadline
        assert (newest / SUMS).is_file()
    shutil.rmtree(newest / "default" / "d")
    with (
        closing(Checkpoints(tmp_path, keep_last=9)) as checkpoints,
        pytest.raises(RunError, match="1 is damaged: default/d/"),
    ):
        checkpoints.find(1)


def test_a_killed_data_worker_costs_no_step(recipe, tmp_path):
    """As for want of memory: a checkpoint of all that was trained, a line, a code to requeue on."""
    workdir = tmp_path / "run"
    command = [sys.executable, "-m", "supclap_jax.cli", "train", f"--workdir={workdir}"]
    command += [f"--config={tiny.PATH}:info_nce", f"--config.data.path={recipe.data.path}"]
    command += ["--config.data.workers=1", "--config.total_steps=100000"]
    command += ["--config.checkpoint_every=100000", "--config.eval_every=100000"]
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **streams) as process:
        deadline = time.monotonic() + 300
        while not read_metrics(workdir):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.1)
        threads = Path(f"/proc/{process.pid}/task").glob("*/children")
        children = " ".join(path.read_text() for path in threads).split()
        programs = {int(pid): Path(f"/proc/{pid}/cmdline").read_text() for pid in children}
        (worker,) = (pid for pid, program in programs.items() if "spawn_main" in program)
        os.kill(worker, signal.SIGKILL)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 5, errors
    told = [line for line in errors.splitlines() if line.startswith("supclap: ")]
    assert len(told) == 1 and "Traceback" not in errors
    step = int(told[0].split("is gone after step ")[1].split(" ")[0])
    assert (workdir / "checkpoints" / str(step) / SUMS).is_file()
    assert read_metrics(workdir)[-1]["step"] == step


def test_what_is_no_checkpoint_does_not_count(small):
    (small / "checkpoints" / "12").write_text("")
    (small / "checkpoints" / "notes").mkdir()
    with closing(Checkpoints(small, keep_last=9, repair=True)) as checkpoints:
        assert checkpoints.restore_newest(small_states(4))[0] == 2


def test_a_folder_that_cannot_be_written_to_ends_training_at_once(recipe, finished, tmp_path):
    """It becomes read-only under a training that has to make a checkpoint."""
    workdir = shutil.copytree(finished, tmp_path / "run")
    shutil.rmtree(workdir / "checkpoints" / str(STEPS))
    folder = workdir / "checkpoints"
    mounts = [["mount", "--bind", folder, folder], ["mount", "-o", "remount,ro,bind", folder]]
    if any(subprocess.run(mount, capture_output=True).returncode for mount in mounts):
        pytest.skip("no file system can be mounted here")
    try:
        command = [sys.executable, "-m", "supclap_jax.cli", "train"]
        command += [f"--config={tiny.PATH}:info_nce", f"--workdir={workdir}"]
        command += [f"--config.data.path={recipe.data.path}", f"--config.eval_every={STEPS}"]
        streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
        process = subprocess.Popen(command, **streams)
        line = process.stderr.readline()
        assert "a checkpoint cannot be written" in line and "Read-only file system" in line
        assert process.wait(timeout=10) == 6
        assert process.stderr.read() == ""
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
