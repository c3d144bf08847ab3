"""Comparisons of a sweep whose results are made here, so that the truth is known."""

import csv
import json

import numpy as np
import pytest

from supclap_jax.cli.main import main
from supclap_jax.experiments.comparison import difference, read_groups, resampled_interval
from supclap_jax.experiments.comparison_figures import figures
from supclap_jax.experiments.comparison_report import report

CLIPS = 150
GAIN = {"info_nce": 0.0, "static": 2.0, "dynamic": 5.0}


@pytest.fixture
def swept(tmp_path):
    """Three variants of two sizes with three seeds; a run that failed, and a baseline too few."""
    rng, rows = np.random.default_rng(0), []
    hard = rng.normal(0, 20, CLIPS)
    for size in ("8", "16"):
        for seed in ("0", "1", "2"):
            of_seed = rng.normal(0, 1)
            for argument, gain in GAIN.items():
                name = f"{argument}-{size}-{seed}"
                value = 30 + gain * int(size) / 8 + of_seed + hard
                folder = tmp_path / "runs" / name
                folder.mkdir(parents=True)
                arrays = {f"R@1_{side}": value for side in ("text_to_audio", "audio_to_text")}
                np.savez(folder / "per_clip.npz", fingerprint="one", **arrays)
                rows.append([name, argument, size, seed, "1000", "0"])
    rows.append(["broken", "static", "32", "0", "1000", "4"])
    header = ["name", "argument", "audio.dim", "seed", "encoder_parameters", "exit_code"]
    with (tmp_path / "results.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return tmp_path


def test_what_is_paired_cancels_out(swept):
    """The noise of seeds and clips is common to all, so the differences are the gains, exactly."""
    groups = read_groups(swept, "argument")
    assert [(g.value, g.others) for g in groups[:3]] == [
        (argument, {"audio.dim": "8"}) for argument in GAIN
    ]
    small, large = groups[:3], groups[3:]
    for ours, theirs, gain in ((small[2], small[0], 5.0), (large[1], large[0], 4.0)):
        found = difference(ours, theirs, "R@1_text_to_audio")
        assert found.seeds == 3
        np.testing.assert_allclose([found.value, found.low, found.high], gain, atol=1e-9)


def test_runs_are_paired_whatever_their_recipes_argument(swept):
    """By a setting that it sets, among runs that differ in another one that it sets too."""
    with (swept / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["loss.svr.radius"] = "none" if row["argument"] == "info_nce" else row["argument"]
        row["loss.base"] = {"8": "info_nce", "16": "siglip", "32": "siglip"}[row["audio.dim"]]
    columns = ["name", "argument", "loss.base", "audio.dim", "loss.svr.radius", "seed"]
    columns += ["encoder_parameters", "exit_code"]
    with (swept / "results.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    groups = read_groups(swept, "loss.svr.radius")
    assert [(g.value, g.others) for g in groups] == [
        (value, {"loss.base": base})
        for base in ("info_nce", "siglip")
        for value in ("none", "static", "dynamic")
    ]


@pytest.mark.parametrize("seeds", [2, 5])
@pytest.mark.parametrize("spread", [(1.0, 0.3, 1.0), (0.0, 3.0, 5.0)])
def test_the_truth_is_inside_19_times_of_20(seeds, spread):
    """Whether seeds or clips make the noise; more often is allowed, since both are drawn anew."""
    rng, inside, trials = np.random.default_rng(1), 0, 200
    of_seed, of_clip, of_both = spread
    for trial in range(trials):
        values = 1.0 + of_seed * rng.normal(size=(seeds, 1)) + of_clip * rng.normal(size=(1, 60))
        values = values + of_both * rng.normal(size=(seeds, 60))
        low, high = resampled_interval(values, 300, trial)
        inside += low <= 1.0 <= high
    assert inside >= 0.92 * trials


def test_the_command_prints_and_writes_it(swept, capsys):
    assert main(["compare", str(swept), "--by=argument", "--baseline=info_nce"]) == 0
    printed = capsys.readouterr().out
    assert "R@1 text → audio, %" in printed
    assert "+10.0  [+10.0, +10.0]" in printed
    result = json.loads((swept / "comparison.json").read_text())
    assert [row["value"] for row in result["groups"]] == 2 * list(GAIN)
    first, *_, last = (row["R@1_audio_to_text"] for row in result["groups"])
    assert first["difference"] is None
    assert last["difference"]["value"] == pytest.approx(10)
    assert last["mean"] == pytest.approx(np.mean(last["by_seed"]))
    assert (swept / "comparison.png").stat().st_size > 10_000


def test_conditions_leave_runs_out(swept):
    where = ["audio.dim > 8", "argument != static", "argument != siglip"]
    groups = read_groups(swept, "argument", where)
    assert [(g.value, g.others) for g in groups] == [("info_nce", {}), ("dynamic", {})]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--by=argument", "--where=audio.dim > 99", "--where=seed == 0"], "have one value"),
        (["--by=argument", "--where=dim > 8"], "--where='dim > 8' names no column"),
        (["--by=dim"], "has no column 'dim'; it has cell, name, argument"),
        (["--by=encoder_parameters"], "have one value of 'encoder_parameters' or none"),
        (["--by=argument", "--baseline=siglip"], "'argument' is info_nce, static, dynamic"),
    ],
)
def test_bad_options_are_one_line(options, message, swept, capsys):
    assert main(["compare", str(swept), *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_bad_folders_are_one_line(swept, tmp_path, capsys):
    assert main(["compare", str(tmp_path / "none"), "--by=seed"]) == 2
    assert "holds no results.csv" in capsys.readouterr().err
    file = swept / "runs" / "static-8-1" / "per_clip.npz"
    np.savez(file, fingerprint="another", **{"R@1_text_to_audio": np.zeros(CLIPS)})
    assert main(["compare", str(swept), "--by=argument"]) == 2
    assert "were evaluated on different clips" in capsys.readouterr().err
    file.write_bytes(file.read_bytes()[:100])
    assert main(["compare", str(swept), "--by=argument"]) == 2
    assert "run 'supclap evaluate --workdir=" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda text: text.replace("exit_code", "code"), "expected exit_code as well"),
        (lambda text: text + "short,static\n", "is damaged: its row has 2 fields, expected 6"),
    ],
)
def test_a_bad_results_file_is_one_line(edit, message, swept, capsys):
    path = swept / "results.csv"
    path.write_text(edit(path.read_text()))
    assert main(["compare", str(swept), "--by=argument"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_best_value_at_the_edge_of_its_sweep_is_a_warning(swept, capsys):
    """The gains grow with what are rates here: of three the last is best; two are too few."""
    path, rates = swept / "results.csv", {"info_nce": "1e-4", "static": "1e-3", "dynamic": "1e-2"}
    lines = path.read_text().splitlines()
    rows = [line.split(",") for line in lines[1:]]
    rows = [",".join([name, rates[argument], *others]) for name, argument, *others in rows]
    path.write_text("\n".join([lines[0].replace("argument", "optimizer.learning_rate"), *rows]))
    command = ["compare", str(swept), "--by=optimizer.learning_rate"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    for size in (8, 16):
        assert f"at audio.dim {size}, 0.01, is the edge of its sweep, 0.0001 to 0.01" in printed
    assert main([*command, "--where=optimizer.learning_rate < 5e-3"]) == 0
    assert "Warning" not in capsys.readouterr().out


def test_cells_are_compared_by_name_and_drawn_over_their_steps(swept):
    """Runs of several settings that differ by name; the steps that all of a cell's runs have."""
    text = (swept / "results.csv").read_text().replace("dynamic-16-", "dynamic 16-")
    (swept / "results.csv").write_text(text)
    for seed in "012":
        (swept / "runs" / f"dynamic-16-{seed}").rename(swept / "runs" / f"dynamic 16-{seed}")
        steps = (10, 20, 30) if seed == "0" else (10, 30)
        lines = [{"step": step, "gradient_norm": step + int(seed)} for step in steps]
        path = swept / "runs" / f"dynamic 16-{seed}" / "metrics.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    groups = read_groups(swept, "cell", ["audio.dim != 32"])
    assert [g.value for g in groups][:4] == ["info_nce-8", "static-8", "dynamic-8", "info_nce-16"]
    assert all(g.seeds == ["0", "1", "2"] and g.others == {} for g in groups)
    result = report(groups, "cell", "info_nce-16")
    drawn = figures(result, groups, swept)
    assert list(drawn) == ["comparison", "gains", "steps"]
    (axes,) = drawn["steps"].axes
    (line,) = axes.lines
    assert line.get_label() == "dynamic 16"
    np.testing.assert_array_equal(line.get_xdata(), [10, 30])
    np.testing.assert_array_equal(line.get_ydata(), [11, 31])
    band = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == (10, 32)
    panel = drawn["gains"].axes[0]
    assert [tick.get_text() for tick in panel.get_yticklabels()][-1] == "dynamic 16"
    (point,) = panel.lines[-2].get_xdata()
    assert point == pytest.approx(10)
