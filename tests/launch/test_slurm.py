"""`launch/slurm.sbatch` under a real SLURM: two tasks, preempted, requeued, finished."""

import csv
import json
import signal
import subprocess
import time
from pathlib import Path

import pytest

from supclap_jax.runs.history import read_history
from supclap_jax.runs.metrics import read_metrics
from supclap_jax.train.loop import train
from tests.launch import slurm_cluster

ROOT = Path(__file__).parents[2]
STEPS = 30
OPTIONS = {"total_steps": STEPS, "eval_every": STEPS, "checkpoint_every": 4, "mesh.data": -1}
SECONDS = 180

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(slurm_cluster.missing() is not None, reason=str(slurm_cluster.missing())),
]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """Runs a command of SLURM's and returns what it prints."""
    with slurm_cluster.cluster(tmp_path_factory.mktemp("slurm") / "cluster") as variables:

        def run(*command, **more):
            result = subprocess.run(
                command, cwd=ROOT, env=variables | more, capture_output=True, text=True
            )
            assert result.returncode == 0, result.stderr
            return result.stdout.strip()

        yield run


def losses(workdir):
    return {line["step"]: line["loss"] for line in read_metrics(workdir) if "loss" in line}


def wait_until(condition, log):
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, log.read_text() if log.is_file() else "no output"
        time.sleep(0.1)


def test_preempted_it_goes_back_into_the_queue_and_ends_as_undisturbed(
    slurm, soundscape, config, tmp_path
):
    workdir, log = tmp_path / "run", tmp_path / "log"
    flags = [f"--config={ROOT}/tests/tiny.py:info_nce", f"--workdir={workdir}"]
    keys = OPTIONS | {"data.path": soundscape}
    flags += [f"--config.{key}={value}" for key, value in keys.items()]
    resources = ["--nodes=1", "--ntasks=2", f"--output={log}"]
    job = slurm(
        "sbatch", "--parsable", *resources, "launch/slurm.sbatch", *flags, JAX_NUM_CPU_DEVICES="4"
    )

    def state():
        return dict(
            pair.split("=", 1)
            for pair in slurm("scontrol", "--oneliner", "show", "job", job).split()
            if "=" in pair
        )

    wait_until(lambda: max(losses(workdir), default=0) >= 5, log)
    slurm("scancel", "--signal=TERM", job)
    wait_until(lambda: state()["JobState"] == "PENDING" and state()["Restarts"] == "1", log)
    # Otherwise in two minutes; at once, SLURM would still take it for killed.
    slurm("scontrol", "update", f"JobId={job}", "StartTime=now+3")
    wait_until(lambda: state()["JobState"] in ("COMPLETED", "FAILED"), log)
    assert state()["JobState"] == "COMPLETED", log.read_text()

    assert f"ended with code {128 + signal.SIGTERM}; back into the queue" in log.read_text()
    first, stopped, second, end = read_history(workdir)
    assert (first["processes"], first["devices"], first["step"]) == (2, 8, 0)
    assert stopped["reason"].startswith("SIGTERM: stopped after step ")
    assert second["step"] >= 5
    assert end["reason"] == "finished"
    assert json.loads((workdir / "evaluation.json").read_text())["clips"] == 8

    config.update_from_flattened_dict(OPTIONS)
    train(config, tmp_path / "alone")
    assert losses(workdir) == pytest.approx(losses(tmp_path / "alone"), rel=1e-5)


SWEEP = """
from supclap_jax.experiments.sweep_file import SweepRun

def get_sweep():
    for seed in range(3):
        yield SweepRun(f"seed-{seed}", RECIPE, {"seed": seed, "data.path": DATA, "total_steps": 2})
"""


def test_an_array_does_every_run_of_a_sweep_once(slurm, soundscape, tmp_path):
    file, out = tmp_path / "seeds.py", tmp_path / "out"
    names = {"RECIPE": f"{ROOT}/tests/tiny.py:info_nce", "DATA": str(soundscape)}
    file.write_text("".join(f"{name} = {x!r}\n" for name, x in names.items()) + SWEEP)
    options = ["--array=0-1", "--ntasks=1", f"--output={tmp_path}/%a.log"]
    job = slurm("sbatch", "--parsable", *options, "launch/sweep.sbatch", str(file), f"--out={out}")
    wait_until(lambda: not slurm("squeue", "--noheader", "--job", job), tmp_path / "0.log")
    with (out / "results.csv").open() as results:
        rows = {row["name"]: row["exit_code"] for row in csv.DictReader(results)}
    assert rows == {f"seed-{seed}": "0" for seed in range(3)}
    logs = [(tmp_path / f"{part}.log").read_text() for part in range(2)]
    assert [log.count(": done") for log in logs] == [2, 1]
