"""What the tests of runs share: a finished run, a small disk."""

import subprocess

import pytest

from supclap_jax.train.loop import train
from tests import tiny


@pytest.fixture(scope="package")
def recipe(soundscape):
    """Six steps of plain InfoNCE, with a checkpoint at every second."""
    config = tiny.get_config("info_nce")
    config.data.path = str(soundscape)
    config.eval_every = config.total_steps
    return config.lock()


@pytest.fixture(scope="package")
def finished(recipe, tmp_path_factory):
    """The folder of a run of `recipe`, not evaluated; to be copied before it is changed."""
    workdir = tmp_path_factory.mktemp("finished") / "run"
    train(recipe, workdir)
    return workdir


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
