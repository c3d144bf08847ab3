"""`supclap evaluate` on trained runs: other data, prompts, styles, and against another run."""

import hashlib
import json
import shutil
from pathlib import Path

import jax
import pytest

import supclap_jax
from supclap_jax.cli.main import main
from supclap_jax.data.clotho import read_clotho
from supclap_jax.data.opening import load_clips
from supclap_jax.evaluate.scoring import validate
from supclap_jax.inference.embedder import Embedder
from supclap_jax.models.dual_encoder import make_model
from supclap_jax.runs.mesh import batch_sharding, make_mesh
from supclap_jax.runs.run import Run
from supclap_jax.runs.states import init_states, variables_of
from tests import tiny

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def runs(soundscape, tmp_path_factory):
    """Two runs of one and of two steps, `1` and `2`."""
    folder = tmp_path_factory.mktemp("runs")
    overrides = [f"--config.data.path={soundscape}", "--config.optimizer.learning_rate=0.1"]
    overrides += ["--config.total_steps=2", "--config.eval_every=1"]
    workdir = f"--workdir={folder / '1'}"
    assert main(["train", f"--config={tiny.PATH}:info_nce", workdir, *overrides]) == 0
    shutil.copytree(folder / "1", folder / "2")
    shutil.rmtree(folder / "1" / "checkpoints" / "2")
    shutil.rmtree(folder / "2" / "checkpoints" / "1")
    for name in "12":
        assert main(["evaluate", f"--workdir={folder / name}"]) == 0
    return folder


@pytest.fixture
def evaluate(runs, tmp_path):
    """Evaluates the first run; returns exit code and report."""

    def run(*options):
        out = tmp_path / "report.json"
        code = main(["evaluate", f"--workdir={runs / '1'}", f"--json={out}", *options])
        return code, json.loads(out.read_text()) if out.exists() else None

    return run


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_plain_evaluation_goes_into_the_folder_of_the_run(evaluate, runs, tmp_path):
    code, report = evaluate()
    assert code == 0
    assert report == json.loads((runs / "1" / "evaluation.json").read_text())
    assert list(report) == [
        "step", "clips", "captions", "retrieval", "entropy", "per_language", "languages",
        "zero_shot", "geometry", "recall_by", "texts", "audio", "made_by",
    ]  # fmt: skip
    made_by = report["made_by"]
    config = (runs / "1" / "config.json").read_bytes()
    assert made_by["config"] == hashlib.sha256(config).hexdigest()
    assert made_by["supclap_jax"] == supclap_jax.__version__
    assert (made_by["run"], made_by["split"]) == (str(runs / "1"), "test")
    started = json.loads((runs / "1" / "history.jsonl").read_text().splitlines()[0])
    assert started["jax"] == made_by["jax"] == jax.__version__
    assert (runs / "1" / "figures" / "confusion.png").is_file() == bool(report["zero_shot"])
    assert (tmp_path / "report.confusion.png").is_file() == bool(report["zero_shot"])


def test_options_leave_the_folder_of_the_run_alone(evaluate, runs, tmp_path, capsys):
    _, plain = evaluate()
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("This is a sound of {}.\n")
    before = contents(runs)
    styles = [f"--metric-style={style}" for style in ("laion", "cacophony", "dcase", "laion")]
    code, report = evaluate("--step=1", f"--prompts={prompts}", *styles)
    assert code == 0
    assert contents(runs) == before
    assert list(report.pop("metric_styles")) == ["laion", "cacophony", "dcase"]
    assert report.pop("made_by").keys() == plain.pop("made_by").keys()
    assert report == plain
    assert "DCASE 2025: 40 queries" in capsys.readouterr().out


def test_other_sounds_than_the_run_began_with_are_refused(runs, soundscape, tmp_path, capsys):
    """Under the same name and of the same length; results stay as they were."""
    workdir = shutil.copytree(runs / "1", tmp_path / "run")
    data = shutil.copytree(soundscape, tmp_path / "data")
    first, second, *_ = sorted((data / "evaluation").iterdir())
    first.write_bytes(second.read_bytes())
    config = json.loads((workdir / "config.json").read_text())
    config["data"]["path"] = str(data)
    (workdir / "config.json").write_text(json.dumps(config))
    before = (workdir / "evaluation.json").read_bytes()
    assert main(["evaluate", f"--workdir={workdir}"]) == 2
    assert "the test sounds are not those that the run" in capsys.readouterr().err
    assert (workdir / "evaluation.json").read_bytes() == before


def test_what_becomes_of_captions_and_long_clips_is_told(evaluate, runs, capsys):
    """The clips last some seconds, the model hears one: the beginning, or the mean of windows."""
    _, crop = evaluate()
    said = " ".join(capsys.readouterr().out.split())
    assert crop["audio"] == {"longer": 8, "long_audio": "crop"}
    assert "8 clips are longer than 1 s; their beginning was heard" in said
    assert f"{crop['texts']['cut']} of 40 captions are longer than the text encoder reads" in said
    _, windows = evaluate("--long-audio=windows")
    assert "they are the mean of their windows" in " ".join(capsys.readouterr().out.split())
    assert windows["audio"] == {"longer": 8, "long_audio": "windows"}
    assert windows["texts"] == crop["texts"]
    assert windows["retrieval"] != crop["retrieval"]


def test_a_run_of_a_larger_mesh_is_evaluated_on_the_devices_at_hand(evaluate, runs, tmp_path):
    _, here = evaluate()
    large = shutil.copytree(runs / "1", tmp_path / "large")
    config = json.loads((large / "config.json").read_text())
    config["mesh"].update(data=16, fsdp=8)
    (large / "config.json").write_text(json.dumps(config))
    code, there = evaluate(f"--workdir={large}")
    assert code == 0
    for direction, metrics in there["retrieval"].items():
        for name, cell in metrics.items():
            assert cell["value"] == pytest.approx(here["retrieval"][direction][name]["value"])


def test_a_folder_that_cannot_be_written_to_loses_only_the_files(runs, tmp_path, capsys):
    """The tables are printed, then a line says what is wrong."""
    workdir = shutil.copytree(runs / "1", tmp_path / "run")
    (workdir / "evaluation.json").unlink()
    (workdir / "evaluation.json").mkdir()
    capsys.readouterr()
    assert main(["evaluate", f"--workdir={workdir}"]) == 6
    out, err = capsys.readouterr()
    assert "Retrieval: 8 clips" in out
    assert "the results above cannot be written" in err and err.count("\n") == 1


def test_another_data_folder(evaluate, soundscape, runs, tmp_path, capsys):
    other = shutil.copytree(soundscape, tmp_path / "other")
    path = other / "clotho_captions_evaluation.csv"
    path.write_text("\n".join(path.read_text().splitlines()[:-3]) + "\n")
    before = contents(runs)
    code, report = evaluate(f"--data={other}")
    assert (code, report["clips"], report["captions"]) == (0, 5, 25)
    assert "Retrieval: 5 clips, 25 captions" in capsys.readouterr().out
    assert contents(runs) == before
    assert main(["evaluate", f"--workdir={runs / '1'}", f"--data={tmp_path / 'no'}"]) == 2
    assert "there is no data folder" in capsys.readouterr().err


def test_against_another_run(evaluate, runs, capsys):
    _, ours = evaluate()
    theirs = json.loads((runs / "2" / "evaluation.json").read_text())
    assert ours["retrieval"] != theirs["retrieval"]
    code, report = evaluate(f"--against={runs / '2'}")
    assert code == 0
    against = report["against"]
    assert (against["workdir"], against["step"]) == (str(runs / "2"), 2)
    for direction, metrics in against["retrieval"].items():
        for name, cell in metrics.items():
            assert cell["ours"] == ours["retrieval"][direction][name]["value"]
            assert cell["theirs"] == theirs["retrieval"][direction][name]["value"]
            assert cell["value"] == pytest.approx(cell["ours"] - cell["theirs"])
            assert cell["low"] <= cell["high"] and 0 < cell["p_value"] <= 1
    printed = " ".join(capsys.readouterr().out.split())  # a long title is wrapped
    assert "paired bootstrap over clips" in printed
    _, itself = evaluate(f"--against={runs / '1'}")
    cell = itself["against"]["retrieval"]["audio_to_text"]["mean_rank"]
    assert (cell["value"], cell["low"], cell["high"], cell["p_value"]) == (0, 0, 0, 1)


def test_runs_on_different_clips_are_not_compared(evaluate, runs, soundscape, tmp_path, capsys):
    other_data = shutil.copytree(soundscape, tmp_path / "data")
    path = other_data / "clotho_captions_evaluation.csv"
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")
    other_run = shutil.copytree(runs / "2", tmp_path / "run")
    config = json.loads((other_run / "config.json").read_text())
    config["data"]["path"] = str(other_data)
    (other_run / "config.json").write_text(json.dumps(config))
    capsys.readouterr()
    assert evaluate(f"--against={other_run}")[0] == 2
    error = capsys.readouterr().err
    assert "8 clips with eng_Latn" in error and "7 with eng_Latn" in error
    assert "--data=DIR" in error and error.count("\n") == 1
    code, report = evaluate(f"--against={other_run}", f"--data={other_data}")
    assert (code, report["clips"]) == (0, 7)


def test_annotated_queries(evaluate, soundscape, tmp_path):
    clips = read_clotho(Path(soundscape), "evaluation", ("eng_Latn",))
    names = [path.name for path in clips.paths]
    relevance = tmp_path / "relevance.csv"
    captions = clips.captions["eng_Latn"]
    lines = [f'"{captions[i][0]}","{names[i : i + 2]}"' for i in range(3)]
    relevance.write_text("\n".join(["query,audio_filenames", *lines]) + "\n")
    code, report = evaluate("--metric-style=dcase", f"--relevance={relevance}")
    result = report["metric_styles"]["dcase"]["text_to_audio"]
    assert (code, result["queries"]) == (0, 3)
    assert 0 < result["mAP@16"] < 100


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--relevance=x.csv"], "only used by --metric-style=dcase"),
        (["--metric-style=dcase", "--relevance=/no/x.csv"], "cannot read '/no/x.csv'"),
        (["--prompts=/no/prompts.txt"], "cannot read the prompts in '/no/prompts.txt'"),
        (["--against=/no"], "/no holds neither a run nor"),
        (["--json=/no/report.json"], "cannot write '/no/report.json'"),
        (["--step=7"], "holds no checkpoint of step 7; there are 1"),
        (
            ["--languages=por_Latn"],
            "has no token for 'por_Latn', a language to be used; it has",
        ),
        (["--languages=english"], "has no token for 'english'"),
    ],
)
def test_bad_options_are_one_line(runs, capsys, options, message):
    before = contents(runs)
    capsys.readouterr()
    assert main(["evaluate", f"--workdir={runs / '1'}", *options]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert contents(runs) == before


def test_an_unknown_style_names_the_known_ones(runs, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", f"--workdir={runs / '1'}", "--metric-style=clap"])
    assert stop.value.code == 2
    assert "laion" in capsys.readouterr().err


def measured(path):
    """The report without where it comes from."""
    report = json.loads(path.read_text())
    return {key: value for key, value in report.items() if key != "made_by"}


def test_an_export_is_evaluated_as_its_run(evaluate, runs, tmp_path, capsys):
    folder = tmp_path / "exported"
    assert main(["export", f"--model={runs / '1'}", f"--out={folder}"]) == 0
    assert {path.name for path in folder.iterdir()} == {
        *("model.safetensors", "config.json", "tokenizer.model", "export.json", "README.md")
    }
    before = contents(runs)
    code, _ = evaluate(f"--per-clip={tmp_path / 'a.csv'}")
    out = tmp_path / "of_export.json"
    assert (code, main(["evaluate", f"--model={folder}", f"--json={out}"])) == (0, 0)
    assert measured(out) == measured(tmp_path / "report.json")
    assert json.loads(out.read_text())["made_by"]["run"] == str(folder)
    assert contents(runs).keys() == before.keys()
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 1 + 40 + 8
    assert "R@1 by words of the caption" in capsys.readouterr().out

    assert main(["export", f"--model={runs / '1'}", f"--out={folder}"]) == 2
    assert main(["evaluate", f"--model={folder}", "--figures=pdf"]) == 2
    assert "--figures=pdf is of the plain evaluation of a run" in capsys.readouterr().err
    assert main(["evaluate", f"--model={folder}", "--step=7"]) == 2
    assert "is an export of step 1, and has no step 7" in capsys.readouterr().err
    config = json.loads((folder / "config.json").read_text())
    config["projection_dim"] *= 2
    (folder / "config.json").write_text(json.dumps(config))
    assert main(["evaluate", f"--model={folder}"]) == 2
    assert "are of different models" in capsys.readouterr().err
    assert main(["evaluate", f"--workdir={folder}"]) == 2
    assert "wrote, and no run; give it as --model" in capsys.readouterr().err
    assert not (folder / "checkpoints").exists()
    weights = (folder / "model.safetensors").read_bytes()
    for damaged in (weights[:-9], b"", b"\x80\x04K"):
        (folder / "model.safetensors").write_bytes(damaged)
        assert main(["evaluate", f"--model={folder}"]) == 2
        assert "is not a whole export" in capsys.readouterr().err


def test_step_0_is_what_a_run_began_with(runs, tmp_path, capsys):
    begun = tmp_path / "begun.json"
    assert main(["evaluate", f"--workdir={runs / '1'}", "--step=0", f"--json={begun}"]) == 0
    assert "Before the first step of training." in capsys.readouterr().out
    config, mesh = Run(runs / "1").config, make_mesh(1, 8)
    states = init_states(config, mesh)
    clips = load_clips(config, "test")
    tower, sharding = make_model(config), batch_sharding(mesh)
    embedder = Embedder(tower, Run(runs / "1").tokenizer, config, sharding)
    table = validate(embedder, variables_of(states.dual, config), clips)
    for direction, metrics in measured(begun)["retrieval"].items():
        assert {name: cell["value"] for name, cell in metrics.items()}.items() <= (
            table[direction].items()
        )
    trained = json.loads((runs / "1" / "evaluation.json").read_text())
    assert (measured(begun)["step"], trained["step"]) == (0, 1)
    assert measured(begun)["entropy"] != trained["entropy"]


def test_published_weights_are_evaluated_without_a_run(evaluate, runs, soundscape, tmp_path):
    """Those of the run, under ML-CLAP's names."""
    weights, named = tmp_path / "weights.safetensors", tmp_path / "named.json"
    export = ["export-weights", f"--workdir={runs / '1'}", f"--out={weights}", "--names=ml-clap"]
    assert main(export) == 0
    assert weights.stat().st_mode & 0o777 == (runs / "1" / "config.json").stat().st_mode & 0o777
    options = [f"--config.text.tokenizer={runs / '1' / 'tokenizer.model'}"]
    options += [f"--config.data.path={soundscape}", f"--config.pretrained={weights}"]
    assert main(["evaluate", f"--config={tiny.PATH}:info_nce", *options, f"--json={named}"]) == 0
    evaluate()
    assert measured(named) == measured(tmp_path / "report.json") | {"step": 0}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--config=soundscape", "--step=3"], "--step is of a run's checkpoints"),
        (["--config=soundscape"], "soundscape names no weights of both towers; without a run"),
        (["--model=nowhere"], "nowhere holds neither a run nor what 'supclap export' writes"),
        (["--workdir=nowhere"], "nowhere holds no run"),
    ],
)
def test_one_model_is_evaluated(options, message, capsys):
    assert main(["evaluate", *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
