"""`supclap train` and `supclap evaluate` as users meet them: files, output, bad input, codes."""

import contextlib
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from supclap_jax import console
from supclap_jax.cli.main import main

pytestmark = pytest.mark.slow

TINY = Path(__file__).parents[1] / "tiny.py"
OPTIONS = [  # of the run that most tests share
    "--config.data.on_bad_clip=skip",
    "--config.profile.steps=2",
    "--config.profile.start=3",
]


def train(workdir, data, *overrides, variant="dynamic"):
    data = f"--config.data.path={data}"
    return main(["train", f"--config={TINY}:{variant}", f"--workdir={workdir}", data, *overrides])


def lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def bad_clips(soundscape, tmp_path_factory):
    """The data set with 2 of its 28 training clips damaged."""
    folder = shutil.copytree(soundscape, tmp_path_factory.mktemp("bad") / "data")
    (folder / "development" / "development_00003.wav").write_bytes(b"")
    silent = np.full(9, np.nan)
    soundfile.write(folder / "development" / "development_00005.wav", silent, 16_000, "FLOAT")
    return folder


@pytest.fixture(scope="module")
def run(bad_clips, tmp_path_factory):
    """A finished run on it that skipped them, and what it printed."""
    workdir, printed = tmp_path_factory.mktemp("train") / "run", io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setattr(console, "INTERVAL", 0.2)
        code = train(workdir, bad_clips, *OPTIONS)
    assert code == 0
    return workdir, printed.getvalue()


def test_long_parts_say_what_they_do(run):
    _, printed = run
    assert re.search(r"^training: 0 of 6, compiling, 0:00:\d\d so far$", printed, re.MULTILINE)
    assert "training: 3 of 6, validating" in printed
    assert "evaluating step 6 on" in printed


def test_a_run_leaves_the_promised_files(run):
    workdir, _ = run
    names = {path.name for path in workdir.iterdir()}
    assert {"config.json", "metrics.jsonl", "tensorboard", "checkpoints", "figures"} <= names
    assert {path.name for path in (workdir / "figures").iterdir()} == {
        "confusion.png",
        "loss.png",
        "radius.png",
        "forces.png",
        "recall.png",
        "similarity.png",
        "training.png",
    }
    assert any((workdir / "tensorboard").iterdir())
    assert len(list((workdir / "profile").rglob("*.xplane.pb"))) == 1
    logged = lines(workdir)
    assert [line["step"] for line in logged if "loss" in line] == list(range(1, 7))
    assert [line["step"] for line in logged if "validation/text_to_audio/R@1" in line] == [3, 6]
    assert [line["step"] for line in logged if "validation/audio_to_text/entropy" in line] == [3, 6]
    named = {name for line in logged for name in line}
    assert named >= {
        "loss/base", "loss/svr", "loss/constraint", "gradient_norm", "temperature", "distance",
        "radius/text_mean", "radius/text_std", "contraction/audio", "R@1/text_to_audio",
        "steps_per_second", "clips_per_second", "data_wait", "skipped", "step_seconds", "goodput",
    }  # fmt: skip
    report = json.loads((workdir / "evaluation.json").read_text())
    assert (report["clips"], report["captions"], report["entropy"]["candidates"]) == (8, 40, 8)
    assert report["step"] in (3, 6)


def test_a_run_prints_its_steps_and_its_report(run):
    _, printed = run
    assert "2 bad audio files skipped, 26 development clips left." in printed
    assert "Retrieval: 8 clips, 40 captions" in printed
    assert "(4 clips); entropy" in printed
    assert "of 130 captions are longer than the text encoder reads" in printed
    assert "8 clips are longer than 1 s" in printed
    assert "similarity.png" in printed
    assert [line.split()[1] for line in printed.splitlines() if " step=" in line] == [
        f"step={step}/6" for step in range(1, 7)
    ]


def test_another_step_is_evaluated_beside_the_run(run, tmp_path, capsys):
    workdir, _ = run
    again = tmp_path / "again.json"
    before = contents(workdir)
    assert main(["evaluate", f"--workdir={workdir}", f"--json={again}", "--step=2"]) == 0
    assert json.loads(again.read_text())["step"] == 2
    assert main(["evaluate", f"--workdir={workdir}", "--step=5"]) == 2
    assert "no checkpoint of step 5; there are 2, 3, 4, 6" in capsys.readouterr().err
    assert contents(workdir) == before


def test_a_workdir_of_another_config_is_refused(run, bad_clips, capsys):
    workdir, _ = run
    before = contents(workdir)
    changes = ["--config.text.dropout=0", "--config.seed=4"]
    assert train(workdir, bad_clips, *OPTIONS, *changes) == 2
    assert "differs in seed, text.dropout" in capsys.readouterr().err
    assert contents(workdir) == before


def test_a_workdir_of_other_data_is_refused(run, bad_clips, tmp_path, capsys):
    workdir, _ = run
    other = shutil.copytree(bad_clips, tmp_path / "other")
    path = other / "clotho_captions_development.csv"
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")
    assert train(workdir, other, *OPTIONS) == 2
    assert "(26 clips then, 25 now)" in capsys.readouterr().err


def test_a_foreign_folder_is_not_written_to(soundscape, tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("mine")
    assert train(tmp_path, soundscape) == 2
    assert "is not empty and holds no run" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.path=/nowhere", "there is no data folder '/nowhere'"),
        ("data.path=", "data.path is not set"),
        ("batch_size=29", "only 28 training clips"),
        ("mesh.data=3", "batch_size 8 is not divisible by the 3 devices"),
        ("data.languages=('spa_Latn','eng')", "names 'eng'"),
    ],
)
def test_bad_input_is_one_line_before_anything_is_written(
    soundscape, tmp_path, capsys, override, message
):
    assert train(tmp_path / "run", soundscape, f"--config.{override}") == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_bad_clips_are_listed(bad_clips, tmp_path, capsys):
    assert train(tmp_path / "run", bad_clips) == 2
    error = capsys.readouterr().err
    assert "2 of 28 audio files cannot be used" in error
    assert "development_00003.wav: the file is empty" in error


def test_divergence_stops_with_the_last_checkpoint_intact(soundscape, tmp_path, capsys):
    """Also of a run that is too short for `max_bad_steps`: it did not finish."""
    workdir = tmp_path / "run"
    overrides = ["--config.loss.base=tests.losses.never_finite:never_finite"]
    overrides += ["--config.max_bad_steps=4", "--config.eval_every=50"]
    short = [*overrides, "--config.total_steps=3"]
    assert train(tmp_path / "short", soundscape, *short, variant="info_nce") == 4
    assert "none of the 3 steps was finite" in capsys.readouterr().err
    overrides += ["--config.total_steps=50"]
    assert train(workdir, soundscape, *overrides, variant="info_nce") == 4
    assert "4 steps in a row, up to step 4" in capsys.readouterr().err
    logged = lines(workdir)
    assert [line["skipped"] for line in logged] == [1, 2, 3, 4]
    assert logged[0]["loss"] is None
    assert main(["evaluate", f"--workdir={workdir}"]) == 0
    report = json.loads((workdir / "evaluation.json").read_text())
    assert report["step"] == 2


def test_a_vocabulary_below_the_alphabet_is_said(soundscape, tmp_path, capsys):
    assert train(tmp_path / "run", soundscape, "--config.text.vocab_size=5") == 2
    assert "no tokenizer of text.vocab_size 5 can be trained" in capsys.readouterr().err
