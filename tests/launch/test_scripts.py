"""The launch scripts, printed, and run with a `gcloud` of paper; the JobSet's numbers."""

import json
import math
import os
import re
import shlex
import subprocess
import tarfile
from pathlib import Path

import pytest
import yaml

from supclap_jax.cli.main import _parser, read_config
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
    "tpu_vm": ["launch/tpu_vm.sh", "--dry-run", "pod", "us-east5-b", *FLAGS],
}


def bash(*arguments, **variables):
    return subprocess.run(
        ["bash", *arguments],
        cwd=ROOT,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=60,
    )


def assert_trains(command):
    """The words end in `train --distributed` and the flags, all of which `supclap` takes."""
    assert command[command.index("train") :] == ["train", "--distributed", *FLAGS]
    options, overrides = _parser().parse_known_args(command[command.index("train") :])
    assert options.distributed
    config = read_config(options.config, overrides)
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
    assert job["replicas"] * spec["parallelism"] * a_host == chips
    assert spec["completions"] == spec["parallelism"]
    assert jobset["spec"]["failurePolicy"]["maxRestarts"] > 0
    (mount,) = container["volumeMounts"]
    assert mount["name"] == pod["volumes"][0]["name"]

    script = container["args"][0]
    assert subprocess.run(["bash", "-n", "-c", script]).returncode == 0
    words = shlex.split(script.replace("\\\n", " "))
    options, overrides = _parser().parse_known_args(words[words.index("train") :])
    assert options.distributed
    assert str(options.workdir).startswith(mount["mountPath"])
    config = read_config(str(ROOT / options.config), overrides)
    assert config.mesh.data * config.mesh.fsdp == chips
    with pytest.raises(ConfigError, match="unknown config key"):
        read_config(str(ROOT / options.config), ["--config.mesh.dat=1"])


def test_all_workers_of_tpus_get_the_libtpu_that_is_tested():
    pins = {
        name: set(re.findall(r"libtpu==([\d.]+)", (ROOT / "launch" / name).read_text()))
        for name in ("test.sh", "tpu_vm.sh", "jobset.yaml")
    }
    assert len(set.union(*pins.values())) == 1
    assert all(pins.values())
