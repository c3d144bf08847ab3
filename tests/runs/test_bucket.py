"""Runs in a bucket, of an emulator: killed, refused, continued elsewhere, read from elsewhere."""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import jax
import numpy as np
import pytest

from supclap_jax.cli.main import main
from supclap_jax.errors import RunError, UserError
from supclap_jax.runs import bucket, health
from supclap_jax.runs.checkpoints import Checkpoints
from supclap_jax.runs.lock import locked
from supclap_jax.runs.mesh import make_mesh
from supclap_jax.runs.run import Run
from supclap_jax.runs.states import abstract_states, init_states
from tests import tiny

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not all(map(importlib.util.find_spec, ("gcsfs", "gcp_storage_emulator"))),
        reason="the extra gcs and the emulator are not installed",
    ),
]

STEPS = 40
ADDRESS = "gs://bucket/runs/one"


@pytest.fixture(scope="module")
def server():
    """The address of a store with the bucket "bucket"."""
    script = Path(__file__).with_name("bucket_server.py")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(
        [sys.executable, str(script), "bucket"], stderr=subprocess.DEVNULL, **pipes
    ) as process:
        yield process.stdout.readline().strip()
        process.kill()


@pytest.fixture
def here(server, monkeypatch, tmp_path):
    """This process knows the store, and has a home of its own, without anything in it."""
    environment = {
        "STORAGE_EMULATOR_HOST": server,
        "TENSORSTORE_GCS_HTTP_URL": server,
        "GOOGLE_AUTH_TOKEN_FOR_TESTING": "none",
        "NO_GCE_CHECK": "true",  # which asks a server that is not there
        "HOME": str(tmp_path / "home"),
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    fail(server, 0, 0)
    return tmp_path / "home"


def copy_of(home, address):
    """The local folder of a run in a bucket."""
    return home / ".cache" / "supclap" / "runs" / quote(address, safe="")


def put(server, name, content=b"done"):
    """An object into the bucket."""
    target = f"{server}/upload/storage/v1/b/bucket/o?uploadType=media&name={quote(name, safe='')}"
    urllib.request.urlopen(urllib.request.Request(target, content, method="POST")).close()


def fail(server, code, count):
    """The next so many requests."""
    urllib.request.urlopen(f"{server}/fault/{code}/{count}").close()


def start(data, workdir, programs):
    arguments = [
        sys.executable, "-m", "supclap_jax.cli", "train", f"--config={tiny.PATH}",
        f"--workdir={workdir}", f"--config.data.path={data}", f"--config.total_steps={STEPS}",
        "--config.checkpoint_every=5", "--config.eval_every=20", "--config.keep_last=2",
        f"--config.compilation_cache={programs}",
    ]  # fmt: skip
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(arguments, start_new_session=True, **pipe)


def wait_for_checkpoints(process, server, count):
    """Until so many were committed, of which some may be gone again."""
    seen, deadline = set(), time.monotonic() + 300
    listing = f"{server}/storage/v1/b/bucket/o?prefix=runs/one/checkpoints/"
    while len(seen) < count:
        with urllib.request.urlopen(listing) as answer:
            names = [item["name"] for item in json.load(answer).get("items", [])]
        parts = (name.split("/") for name in names)
        seen |= {part[3] for part in parts if part[4:] == ["commit_success.txt"]}
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "no checkpoint comes"
        time.sleep(0.05)


def test_killed_refused_and_continued_elsewhere_it_ends_the_same(
    soundscape, here, server, tmp_path, capsys
):
    """As a run on disk that nothing happened to, bit for bit; and another machine reads it."""
    programs = tmp_path / "programs"
    undisturbed = start(soundscape, tmp_path / "disk", programs)
    output, _ = undisturbed.communicate(timeout=300)
    assert undisturbed.returncode == 0, output

    killed = start(soundscape, ADDRESS, programs)
    wait_for_checkpoints(killed, server, 1)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    shutil.rmtree(here)

    refused = start(soundscape, ADDRESS, programs)
    wait_for_checkpoints(refused, server, 2)
    fail(server, 403, 10**9)
    output, _ = refused.communicate(timeout=300)
    assert refused.returncode == 6, output
    assert "Traceback" not in output
    *_, line = output.strip().splitlines()  # of a small file, or of a checkpoint's
    assert line.startswith("supclap: ")
    assert "access is refused" in line or "a checkpoint cannot be written" in line
    shutil.rmtree(here)

    fail(server, 503, 4)
    continued = start(soundscape, ADDRESS, programs)
    output, _ = continued.communicate(timeout=300)
    assert continued.returncode == 0, output
    shutil.rmtree(here)

    assert main(["status", f"--workdir={ADDRESS}", f"--json={tmp_path / 'status.json'}"]) == 0
    status = json.loads((tmp_path / "status.json").read_text())
    assert (status["workdir"], status["health"], status["step"]) == (ADDRESS, "finished", STEPS)
    assert time.time() - status["checkpoint"]["time"] < 600
    shutil.rmtree(here)
    weights = ["--names=ml-clap", f"--out={tmp_path / 'weights.safetensors'}"]
    assert main(["export-weights", f"--workdir={ADDRESS}", *weights]) == 0
    capsys.readouterr()

    mine, theirs = Run(copy_of(here, ADDRESS)), Run(tmp_path / "disk")
    losses = [
        {x["step"]: x["loss"] for x in run.metrics() if "loss" in x} for run in (mine, theirs)
    ]
    assert losses[0] == losses[1]
    evaluations = [
        json.loads((run.workdir / "evaluation.json").read_text()) for run in (mine, theirs)
    ]
    assert evaluations[0]["retrieval"] == evaluations[1]["retrieval"]
    states = [run.restore(STEPS)[1] for run in (mine, theirs)]
    jax.tree.map(np.testing.assert_array_equal, *states)


@pytest.mark.parametrize(
    ("address", "code", "message"),
    [
        (ADDRESS, 403, "access is refused; see that these credentials may read and write it"),
        ("gs://nosuch/runs/one", 0, "there is no such bucket, or it is not yours to see"),
        ("s3://bucket/runs/one", 0, "is no path on this machine; mount the bucket"),
        ("gs://bucket", 0, "is no place for a run"),
        ("gs://bucket/runs/../../other", 0, "is no place for a run"),
    ],
)
def test_what_cannot_be_reached_is_said_in_a_line(here, server, capsys, address, code, message):
    fail(server, code, 10**9 if code else 0)
    with pytest.raises(SystemExit) as ended:
        main(["status", f"--workdir={address}"])
    assert ended.value.code == 2
    *_, line = capsys.readouterr().err.strip().splitlines()
    assert message in line


def test_readers_remove_nothing_and_training_all_that_is_not_there(here, server, capsys):
    """A busy store is asked again."""
    address = "gs://bucket/runs/two"
    fail(server, 503, 2)
    assert main(["status", f"--workdir={address}"]) == 2
    assert f"{address} holds no run" in capsys.readouterr().err
    put(server, "runs/two/config.json", b'{"total_steps": 5, "log_every": 1}')
    put(server, "runs/two/metrics.jsonl", b'{"step": 1, "loss": 2.0}\n')
    mine = copy_of(here, address) / "evaluation.json"
    mine.write_text("begun")
    assert main(["status", f"--workdir={address}"]) == 0
    assert mine.exists()
    metrics = mine.with_name("metrics.jsonl")
    with locked(mine.parent):  # as by a training here, which is newer than the bucket
        metrics.write_text("newer")
        bucket.folder_of(address)
        assert metrics.read_text() == "newer"
    bucket.folder_of(address, trains=True)
    assert metrics.read_text() == '{"step": 1, "loss": 2.0}\n'
    assert not mine.exists()


def test_evaluation_and_training_copy_each_its_own(here, server):
    """So that neither replaces what the other has written since."""
    address = "gs://bucket/runs/three"
    put(server, "runs/three/config.json", b"{}")
    folder = bucket.folder_of(address)
    for of_evaluation in (False, True):
        (folder / "metrics.jsonl").write_text(f"metrics {of_evaluation}")
        (folder / "evaluation.json").write_text(f"evaluation {of_evaluation}")
        bucket.push(folder, of_evaluation)
    shutil.rmtree(folder)
    bucket.folder_of(address)
    assert (folder / "metrics.jsonl").read_text() == "metrics False"
    assert (folder / "evaluation.json").read_text() == "evaluation True"


def test_what_is_written_is_copied_on_the_way_and_at_the_end(here, server, monkeypatch):
    """Also where the block ends with an error."""
    address = "gs://bucket/runs/five"
    put(server, "runs/five/config.json", b"{}")
    folder = bucket.folder_of(address)
    monkeypatch.setattr(bucket, "INTERVAL", 0.05)
    listing = f"{server}/storage/v1/b/bucket/o?prefix=runs/five/"

    def copied():
        with urllib.request.urlopen(listing) as answer:
            return {item["name"].split("/")[-1] for item in json.load(answer)["items"]}

    with pytest.raises(KeyError), bucket.mirrored(folder):
        (folder / "metrics.jsonl").write_text("one")
        deadline = time.monotonic() + 30
        while "metrics.jsonl" not in copied():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        monkeypatch.setattr(bucket, "INTERVAL", 1e6)
        time.sleep(0.2)
        (folder / "history.jsonl").write_text("end")
        raise KeyError
    assert "history.jsonl" in copied()


def test_a_folder_above_runs_is_none(here, server, capsys):
    """Nothing of what lies below is fetched, or is in its way."""
    put(server, "above/one/config.json", b"{}")
    below = bucket.folder_of("gs://bucket/above/one")
    for trains in (False, True):
        with pytest.raises(UserError, match="gs://bucket/above holds"):
            bucket.folder_of("gs://bucket/above", trains)
    assert (below / "config.json").exists()
    assert bucket.is_in_bucket(below)


def test_a_damaged_checkpoint_is_put_away_in_the_bucket(here, server, capsys, config):
    """And one that is not whole is none; without a run's signs of life it is not alive."""
    address = "gs://bucket/runs/four"
    put(server, "runs/four/config.json", b'{"total_steps": 5, "log_every": 1}')
    put(server, "runs/four/checkpoints/3/commit_success.txt")
    put(server, "runs/four/checkpoints/3/metrics/metrics", b"{")
    put(server, "runs/four/checkpoints/4/metrics/metrics", b"{}")
    folder = bucket.folder_of(address)
    mesh = make_mesh(1, config.batch_size)
    states = init_states(config, mesh)
    with closing(Checkpoints(folder, keep_last=3, repair=True)) as checkpoints:
        assert "Checkpoint 3 is damaged and left out" in capsys.readouterr().out
        status = health.status(folder)
        assert (status["checkpoint"], status["damaged_checkpoints"]) == (None, 1)
        for step in (1, 2):
            checkpoints.save(states, step)
    put(server, "runs/four/checkpoints/2/default/_METADATA", b"{")
    with closing(Checkpoints(folder, keep_last=3, repair=True)) as checkpoints:
        assert "Checkpoint 2 is damaged and left out" in capsys.readouterr().out
        step, restored = checkpoints.restore_newest(abstract_states(config, mesh))
        assert step == 1
        jax.tree.map(np.testing.assert_array_equal, restored, states)
        checkpoints.save(states, 2)
        assert checkpoints.steps() == [1, 2]
    assert health.status(folder)["damaged_checkpoints"] == 2
    fail(server, 403, 10**9)
    with pytest.raises(RunError, match="access is refused"):
        health.status(folder)
