"""A real sweep: a trunk, its branch, and a run that fails; stopped, gone on with, and read."""

import csv
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from supclap_jax.cli.main import main
from supclap_jax.experiments.sweep_file import workdir_of
from supclap_jax.runs.run import Run
from tests import tiny

pytestmark = pytest.mark.slow

BODY = """
from supclap_jax.experiments.sweep_file import SweepRun

DATA = {{"data.path": {data!r}}}
SHORT = DATA | {{"checkpoint_every": 2, "eval_every": 100, "log_every": 1}}


def get_sweep(steps=40):
    whole = {{"optimizer.schedule": "constant", "total_steps": int(steps)}}
    half = {{"optimizer.schedule": "wsd", "optimizer.decay_steps": 2, "total_steps": 6}}
    yield SweepRun("branch", "{recipe}:info_nce", SHORT | half, trunk="trunk", branch_step=4)
    yield SweepRun("trunk", "{recipe}:info_nce", SHORT | whole)
    yield SweepRun("no-data", "{recipe}:info_nce", {{"data.path": "/nowhere"}})
"""


@pytest.fixture(scope="module")
def file(soundscape, tmp_path_factory):
    path = tmp_path_factory.mktemp("sweep") / "trunk_and_branch.py"
    path.write_text(BODY.format(data=str(soundscape), recipe=tiny.PATH))
    return path


def start(file, out):
    command = [sys.executable, "-m", "supclap_jax.cli", "sweep", str(file), f"--out={out}"]
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, start_new_session=True, **pipe)


def wait_for_steps(process, out, starts):
    """Until the trunk has been started so many times, and has made some steps since."""
    run, deadline = Run(workdir_of(out, "trunk")), time.monotonic() + 600
    while True:
        begun = [line["step"] for line in run.history if line["event"] == "start"]
        done = max((line["step"] for line in run.metrics()), default=0)
        if len(begun) == starts and done >= begun[-1] + 3:
            return
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def end(process, code):
    said, _ = process.communicate(timeout=600)
    assert process.returncode == code, said
    return said


@pytest.fixture(scope="module")
def swept(file, tmp_path_factory):
    """The folder of a sweep that was killed, then stopped, then ended; with what it said."""
    out = tmp_path_factory.mktemp("swept") / "out"
    process = start(file, out)
    wait_for_steps(process, out, starts=1)
    (left,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.kill()
    process.communicate()
    assert "is at work in" in end(start(file, out), 2)  # the run, which goes on alone
    os.killpg(int(left), signal.SIGKILL)

    process = start(file, out)
    wait_for_steps(process, out, starts=2)
    os.killpg(process.pid, signal.SIGINT)
    assert "the same command goes on" in end(process, 128 + signal.SIGINT)
    assert not (out / "results.csv").exists()
    return out, end(start(file, out), 0)


def test_stopped_it_goes_on_and_every_run_has_its_row(swept):
    out, said = swept
    assert "no-data: failed (2)" in said
    assert "no-data: supclap: " in said  # the reason
    with (out / "results.csv").open() as results:
        rows = {row["name"]: row for row in csv.DictReader(results)}
    assert list(rows) == ["trunk", "branch", "no-data"]
    assert [row["exit_code"] for row in rows.values()] == ["0", "0", "2"]
    assert [row["total_steps"] for row in rows.values()] == ["40", "6", "6"]
    branch = rows["branch"]
    assert "branch.run" not in branch
    assert (branch["clips_seen"], float(branch["epochs"])) == ("48", pytest.approx(48 / 28))
    params = jax.tree.leaves(Run(workdir_of(out, "branch")).restore()[1].dual.params)
    assert int(branch["parameters"]) == sum(leaf.size for leaf in params)
    tables = 300 * 32 + 4 * 32  # pieces and special tokens
    assert int(branch["parameters"]) - int(branch["encoder_parameters"]) > tables
    report = json.loads((workdir_of(out, "branch") / "evaluation.json").read_text())
    for direction, recalls in report["retrieval"].items():
        assert float(branch[f"R@1_{direction}"]) == recalls["R@1"]["value"]
        assert float(branch[f"entropy_{direction}"]) == report["entropy"][direction]["value"]
        assert float(branch[f"entropy_{direction}_high"]) == report["entropy"][direction]["high"]
    starts = [line["event"] for line in Run(workdir_of(out, "trunk")).history].count("start")
    assert starts == 3


def test_a_finished_run_is_not_run_again_and_a_failed_one_is(swept, file):
    out, _ = swept
    before = {path: path.stat().st_mtime_ns for path in (out / "runs").rglob("*")}
    assert main(["sweep", str(file), f"--out={out}"]) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert (out / "logs" / "no-data.log").read_text().count("supclap: ") == 2


def test_status_starts_nothing(swept, file, capsys):
    out, _ = swept
    assert main(["sweep", str(file), f"--out={out}", "--status", "--only", "branch"]) == 0
    printed = capsys.readouterr().out
    assert "trunk" in printed  # the branch needs it
    assert "no-data" not in printed
    assert "6 of 6" in printed


def test_of_two_sweeps_in_a_folder_the_second_is_refused(swept, file, capsys):
    """Parts of an array share it, but for two of one part."""
    out, _ = swept
    command = ["sweep", str(file), f"--out={out}", "--only", "trunk"]
    part = [*command, "--index=0", "--of=2"]
    with (out / "sweep.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert main(command) == main(part) == 2
        assert "another sweep, or a run that" in capsys.readouterr().err
        fcntl.flock(lock, fcntl.LOCK_SH)
        assert main(command) == 2
        assert main(part) == 0
        with (out / "part-0.lock").open() as its:
            fcntl.flock(its, fcntl.LOCK_EX)
            assert main(part) == 2
        with (out / "of-2.lock").open() as theirs:
            fcntl.flock(theirs, fcntl.LOCK_SH)
            assert main([*command, "--index=1", "--of=3"]) == 2


def test_a_file_that_now_says_something_else_of_a_finished_run_is_refused(swept, file, capsys):
    out, _ = swept
    assert main(["sweep", f"{file}:41", f"--out={out}"]) == 2
    error = capsys.readouterr().err
    assert "run 'trunk' in" in error
    assert "was trained with other values of total_steps than the sweep has now" in error


def test_a_dry_run_says_what_each_run_takes(file, tmp_path, capsys):
    assert main(["sweep", str(file), f"--out={tmp_path / 'out'}", "--dry-run"]) == 0
    printed = capsys.readouterr().out
    rows = {
        line.split("│")[1].strip(): line.split("│")[2:-1]
        for line in printed.splitlines()
        if "│" in line
    }
    steps = {name: cells[2].strip() for name, cells in rows.items()}
    assert steps == {"trunk": "40", "no-data": "6", "branch": "2", "3 runs": "48"}
    flops = [float(rows[name][5]) for name in ("trunk", "no-data", "branch")]
    assert float(rows["3 runs"][5]) == pytest.approx(sum(flops), rel=5e-3)
    np.testing.assert_allclose(flops[0] / flops[2], 20, rtol=5e-3)
    assert not (tmp_path / "out").exists()
