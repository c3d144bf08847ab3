"""Files of a run that are rewritten: whole before and after a kill, and on a full disk."""

import json
import os
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from supclap_jax.files import is_unfinished, replacing, write_whole
from supclap_jax.runs.checkpoint_files import SUMS
from supclap_jax.runs.checkpoints import Checkpoints
from supclap_jax.runs.run import Run
from tests.runs import killed_writers

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def killed(finished, soundscape, tmp_path_factory):
    """A folder of folders: in each the writer of the file that it is called after was killed."""
    folder = tmp_path_factory.mktemp("killed")
    for name in ("config.json", "data.json", "tokenizer.model", "sums.json"):
        (folder / name).mkdir()
    for name in ("config.json again", "metrics.jsonl", "evaluation.json", "dual.safetensors"):
        shutil.copytree(finished, folder / name)
    (folder / "evaluation.json" / "evaluation.json").write_text('{"step": "old"}')
    command = [sys.executable, "-m", "tests.runs.killed_writers", folder, soundscape]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return folder


def left(folder):
    """Names of what a kill has left in a folder."""
    return [path.name for path in folder.rglob("*") if is_unfinished(path)]


@pytest.fixture
def written(killed, soundscape):
    """Of a name: the folder in which its writer was killed, and the writer, to be called again."""

    def find(name):
        folder = killed / name
        assert len(left(folder)) == 1
        assert left(folder)[0].startswith(f".{name.removesuffix(' again')}.")
        return folder, lambda: killed_writers.WRITERS[name](folder, soundscape)

    return find


@pytest.mark.parametrize("name", ["config.json", "data.json", "tokenizer.model"])
def test_killed_while_it_claims_a_folder_it_claims_it_the_next_time(written, name):
    order = ("config.json", "tokenizer.model", "data.json")
    folder, claim = written(name)
    found = {path.name for path in folder.iterdir() if not is_unfinished(path)}
    assert found == set(order[: order.index(name)])
    claim()
    run = Run(folder)
    assert run.config.total_steps == 6
    assert json.loads((folder / "data.json").read_text())["development"]["clips"] == 4
    assert run.tokenizer.pieces <= 300


def test_killed_while_the_config_changes_it_is_the_old_one(written, finished):
    folder, claim = written("config.json again")
    assert (folder / "config.json").read_bytes() == (finished / "config.json").read_bytes()
    claim()
    assert Run(folder).config.keep_last == 10


def test_killed_while_metrics_are_cut_they_are_as_before(written, finished):
    folder, cut = written("metrics.jsonl")
    before = Run(finished).metrics()
    assert Run(folder).metrics() == before
    cut()
    kept = Run(folder).metrics()
    assert kept == [line for line in before if line["step"] <= 4]
    assert {line["step"] for line in kept} == {1, 2, 3, 4}


def test_killed_while_sums_are_written_there_is_no_checkpoint_yet(written):
    folder, _ = written("sums.json")
    states = killed_writers.small_states()
    with closing(Checkpoints(folder, keep_last=2)) as checkpoints:
        assert checkpoints.steps() == []
        for step in (1, 2):
            checkpoints.save(states, step)
    with closing(Checkpoints(folder, keep_last=2)) as checkpoints:
        np.testing.assert_array_equal(checkpoints.restore(1, states).dual["w"], states.dual["w"])
    for number in "12":
        sums = json.loads((folder / "checkpoints" / number / SUMS).read_text())
        assert "default/_METADATA" in sums
        assert not any(is_unfinished(Path(name)) for name in sums)


def test_killed_while_an_evaluation_is_written_it_is_the_old_one(written):
    folder, evaluate = written("evaluation.json")
    assert (folder / "evaluation.json").read_text() == '{"step": "old"}'
    evaluate()
    assert json.loads((folder / "evaluation.json").read_text())["step"] == 6


def test_killed_while_weights_are_exported_there_are_none(written):
    folder, export = written("dual.safetensors")
    assert not (folder / "out" / "dual.safetensors").exists()
    export()
    assert "text_proj.0.bias" in load_file(folder / "out" / "dual.safetensors")


def test_a_full_disk_leaves_the_old_file(small_disk):
    disk, _ = small_disk
    path = disk / "numbers"
    write_whole(path, b"old")
    for content in (bytes(2**22), "x" * 2**22):
        with pytest.raises(OSError, match="No space left"):
            write_whole(path, content)
    with pytest.raises(OSError, match="No space left"), replacing(path) as unfinished:
        unfinished.write_bytes(bytes(2**22))
    assert path.read_bytes() == b"old"
    assert os.listdir(disk) == ["numbers"]


def test_what_a_block_raises_leaves_the_old_file(tmp_path):
    path = tmp_path / "numbers"
    write_whole(path, "ältere")
    with pytest.raises(KeyError), replacing(path) as unfinished:
        unfinished.write_text("newer")
        raise KeyError
    assert path.read_text("utf-8") == "ältere"
    assert os.listdir(tmp_path) == ["numbers"]


def test_links_and_devices_stay_what_they_are(tmp_path):
    target, link, pipe = tmp_path / "target", tmp_path / "link", tmp_path / "pipe"
    link.symlink_to(target)
    write_whole(link, "1")
    write_whole(link, "2")
    assert link.is_symlink() and target.read_text() == "2"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_whole(pipe, "3")
    assert os.read(reader, 9) == b"3" and pipe.is_fifo()
    os.close(reader)
