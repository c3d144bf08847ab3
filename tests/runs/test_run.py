"""All that a run's folder holds, from one place."""

import json
import shutil
import subprocess
import sys

import pytest

from supclap_jax.config import default, load, to_json
from supclap_jax.data.opening import load_clips
from supclap_jax.data.splits import SPLITS
from supclap_jax.errors import ConfigError, DataError, RunError
from supclap_jax.evaluate.training_figures import read_curves
from supclap_jax.runs.lock import locked
from supclap_jax.runs.provenance import provenance
from supclap_jax.runs.run import Run


def test_what_a_finished_run_holds(finished):
    run = Run(finished)
    assert run.exists
    assert run.config.total_steps == 6
    assert 200 < run.tokenizer.pieces <= 300
    assert [line["step"] for line in run.metrics(4) if "loss" in line] == [1, 2, 3, 4]
    assert [line["event"] for line in run.history] == ["start", "end"]
    assert (run.status["health"], run.status["step"]) == ("finished", 6)
    assert (run.find_step(), run.find_step(4)) == (6, 4)
    step, states = run.restore(4)
    assert (step, int(states.dual.step)) == (4, 4)


def test_another_step_is_refused(finished):
    for find in (Run(finished).find_step, Run(finished).restore):
        with pytest.raises(RunError, match="holds no checkpoint of step 7; there are 2, 4, 6"):
            find(7)


@pytest.mark.parametrize("name", ["config", "tokenizer", "status"])
def test_no_run_is_said(tmp_path, name):
    with pytest.raises(RunError, match=f"{tmp_path} holds no run"):
        getattr(Run(tmp_path), name)


def test_no_run_has_no_checkpoint_and_no_lines(tmp_path):
    run = Run(tmp_path / "run")
    for read in (run.checkpoints, run.find_step, run.restore):
        with pytest.raises(RunError, match="holds no run"):
            read()
    assert (run.exists, run.metrics(), run.history) == (False, [], [])
    assert not run.workdir.exists()


def test_a_missing_tokenizer_is_said(finished, tmp_path):
    shutil.copy(finished / "config.json", tmp_path)
    with pytest.raises(RunError, match="holds no tokenizer"):
        _ = Run(tmp_path).tokenizer


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1] + bytes([data[-1] ^ 1]),
        lambda data: b"",
        lambda data: data + b"x",
        lambda data: data[: len(data) // 2],
    ],
    ids=["a bit", "empty", "longer", "cut"],
)
def test_another_tokenizer_is_refused(finished, tmp_path, damage):
    workdir = shutil.copytree(finished, tmp_path / "run")
    path = workdir / "tokenizer.model"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(RunError, match="is not the tokenizer that the run began with"):
        _ = Run(workdir).tokenizer
    facts = json.loads((workdir / "data.json").read_text())
    del facts["tokenizer.model"]  # as runs of an earlier version have it
    (workdir / "data.json").write_text(json.dumps(facts))
    path.write_bytes(b"x")
    with pytest.raises(RunError, match="is not the tokenizer"):
        _ = Run(workdir).tokenizer


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"\xff", b"{}", b'{"development": 3}', b'{"development": {"clips": 28}}', None],
)
def test_facts_that_cannot_be_read_are_said(recipe, finished, tmp_path, content):
    """Or that are gone, by which nothing could be told from what it was."""
    workdir = shutil.copytree(finished, tmp_path / "run")
    path = workdir / "data.json"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(RunError, match=r"data\.json cannot be read"):
        _ = Run(workdir).tokenizer
    clips = {split: load_clips(recipe, split) for split in SPLITS}
    with pytest.raises(RunError, match=r"data\.json cannot be read"):
        Run(workdir).claim(recipe, clips)


def test_sounds_that_changed_are_said(recipe, finished, tmp_path):
    """One sample of one clip, under the same name and of the same length."""
    config = recipe.copy_and_resolve_references()
    data = shutil.copytree(config.data.path, tmp_path / "data")
    path = data / "validation" / "validation_00001.wav"
    content = bytearray(path.read_bytes())
    content[2_000] ^= 1
    path.write_bytes(content)
    config.data.path = str(data)
    clips = {split: load_clips(config, split) for split in SPLITS}
    run = Run(shutil.copytree(finished, tmp_path / "run"))
    with pytest.raises(DataError, match="the validation sounds are not those that the run"):
        run.claim(config, clips)
    facts = json.loads((run.workdir / "data.json").read_text())
    for split in ("development", "validation", "evaluation"):
        del facts[split]["audio"]  # as runs of an earlier version have it
    (run.workdir / "data.json").write_text(json.dumps(facts))
    run.claim(config, clips)


def test_strange_lines_and_folders_are_passed_over(finished, tmp_path):
    workdir = shutil.copytree(finished, tmp_path / "run")
    metrics, before = Run(workdir).metrics(), Run(workdir).status
    with (workdir / "metrics.jsonl").open("a") as file:
        file.write('{"step": "x", "loss": 1.0}\n{"loss": 1.0}\n{"step": null}\n[]\n3\n')
    with (workdir / "history.jsonl").open("a") as file:
        file.write('{"time": "x", "event": "start"}\n')
    (workdir / "checkpoints" / "\u00b2").mkdir()
    assert Run(workdir).metrics() == metrics
    assert Run(workdir).status["step"] == before["step"]
    assert Run(workdir).find_step() == Run(finished).find_step()
    assert read_curves(workdir / "metrics.jsonl").keys() == {
        key for line in metrics for key in line if key != "step"
    }


def test_a_checkout_that_git_does_not_trust_has_no_commit(monkeypatch):
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    monkeypatch.setenv("HOME", "/nonexistent")
    assert provenance()["commit"] is None


def test_a_refused_claim_leaves_nothing(recipe, tmp_path):
    config = recipe.copy_and_resolve_references()
    clips = {split: load_clips(config, split) for split in SPLITS}
    run, good = Run(tmp_path / "run"), config.text.vocab_size
    config.text.vocab_size = 5
    with pytest.raises(ConfigError, match=r"no tokenizer of text\.vocab_size 5"):
        run.claim(config, clips)
    assert not run.workdir.exists()
    config.text.vocab_size = good
    run.claim(config, clips)
    assert run.exists


def test_a_run_may_go_on_for_longer_where_its_rates_were_the_same(recipe, finished, tmp_path):
    config = recipe.copy_and_resolve_references()
    clips = {split: load_clips(config, split) for split in SPLITS}
    run = Run(shutil.copytree(finished, tmp_path / "run"))
    config.total_steps = 12  # of a cosine, whose rates depend on it
    with pytest.raises(ConfigError, match=r"differs in total_steps: .* branch in another"):
        run.claim(config, clips)
    for schedule in ("constant", "wsd"):
        before = load(run.workdir / "config.json")
        with before.unlocked():
            before.optimizer.schedule, before.total_steps = "constant", 6
        (run.workdir / "config.json").write_text(to_json(before))
        decay_steps = 6 if schedule == "wsd" else default().optimizer.decay_steps
        config.optimizer.update(schedule=schedule, decay_steps=decay_steps)
        run.claim(config, clips)
        assert (run.config.total_steps, run.config.optimizer.schedule) == (12, schedule)
    config.optimizer.decay_steps = 8  # of the six steps, one would have been in the cooldown
    (run.workdir / "config.json").write_text(to_json(before))
    with pytest.raises(ConfigError, match="from a checkpoint before they differ"):
        run.claim(config, clips)


HOLD = """
import sys, time
from pathlib import Path
from supclap_jax.runs.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_one_training_at_a_time(tmp_path):
    """It says who holds the folder; the lock dies with its process."""
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(RunError, match=rf"being trained already, by process {holder.pid} on"),
            locked(tmp_path),
        ):
            raise AssertionError
        holder.kill()
    with locked(tmp_path):
        pass
