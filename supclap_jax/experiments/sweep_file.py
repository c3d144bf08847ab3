"""A sweep: many runs that one file names, in the order in which they need each other."""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from supclap_jax.config import read_config
from supclap_jax.config.python_files import call_in_file
from supclap_jax.errors import ConfigError
from supclap_jax.runs.branch import check_configs

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclasses.dataclass(frozen=True)
class SweepRun:
    """One run, as `get_sweep` of a sweep's file yields it.

    Attributes:
      name: of its folder: letters, digits, ".", "_" and "-".
      recipe: as of `supclap train --config`, such as "soundscape:static".
      overrides: fields of the recipe that are otherwise, such as {"optimizer.learning_rate": 1e-3}.
      trunk: name of the run whose checkpoint it starts from; None: from the beginning.
      branch_step: step of that checkpoint.
    """

    name: str
    recipe: str
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    trunk: str | None = None
    branch_step: int | None = None


class Planned(NamedTuple):
    """A run whose config is known to be valid.

    Attributes:
      run: as the file has it.
      config: of the run, checked.
      flags: of `supclap train` that make this config.
    """

    run: SweepRun
    config: ConfigDict
    flags: list[str]


def workdir_of(out: Path, name: str) -> Path:
    """The folder of a run in the folder of a sweep."""
    return out / "runs" / name


def read_sweep(reference: str, out: Path) -> list[Planned]:
    """The runs of a sweep, trunks before what branches from them.

    Args:
      reference: of the file whose `get_sweep` yields `SweepRun`s, as of `supclap sweep`.
      out: folder of the sweep.

    Raises:
      ConfigError: the file fails; or its runs are none, of one name, of an unknown recipe, with
        overrides that cannot be, or branches of trunks that are not in it or of each other.
    """
    runs = call_in_file("sweep", reference, "get_sweep")
    file = reference.partition(":")[0]
    if not isinstance(runs, Iterable):
        runs = [runs]
    runs = list(runs)
    for run in runs:
        if not isinstance(run, SweepRun):
            raise ConfigError(
                f"get_sweep of {file} gives a {type(run).__name__}; expected runs, each a "
                "supclap_jax.experiments.sweep_file.SweepRun"
            )
    if not runs:
        raise ConfigError(f"get_sweep of {file} gives no runs")
    for run in runs:
        _check_types(run)
    _check_names(runs)
    planned = {}
    for run in _in_order_of_need(runs):
        planned[run.name] = _planned(run, out, _branch_steps(run, runs), planned.get(run.trunk))
    return list(planned.values())


def families(planned: Iterable[Planned]) -> list[list[Planned]]:
    """Runs that need each other together: a trunk with all that branches from it, in order."""
    roots, found = {}, {}
    for plan in planned:
        root = roots[plan.run.name] = roots.get(plan.run.trunk, plan.run.name)
        found.setdefault(root, []).append(plan)
    return list(found.values())


def _check_types(run: SweepRun) -> None:
    expected = {
        "name": (str, "a string"),
        "recipe": (str, "a string, such as soundscape:static"),
        "overrides": (Mapping, "a dict of fields"),
        "trunk": (str | None, "the name of a run, or None"),
        "branch_step": (int | None, "a whole number, or None"),
    }
    for name, (kind, meaning) in expected.items():
        value = getattr(run, name)
        if not isinstance(value, kind):
            raise ConfigError(f"{name} of a run of the sweep is {value!r}; expected {meaning}")


def _check_names(runs: list[SweepRun]) -> None:
    seen = set()
    for run in runs:
        if not NAME.fullmatch(run.name):
            raise ConfigError(
                f"a run of the sweep is named {run.name!r}; expected letters, digits, '.', '_' and "
                "'-', since a folder is named so"
            )
        if run.name in seen:
            raise ConfigError(f"two runs of the sweep are named {run.name!r}; give each its own")
        seen.add(run.name)
    for run in runs:
        if (run.trunk is None) != (run.branch_step is None):
            raise ConfigError(
                f"run {run.name!r} has trunk {run.trunk!r} and branch_step {run.branch_step!r}; "
                "expected both or neither"
            )
        if run.trunk is not None and run.trunk not in seen:
            raise ConfigError(
                f"run {run.name!r} branches from {run.trunk!r}, which is not in the sweep"
            )


def _in_order_of_need(runs: list[SweepRun]) -> list[SweepRun]:
    """As the file has them, but each after its trunk."""
    waiting, ordered, names = list(runs), [], set()
    while waiting:
        ready = (run for run in waiting if run.trunk is None or run.trunk in names)
        run = next(ready, None)
        if run is None:
            circle = ", ".join(repr(run.name) for run in waiting)
            raise ConfigError(f"the runs {circle} branch from each other in a circle")
        ordered.append(run)
        names.add(run.name)
        waiting.remove(run)
    return ordered


def _branch_steps(trunk: SweepRun, runs: list[SweepRun]) -> tuple[int, ...]:
    return tuple(sorted({run.branch_step for run in runs if run.trunk == trunk.name}))


def _planned(
    run: SweepRun, out: Path, branch_steps: tuple[int, ...], trunk: Planned | None
) -> Planned:
    """The trunk of others keeps the checkpoints from which they start."""
    overrides = dict(run.overrides)
    if trunk is not None:
        overrides |= {"branch.run": str(workdir_of(out, run.trunk)), "branch.step": run.branch_step}
    try:
        if branch_steps:
            kept = read_config(run.recipe, _flags(overrides)).keep_steps
            overrides["keep_steps"] = tuple(sorted({*kept, *branch_steps}))
        flags = _flags(overrides)
        config = read_config(run.recipe, flags)
        if trunk is not None:
            check_configs(trunk.config, config)
    except ConfigError as error:
        raise ConfigError(f"run {run.name!r} of the sweep: {error}") from error
    return Planned(run, config, [f"--config={run.recipe}", *flags])


def _flags(overrides: Mapping[str, Any]) -> list[str]:
    return [f"--config.{key}={value}" for key, value in overrides.items()]
