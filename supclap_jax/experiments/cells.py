"""Cells of a study: settings that are compared, each with several seeds."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from supclap_jax.errors import ConfigError
from supclap_jax.experiments.sweep_file import SweepRun


class Cell(NamedTuple):
    """Runs that differ in their seed alone.

    Attributes:
      recipe: as of `supclap train --config`.
      overrides: fields of the recipe that are otherwise.
    """

    recipe: str
    overrides: Mapping[str, Any]


def seed_by_seed(cells: Mapping[str, Cell], argument: str) -> Iterator[SweepRun]:
    """All cells with the first seed, then with the next; a run is NAME-SEED.

    Args:
      cells: by name.
      argument: of the sweep: the number of seeds, and after commas cells, to leave all others out.

    Raises:
      ConfigError: the argument is not so.
    """
    seeds, *chosen = argument.split(",")
    if not seeds.isdecimal() or not set(chosen) <= set(cells):
        raise ConfigError(
            f"the argument of the sweep is {argument!r}; expected a number of seeds, and after "
            f"commas some of {', '.join(cells)}"
        )
    for seed in range(int(seeds)):
        for name in chosen or cells:
            recipe, overrides = cells[name]
            yield SweepRun(f"{name}-{seed}", recipe, {"seed": seed, **overrides})
