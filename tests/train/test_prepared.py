"""Every published set prepared, trained on together for a few steps, and evaluated."""

import json

import pytest

from supclap_jax.cli.main import main
from tests import tiny
from tests.data import published
from tests.data.published import write_csv, write_sound

pytestmark = pytest.mark.slow

TRAINED_ON = ("audiocaps", "audioset", "clotho", "table", "vggsound", "wavcaps", "webdataset")


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    for name in TRAINED_ON:
        source = published.make(name, tmp_path_factory.mktemp("published") / name)
        command = ["prepare", f"--format={name}", f"--source={source}", f"--out={folder / name}"]
        if name in published.TEMPLATES:
            command.append(f"--template={published.TEMPLATES[name]}")
        assert main(command) == 0
    return folder


def train(workdir, path, *overrides):
    overrides = [f"--config.{override}" for override in (f"data.path={path}", *overrides)]
    return main(["train", f"--config={tiny.PATH}:dynamic", f"--workdir={workdir}", *overrides])


def mixture(*names):
    return "data.mixture={" + ",".join(f"'{name}':{1 + i}" for i, name in enumerate(names)) + "}"


def test_a_mixture_of_all_sets_trains_and_is_evaluated(sets, tmp_path, capsys):
    """In two length buckets; a language that the evaluation set lacks is refused first."""
    options = [mixture(*TRAINED_ON), "data.evaluation=audiocaps", "data.buckets=(0.45,)"]
    options += ["data.languages=('eng_Latn','fra_Latn')"]
    assert train(tmp_path / "run", sets, *options) == 2  # AudioCaps has no French
    assert "clips have no captions in fra_Latn" in capsys.readouterr().err
    assert train(tmp_path / "run", sets, *options[:3], "total_steps=3") == 0
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert sum("loss" in json.loads(line) for line in lines) == 3
    report = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert (report["clips"], report["captions"]) == (3, 15)
    data = json.loads((tmp_path / "run" / "data.json").read_text())
    assert data["development"]["clips"] == 10 + 6 + 3 + 4 + 4 + 12 + 6

    source = published.make("esc50", tmp_path / "ESC-50")
    assert main(["prepare", "--format=esc50", f"--source={source}", f"--out={tmp_path / 'e'}"]) == 0
    out = tmp_path / "esc50.json"
    evaluate = ["evaluate", f"--workdir={tmp_path / 'run'}", f"--data={tmp_path / 'e'}"]
    assert main([*evaluate, f"--against={tmp_path / 'run'}", f"--json={out}"]) == 0
    report = json.loads(out.read_text())
    assert report["zero_shot"]["clips"] == report["clips"]
    assert report["against"]["zero_shot"]["accuracy"]["value"] == 0
    assert report["trained_on"] == 0

    capsys.readouterr()
    evaluate = ["evaluate", f"--workdir={tmp_path / 'run'}", f"--data={sets / 'wavcaps'}"]
    assert main([*evaluate, f"--json={out}"]) == 2
    assert "has no split 'test'" in capsys.readouterr().err
    assert main([*evaluate, "--split=train", f"--json={out}"]) == 0
    report = json.loads(out.read_text())
    assert report["trained_on"] == report["clips"] == 12
    assert "12 of the run's training clips are among these" in capsys.readouterr().out


@pytest.fixture(scope="module")
def bilingual(soundscape, tmp_path_factory):
    """A run of one step on English and French."""
    workdir = tmp_path_factory.mktemp("bilingual") / "run"
    options = ["total_steps=1", "data.languages=('eng_Latn','fra_Latn')"]
    assert train(workdir, soundscape, *options) == 0
    return workdir


def test_languages_of_the_evaluation_are_given(sets, bilingual, tmp_path, capsys):
    evaluate = ["evaluate", f"--workdir={bilingual}", f"--data={sets / 'audiocaps'}"]
    assert main(evaluate) == 2
    assert (
        "clips have no captions in fra_Latn; they have them in eng_Latn" in capsys.readouterr().err
    )
    out, classes = tmp_path / "audiocaps.json", tmp_path / "classes.txt"
    assert main([*evaluate, "--languages=eng_Latn", f"--json={out}"]) == 0
    assert json.loads(out.read_text())["clips"] == 3
    classes.write_text("rain\n")
    capsys.readouterr()
    assert main([*evaluate, "--languages=eng_Latn", f"--classes={classes}"]) == 2
    assert "are for clips with labels, and none of these has one" in capsys.readouterr().err


def test_a_split_that_is_called_as_one_of_clotho_is_evaluated(bilingual, tmp_path):
    rows = [("path", "caption", "split")]
    rows += [(f"{i}.wav", f"Sound {i}", "test" if i < 2 else "evaluation") for i in range(5)]
    write_csv(tmp_path / "in" / "clips.csv", rows)
    for name, *_ in rows[1:]:
        write_sound(tmp_path / "in" / name)
    source = ["--format=table", f"--source={tmp_path / 'in'}", f"--out={tmp_path / 'set'}"]
    assert main(["prepare", *source]) == 0
    evaluate = ["evaluate", f"--workdir={bilingual}", f"--data={tmp_path / 'set'}"]
    evaluate += ["--languages=eng_Latn"]
    for split, clips in {"test": 2, "evaluation": 3}.items():
        out = tmp_path / f"{split}.json"
        assert main([*evaluate, f"--split={split}", f"--json={out}"]) == 0
        assert json.loads(out.read_text())["clips"] == clips


def test_one_prepared_set_is_trained_on_as_it_is(sets, tmp_path, capsys):
    options = ["batch_size=2", "total_steps=2", "eval_every=2"]
    assert train(tmp_path / "run", sets / "clotho", *options) == 0
    report = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert (report["clips"], report["captions"]) == (3, 15)

    source = published.make("esc50", tmp_path / "ESC-50")
    assert main(["prepare", "--format=esc50", f"--source={source}", f"--out={tmp_path / 'e'}"]) == 0
    out = tmp_path / "esc50.json"
    evaluate = ["evaluate", f"--workdir={tmp_path / 'run'}", f"--data={tmp_path / 'e'}"]
    assert main([*evaluate, f"--json={out}"]) == 0
    report = json.loads(out.read_text())
    assert report["zero_shot"]["clips"] == report["clips"]
    assert (
        sum(fold["clips"] for fold in report["zero_shot"]["per_fold"].values()) == report["clips"]
    )
    assert "0" not in report["zero_shot"]["per_fold"]

    source = published.make("fsd50k", tmp_path / "FSD50K")
    assert (
        main(["prepare", "--format=fsd50k", f"--source={source}", f"--out={tmp_path / 'f'}"]) == 0
    )
    capsys.readouterr()
    evaluate = ["evaluate", f"--workdir={tmp_path / 'run'}", f"--data={tmp_path / 'f'}"]
    assert main([*evaluate, f"--json={out}"]) == 0
    report = json.loads(out.read_text())["zero_shot"]
    assert (report["clips"], report["classes"], "accuracy" in report) == (4, 4, False)
    assert set(report["mAP"]) == {"value", "low", "high"}
    assert "clips have several labels" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([mixture("audiocaps")], "data.mixture needs data.evaluation"),
        (["data.evaluation=audiocaps"], "only a run with data.mixture uses it"),
        ([mixture("nothing"), "data.evaluation=audiocaps"], "nothing is no prepared data set"),
        ([mixture("x/y"), "data.evaluation=audiocaps"], "expected folders inside data.path"),
        (["data.mixture={'a':-1}", "data.evaluation=a"], "gives 'a' the weight -1"),
        ([mixture("audiocaps"), "data.evaluation=wavcaps"], "has no split 'validation'"),
        (["data.buckets=(2.0,)"], "below audio.seconds, 1"),
        (["data.buckets=(0.5,)"], "data.buckets needs the lengths of all clips"),
    ],
)
def test_bad_mixtures_are_one_line(options, message, sets, soundscape, tmp_path, capsys):
    path = sets if any("mixture" in option for option in options) else soundscape
    assert train(tmp_path / "run", path, *options) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_leaks_stop_training_unless_they_are_accepted(sets, tmp_path, capsys):
    source = tmp_path / "in"
    write_sound(source / "0.wav")
    rows = [
        ("path", "caption", "id"),
        *(("0.wav", "x", f"youtube:-test00000{i}") for i in range(9)),
    ]
    write_csv(source / "clips.csv", rows)
    prepare = ["prepare", "--format=table", f"--source={source}"]
    assert main([*prepare, f"--out={sets / 'leaky'}"]) == 0
    options = [mixture("leaky"), "data.evaluation=audiocaps", "total_steps=1"]
    assert train(tmp_path / "run", sets, *options) == 2
    error = capsys.readouterr().err
    assert "3 training clips are in the evaluation data too" in error
    assert f"--exclude={sets / 'audiocaps'}" in error
    assert train(tmp_path / "run", sets, *options, "data.on_leak=warn") == 0
    assert "3 training clips are in the evaluation data too" in capsys.readouterr().out
    command = [*prepare, f"--out={sets / 'clean'}", f"--exclude={sets / 'audiocaps'}"]
    assert main(command) == 0
    report = json.loads((sets / "clean" / "report.json").read_text())
    assert (report["written"], report["excluded"]) == (6, 3)
