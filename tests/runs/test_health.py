"""What `supclap status` says of runs in every state, from their files."""

import json
import os
import time

import pytest

from supclap_jax import config as configs
from supclap_jax.cli.main import main
from supclap_jax.runs.health import status
from supclap_jax.runs.history import first_start, read_history, session


@pytest.fixture
def workdir(config, tmp_path):
    """A run of 6 steps that has come to the fourth, at two steps a second."""
    (tmp_path / "config.json").write_text(configs.to_json(config))
    lines = [
        {"step": 3, "validation/text_to_audio/R@1": 12.5, "validation/audio_to_text/R@1": 25.0},
        {"step": 4, "loss": 1.25, "step_seconds": 0.5, "step_seconds_max": 0.5, "data_wait": 0.1,
         "steps_per_second": 2.0, "clips_per_second": 16.0, "goodput": 0.75},
    ]  # fmt: skip
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / "metrics.jsonl").write_text(text + '{"step": 5, "lo')
    (tmp_path / "checkpoints" / "2").mkdir(parents=True)
    (tmp_path / "checkpoints" / "4.orbax-checkpoint-tmp").mkdir()
    return tmp_path


def kill(workdir, times=1):
    """Starts that never wrote their end."""
    line = json.dumps({"time": time.time(), "event": "start", "step": 0})
    (workdir / "history.jsonl").write_text(times * f"{line}\n")


def age(workdir, seconds):
    for name in ("metrics.jsonl", "history.jsonl"):
        os.utime(workdir / name, (time.time() - seconds,) * 2)


def test_a_run_that_trains(workdir, capsys):
    kill(workdir, times=2)
    out = workdir / "status.json"
    assert main(["status", f"--workdir={workdir}", f"--json={out}"]) == 0
    found = json.loads(out.read_text())
    assert found["health"] == "training"
    assert (found["step"], found["total_steps"], found["seconds_left"]) == (4, 6, 1.0)
    assert found["checkpoint"]["step"] == 2
    assert (found["starts"], found["goodput"], found["loss"]) == (2, 0.75, 1.25)
    printed = capsys.readouterr().out
    for text in ("4 of 6 (67%)", "2 steps/s, 16 clips/s", "75%", "12.5 %", "step 2, 0 s ago"):
        assert text in printed


def test_silence_is_reported(workdir):
    kill(workdir)
    age(workdir, 599)
    assert status(workdir)["health"] == "training"
    age(workdir, 3 * 3600 + 61)
    found = status(workdir)
    assert found["health"] == "silent"
    assert "3 h 1 min" in found["reason"]


def test_the_patience_grows_with_the_step(workdir):
    kill(workdir)
    line = {"step": 5, "loss": 1.0, "step_seconds": 90.0, "step_seconds_max": 100.0}
    (workdir / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    age(workdir, 900)
    assert status(workdir)["health"] == "training"


def test_ends_have_reasons(workdir):
    began = time.time()
    with session(workdir):
        pass
    assert status(workdir)["health"] == "finished"
    with pytest.raises(RuntimeError), session(workdir):
        raise RuntimeError("SIGTERM: stopped after step 4")
    found = status(workdir)
    assert (found["health"], found["reason"]) == ("stopped", "SIGTERM: stopped after step 4")
    assert [line["event"] for line in read_history(workdir)] == ["start", "end"] * 2
    assert began <= first_start(workdir) <= time.time()


def test_only_one_process_writes(workdir):
    with session(workdir, silent=True):
        pass
    assert read_history(workdir) == []
    assert status(workdir)["health"] == "not started"


def test_no_run_is_one_line(tmp_path, capsys):
    assert main(["status", f"--workdir={tmp_path}"]) == 2
    assert "holds no run" in capsys.readouterr().err
