"""What a sweep's file may say, and the order in which its runs are done."""

import pytest

from supclap_jax.cli.main import main
from supclap_jax.experiments.sweep_file import families, read_sweep
from tests import tiny

HEAD = f"""
from supclap_jax.experiments.sweep_file import SweepRun
TINY = {str(tiny.PATH)!r}

def get_sweep(arg="x"):
"""


@pytest.fixture
def sweep(tmp_path):
    """Writes the body of `get_sweep`; returns the file."""

    def write(body, head=HEAD):
        path = tmp_path / "sweep.py"
        path.write_text(head + "".join(f"    {line}\n" for line in body.splitlines()))
        return path

    return write


def test_trunks_come_before_their_branches_and_families_stay_together(sweep, tmp_path):
    file = sweep(
        'wsd = {"optimizer.schedule": "wsd", "optimizer.decay_steps": 2}\n'
        'yield SweepRun("late", f"{TINY}:info_nce", wsd, trunk="trunk", branch_step=4)\n'
        'yield SweepRun("alone", f"{TINY}:{arg}", {"seed": 3, "data.languages": ("fra_Latn",)})\n'
        'yield SweepRun("trunk", f"{TINY}:info_nce", {"optimizer.schedule": "constant"})\n'
    )
    planned = read_sweep(f"{file}:static", tmp_path / "out")
    assert [plan.run.name for plan in planned] == ["alone", "trunk", "late"]
    names = [[plan.run.name for plan in family] for family in families(planned)]
    assert names == [["alone"], ["trunk", "late"]]
    alone, _, late = planned
    assert (alone.config.seed, alone.config.data.languages) == (3, ("fra_Latn",))
    assert alone.config.loss.svr.radius == "static"
    assert late.config.branch.run == str(tmp_path / "out" / "runs" / "trunk")
    assert late.config.branch.step == 4
    assert [plan.config.keep_steps for plan in planned] == [(), (4,), ()]


BAD = {
    "return [": "line 6 fails: SyntaxError",
    "return 1 / 0": "line 6 fails: ZeroDivisionError: division by zero",
    "import nothing_of_the_kind": "ModuleNotFoundError: No module named 'nothing_of_the_kind'",
    "raise SystemExit(0)": "line 6 fails: SystemExit: 0",
    "return []": "gives no runs",
    "return 3": "gives a int; expected runs",
    'yield "info_nce"': "gives a str; expected runs",
    'yield SweepRun("../a", TINY)': "a run of the sweep is named '../a'; expected letters",
    'yield SweepRun("a", TINY)\nyield SweepRun("a", TINY)': "two runs of the sweep are named 'a'",
    'yield SweepRun("a", "none.py")': "run 'a' of the sweep: there is no recipe 'none.py'",
    'yield SweepRun("a", TINY, {"sed": 1})': "run 'a' of the sweep: ",
    'yield SweepRun("a", TINY, trunk="b", branch_step=2)': "branches from 'b', which is not in",
    'yield SweepRun("a", TINY, trunk="a")': "trunk 'a' and branch_step None; expected both",
    'yield SweepRun("a", 3)': "recipe of a run of the sweep is 3; expected a string, such as",
    'yield SweepRun("a", TINY, ["seed"])': "overrides of a run of the sweep is ['seed']",
    'yield SweepRun("a", TINY, trunk="a", branch_step="4")': "branch_step of a run of the sweep is",
    "return map(lambda x: 1 / x, [0])": "fails: ZeroDivisionError",
    'yield SweepRun("a", TINY, {"total_steps": 4, "optimizer.schedule": "constant"})\n'
    'yield SweepRun("b", TINY, {"total_steps": 9}, "a", 8)': "branch.step is 8, but",
    'yield SweepRun("a", TINY, {"optimizer.schedule": "constant"})\n'
    'yield SweepRun("b", TINY, {"seed": 1}, "a", 4)': "cannot differ from it in seed",
    'yield SweepRun("a", TINY)\n'
    'yield SweepRun("b", TINY, {"total_steps": 9}, "a", 4)': "another learning rate than they had",
    'yield SweepRun("a", TINY, trunk="b", branch_step=2)\n'
    'yield SweepRun("b", TINY, trunk="a", branch_step=2)': "branch from each other in a circle",
}


@pytest.mark.parametrize("body", BAD)
def test_bad_files_are_one_line(body, sweep, tmp_path, capsys):
    assert main(["sweep", str(sweep(body)), f"--out={tmp_path / 'out'}"]) == 2
    error = capsys.readouterr().err
    assert BAD[body] in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_file_without_get_sweep_is_one_line(sweep, tmp_path, capsys):
    assert main(["sweep", str(sweep("", head="x = 1\n")), f"--out={tmp_path / 'out'}"]) == 2
    assert "has no function get_sweep" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--only", "b"], "the sweep has no run 'b'; it has a"),
        (["--index=0"], "--index and --of go together"),
        (["--index=2", "--of=2"], "expected 0 to 2 - 1"),
        (["--jobs=0"], "--jobs is 0"),
        (["--topology=v5e:2x2"], "only used by --dry-run"),
        (["--dry-run", "--status"], "expected one of them"),
    ],
)
def test_bad_options_are_one_line(options, message, sweep, tmp_path, capsys):
    file = sweep('yield SweepRun("a", TINY)')
    assert main(["sweep", str(file), f"--out={tmp_path / 'out'}", *options]) == 2
    assert message in capsys.readouterr().err


def test_a_dry_run_of_what_does_not_fit_the_topology_is_one_line(sweep, monkeypatch, capsys):
    monkeypatch.setattr("supclap_jax.experiments.costs.plan", lambda *_: {"memory": None})
    file = sweep('yield SweepRun("large", f"{TINY}:static")\n')
    command = ["sweep", str(file), "--out=out", "--dry-run", "--topology=v5e:2x2"]
    assert main(command) == 3
    error = capsys.readouterr().err
    assert "does not fit the memory of v5e:2x2; see 'supclap plan'" in error
    assert error.count("\n") == 1
