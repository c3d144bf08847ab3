"""All that a run's folder holds, from one place."""

import shutil

import pytest

from supclap_jax.errors import RunError
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
