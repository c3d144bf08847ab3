"""The command as a user meets it: help, bad input, exit codes, and whole runs in this process."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from supclap_jax.cli.main import main

TINY = Path(__file__).parents[1] / "tiny.py"


@pytest.fixture
def train(soundscape, tmp_path):
    """Runs `supclap train` of the tiny recipe into `tmp_path / "run"`; returns the exit code."""

    def run(*overrides, variant="dynamic", workdir=tmp_path / "run"):
        data = f"--config.data.path={soundscape}"
        arguments = [f"--config={TINY}:{variant}", f"--workdir={workdir}", data, *overrides]
        return main(["train", *arguments])

    return run


def lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_help_has_an_example_for_every_command(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert "Exit codes" in text
    for command in (
        "train",
        "evaluate",
        "synthesize",
        "prepare",
        "plan",
        "status",
        "export-weights",
    ):
        assert command in text
        with pytest.raises(SystemExit):
            main([command, "--help"])
        assert f"supclap {command} --" in capsys.readouterr().out


def test_the_installed_command_answers():
    result = subprocess.run(
        [sys.executable, "-m", "supclap_jax.cli", "synthesize", "--out=x", "--clips=3"],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 2
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "arguments", [[], ["fly"], ["evaluate"], ["evaluate", "--workdir=x", "--y"]]
)
def test_wrong_arguments_exit_2(arguments):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2


def test_train_leaves_the_promised_files(train, tmp_path, capsys):
    workdir = tmp_path / "run"
    assert train("--config.profile.steps=2", "--config.profile.start=3") == 0
    names = {path.name for path in workdir.iterdir()}
    assert {"config.json", "metrics.jsonl", "tensorboard", "checkpoints", "figures"} <= names
    assert {path.name for path in (workdir / "figures").iterdir()} == {
        "confusion.png",
        "loss.png",
        "radius.png",
        "forces.png",
        "recall.png",
        "similarity.png",
    }
    assert any((workdir / "tensorboard").iterdir())
    logged = lines(workdir)
    assert [line["step"] for line in logged if "loss" in line] == list(range(1, 7))
    assert [line["step"] for line in logged if "validation/text_to_audio/R@1" in line] == [3, 6]
    named = {name for line in logged for name in line}
    assert named >= {
        "loss/base", "loss/svr", "loss/constraint", "gradient_norm", "temperature", "distance",
        "radius/text_mean", "radius/text_std", "contraction/audio", "recall/text_to_audio",
        "steps_per_second", "clips_per_second", "data_wait", "skipped", "step_seconds", "goodput",
    }  # fmt: skip
    report = json.loads((workdir / "evaluation.json").read_text())
    assert (report["clips"], report["captions"]) == (8, 40)
    assert report["step"] in (3, 6)
    printed = capsys.readouterr().out
    assert "Retrieval: 8 clips, 40 captions" in printed
    assert "similarity.png" in printed
    assert [line.split()[1] for line in printed.splitlines() if " step=" in line] == [
        f"step={step}/6" for step in range(1, 7)
    ]
    assert len(list((workdir / "profile").rglob("*.xplane.pb"))) == 1

    again = tmp_path / "again.json"
    before = (workdir / "evaluation.json").read_bytes()
    assert main(["evaluate", f"--workdir={workdir}", f"--json={again}", "--step=2"]) == 0
    assert json.loads(again.read_text())["step"] == 2
    assert (workdir / "evaluation.json").read_bytes() == before
    assert main(["evaluate", f"--workdir={workdir}", "--step=5"]) == 2
    assert "no checkpoint of step 5; there are 2, 3, 4, 6" in capsys.readouterr().err


def test_a_workdir_of_another_config_is_refused(train, tmp_path, capsys):
    assert train("--config.total_steps=1") == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    capsys.readouterr()
    assert train("--config.total_steps=1", "--config.text.dropout=0", "--config.seed=4") == 2
    assert "differs in seed, text.dropout" in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_a_workdir_of_other_data_is_refused(train, soundscape, tmp_path, capsys):
    assert train("--config.total_steps=1") == 0
    other = shutil.copytree(soundscape, tmp_path / "other")
    path = other / "clotho_captions_development.csv"
    rows = path.read_text().splitlines()
    path.write_text("\n".join(rows[:-1]) + "\n")
    capsys.readouterr()
    assert train("--config.total_steps=1", f"--config.data.path={other}") == 2
    assert "(28 clips then, 27 now)" in capsys.readouterr().err


def test_a_foreign_folder_is_not_written_to(train, tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("mine")
    assert train(workdir=tmp_path) == 2
    assert "is not empty and holds no run" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("--config.data.path=/nowhere", "there is no data folder '/nowhere'"),
        ("--config.data.path=", "data.path is not set"),
        ("--config.batch_size=29", "only 28 training clips"),
        ("--config.mesh.data=3", "batch_size 8 is not divisible by the 3 devices"),
        ("--config.data.languages=('spa_Latn','eng')", "names 'eng'"),
    ],
)
def test_bad_input_is_one_line_before_anything_is_written(
    train, tmp_path, capsys, override, message
):
    assert train(override) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_bad_clips_are_listed_or_skipped(train, soundscape, tmp_path, capsys):
    folder = shutil.copytree(soundscape, tmp_path / "data")
    audio = folder / "development"
    (audio / "development_00003.wav").write_bytes(b"")
    soundfile.write(audio / "development_00005.wav", np.full(9, np.nan), 16_000, "FLOAT")
    overrides = [f"--config.data.path={folder}", "--config.total_steps=1"]
    assert train(*overrides) == 2
    error = capsys.readouterr().err
    assert "2 of 28 audio files cannot be used" in error
    assert "development_00003.wav: the file is empty" in error
    assert train(*overrides, "--config.data.on_bad_clip=skip") == 0
    assert "2 bad audio files skipped, 26 development clips left." in capsys.readouterr().out


def test_divergence_stops_with_the_last_checkpoint_intact(train, tmp_path, capsys):
    """A temperature of 1e-39 makes the very first logits infinite."""
    overrides = ["--config.temperature.initial=1e-39", "--config.temperature.learned=false"]
    overrides += ["--config.max_bad_steps=4", "--config.total_steps=50", "--config.eval_every=50"]
    assert train(*overrides) == 4
    assert "4 steps in a row, up to step 4" in capsys.readouterr().err
    logged = lines(tmp_path / "run")
    assert [line["skipped"] for line in logged] == [1, 2, 3, 4]
    assert logged[0]["loss"] is None
    assert main(["evaluate", f"--workdir={tmp_path / 'run'}"]) == 0
    assert json.loads((tmp_path / "run" / "evaluation.json").read_text())["step"] == 2


def test_a_vocabulary_below_the_alphabet_is_said(train, capsys):
    assert train("--config.text.vocab_size=5") == 2
    assert "no tokenizer of text.vocab_size 5 can be trained" in capsys.readouterr().err


def test_synthesize_then_read_back(tmp_path, capsys):
    out = tmp_path / "data"
    command = ["synthesize", f"--out={out}", "--clips=10", "--seconds=2", "--format=flac"]
    assert main(command) == 0
    assert "7 development, 1 validation, 2 evaluation clips" in capsys.readouterr().out
    with (out / "clotho_captions_evaluation.csv").open(encoding="utf-8", newline="") as file:
        names = [row["file_name"] for row in csv.DictReader(file)]
    assert [soundfile.info(out / "evaluation" / name).subtype for name in names] == ["PCM_16"] * 2
    assert main([*command, "--seed=1"]) == 2
    assert "seed" in capsys.readouterr().err
