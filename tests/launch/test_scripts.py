"""The launch scripts, printed, and run with a `gcloud` of paper; the JobSet's numbers."""

import json
import math
import os
import re
import shlex
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
import yaml

from supclap_jax.cli.main import parse
from supclap_jax.config import read_config
from supclap_jax.errors import ConfigError

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "launch"
FLAGS = [
    f"--config={ROOT}/configs/pretrain.py",
    "--workdir=/shared/a run",
    "--config.data.languages=('eng_Latn','fra_Latn')",
]
PRINTED = {
    "slurm": ["launch/slurm.sbatch", "--dry-run", *FLAGS],
    "sweep": [
        "launch/sweep.sbatch",
        "--dry-run",
        "configs/sweeps/variants.py",
        "--out=/shared/a b",
    ],
    "tpu_vm": ["launch/tpu_vm.sh", "--dry-run", "pod", "us-east5-b", *FLAGS],
}


def bash(*arguments, **variables):
    return subprocess.run(
        ["bash", *arguments],
        cwd=ROOT,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=300,
    )


def assert_trains(command):
    """The words end in `train --distributed` and the flags, all of which `supclap` takes."""
    assert command[command.index("train") :] == ["train", "--distributed", *FLAGS]
    options = parse(command[command.index("train") :])
    assert options.distributed
    config = read_config(options.config, options.overrides)
    assert config.data.languages == ("eng_Latn", "fra_Latn")


@pytest.mark.parametrize("name", PRINTED)
def test_dry_runs_print_what_was_reviewed(name):
    result = bash(*PRINTED[name])
    assert result.returncode == 0, result.stderr
    printed = result.stdout.replace(str(ROOT), "REPOSITORY")
    printed = re.sub(r"\S+/supclap_jax.tar.gz", "ARCHIVE", printed)
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(printed)
    assert printed == path.read_text()


def test_slurm_tasks_train():
    assert_trains(shlex.split(bash(*PRINTED["slurm"]).stdout))


def test_parts_of_an_array_run_the_sweep():
    variables = {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "8"}
    command = shlex.split(bash(*PRINTED["sweep"], **variables).stdout)
    options = parse(command[command.index("sweep") :])
    assert (options.index, options.of, str(options.out)) == (3, 8, "/shared/a b")


def test_tpu_workers_get_the_committed_files_and_the_flags(tmp_path):
    """`gcloud` here writes down its arguments and keeps the archive."""
    gcloud = tmp_path / "gcloud"
    gcloud.write_text(
        "#!/usr/bin/env python3\n"
        "import json, shutil, sys\n"
        f"open('{tmp_path}/calls', 'a').write(json.dumps(sys.argv[1:]) + '\\n')\n"
        f"if 'scp' in sys.argv: shutil.copy(sys.argv[5], '{tmp_path}/archive')\n"
    )
    gcloud.chmod(0o755)
    result = bash(
        "launch/tpu_vm.sh", "pod", "us-east5-b", *FLAGS, PATH=f"{tmp_path}:{os.environ['PATH']}"
    )
    assert result.returncode == 0, result.stderr
    copy, command = map(json.loads, (tmp_path / "calls").read_text().splitlines())
    assert {"--zone=us-east5-b", "--worker=all"} <= set(copy) & set(command)
    with tarfile.open(tmp_path / "archive") as archive:
        assert {"requirements.txt", "launch/setup.sh"} <= set(archive.getnames())
    script = command[-1].removeprefix("--command=")
    assert subprocess.run(["bash", "-n", "-c", script]).returncode == 0
    assert_trains(shlex.split(script.splitlines()[-1]))


@pytest.mark.parametrize("arguments", [[], ["pod"], ["--config=x", "zone", "--workdir=y"]])
def test_tpu_vm_says_how_it_is_used(arguments):
    result = bash("launch/tpu_vm.sh", *arguments)
    assert result.returncode == 2
    assert result.stderr.startswith("usage: ")


def test_the_jobset_has_a_pod_for_every_host_of_its_slice():
    jobset = yaml.safe_load((ROOT / "launch" / "jobset.yaml").read_text())
    assert (jobset["apiVersion"], jobset["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    (job,) = jobset["spec"]["replicatedJobs"]
    spec = job["template"]["spec"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    chips = math.prod(map(int, pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"].split("x")))
    a_host = container["resources"]["limits"]["google.com/tpu"]
    assert container["resources"]["requests"]["google.com/tpu"] == a_host
    assert spec["parallelism"] * a_host == chips
    assert spec["completions"] == spec["parallelism"]
    assert jobset["spec"]["failurePolicy"]["maxRestarts"] > 0
    (mount,) = container["volumeMounts"]
    assert mount["name"] == pod["volumes"][0]["name"]

    script = container["args"][0]
    assert subprocess.run(["bash", "-n", "-c", script]).returncode == 0
    words = shlex.split(script.replace("\\\n", " "))
    program = ["exec", "python", "-m", "supclap_jax.cli", "train"]  # as tests/cli starts it, too
    start = words.index("exec")
    assert words[start : start + len(program)] == program
    options = parse(words[words.index("train") :])
    assert options.distributed
    assert str(options.workdir).startswith(mount["mountPath"])
    config = read_config(options.config, options.overrides)
    assert config.mesh.data * config.mesh.fsdp == job["replicas"] * chips
    with pytest.raises(ConfigError, match="unknown config key"):
        read_config(options.config, ["--config.mesh.dat=1"])


@pytest.fixture
def copy(tmp_path):
    """A folder with the scripts alone, where every `python` writes down what it is to do."""
    folder = tmp_path / "copy"
    shutil.copytree(ROOT / "launch", folder / "launch")
    (folder / "requirements.txt").write_text("one==1\n")
    (folder / "requirements-extras.txt").write_text("two==2\n")
    (folder / "pyproject.toml").write_text("[project]\n")
    python = tmp_path / "python"
    python.write_text(
        '#!/bin/bash\necho "$*" >> calls\n'
        "if [[ $1 == -m && $2 == venv ]]; then\n"
        "    rm -rf .venv; mkdir -p .venv/bin\n"
        '    for name in python ruff; do cp "$0" .venv/bin/$name; done\n'
        "fi\n"
    )
    python.chmod(0o755)
    return folder


def calls(copy, *arguments):
    """What is asked of `python` and `ruff` by a script."""
    (copy / "calls").write_text("")
    command = ["bash", "-euo", "pipefail", *arguments]
    variables = os.environ | {"PYTHON": str(copy.parent / "python")}
    subprocess.run(command, cwd=copy, env=variables, check=True, capture_output=True, timeout=300)
    return (copy / "calls").read_text()


def test_setup_installs_anew_what_has_changed(copy):
    source = ("-c", "source launch/setup.sh")
    first = calls(copy, *source)
    assert "-m venv" in first
    assert "-r requirements.txt" in first
    assert "--no-deps --editable ." in first
    assert "pip" not in calls(copy, *source)

    (copy / "pyproject.toml").write_text("[project]\nname = 'new'\n")
    again = calls(copy, *source)
    assert "--no-deps --editable ." in again
    assert "requirements.txt" not in again
    assert "pip" not in calls(copy, *source)

    (copy / "requirements.txt").write_text("one==2\n")
    assert calls(copy, *source).splitlines()[1:] == first.splitlines()[1:]


def test_fast_leaves_out_what_is_slow(copy):
    asked = calls(copy, "launch/test.sh", "tests/losses", "-k", "siglip")
    assert "--no-deps -r requirements-extras.txt" in asked
    pytest_line = asked.splitlines()[-1]
    assert pytest_line.endswith("--no-loadscope-reorder tests/losses -k siglip")
    asked = calls(copy, "launch/test.sh", "--fast", "tests/losses")
    assert "requirements-extras.txt" not in asked
    pytest_line = asked.splitlines()[-1]
    assert pytest_line.endswith("--no-loadscope-reorder -m not slow tests/losses")


def test_all_workers_of_tpus_get_the_libtpu_that_is_tested():
    pins = {
        name: set(re.findall(r"libtpu==([\d.]+)", (ROOT / "launch" / name).read_text()))
        for name in ("test.sh", "tpu_vm.sh", "jobset.yaml")
    }
    assert len(set.union(*pins.values())) == 1
    assert all(pins.values())
