"""The sweeps of this repository can be run; cells come seed by seed."""

from pathlib import Path

import pytest

from supclap_jax.errors import ConfigError
from supclap_jax.experiments.cells import Cell, seed_by_seed
from supclap_jax.experiments.sweep_file import read_sweep

SWEEPS = sorted(path.stem for path in (Path(__file__).parents[2] / "configs/sweeps").glob("*.py"))
CELLS = {"a": Cell("soundscape:static", {"total_steps": 9}), "b": Cell("soundscape", {})}


@pytest.mark.parametrize("name", SWEEPS)
def test_every_sweep_names_runs_that_can_be(name, tmp_path):
    planned = read_sweep(name, tmp_path)
    trunks = {plan.run.trunk for plan in planned}
    assert len({str(plan.config) for plan in planned if plan.run.name not in trunks}) > 1


def test_seed_by_seed():
    runs = list(seed_by_seed(CELLS, "2"))
    assert [run.name for run in runs] == ["a-0", "b-0", "a-1", "b-1"]
    assert runs[2].overrides == {"seed": 1, "total_steps": 9}
    assert [run.name for run in seed_by_seed(CELLS, "2,b")] == ["b-0", "b-1"]


@pytest.mark.parametrize("argument", ["x", "", "2,c", "-1", "2,"])
def test_what_names_no_cells_is_refused(argument):
    with pytest.raises(ConfigError, match="after commas some of a, b"):
        list(seed_by_seed(CELLS, argument))
