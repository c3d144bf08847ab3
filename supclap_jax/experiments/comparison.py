"""Differences between the runs of a sweep, paired by seed and by clip."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from supclap_jax.data.list_files import read_csv
from supclap_jax.errors import ConfigError, DataError, RunError
from supclap_jax.evaluate import per_clip
from supclap_jax.experiments.points import condition
from supclap_jax.experiments.sweep_file import workdir_of
from supclap_jax.experiments.sweep_results import COST, FILE

RESAMPLES = 2_000
LEVEL = 0.95
UNITS = {name: "%" if name.startswith("R@1") else "nats" for name in per_clip.METRICS}


class Group(NamedTuple):
    """Runs of one value of what is compared, all else but the seed alike.

    Attributes:
      value: of the column that is compared.
      others: value of each further column that varies within the values, by name.
      names: of the runs.
      seeds: of the runs, in the same order.
      metrics: metric -> float64 `[seeds, clips]`.
    """

    value: str
    others: dict[str, str]
    names: list[str]
    seeds: list[str]
    metrics: dict[str, np.ndarray]


class Difference(NamedTuple):
    """A metric of one group less that of the baseline with the same other columns.

    Attributes:
      seeds: how many both have.
      value: the mean over these and the clips.
      low, high: ends of its 95 % interval.
    """

    seeds: int
    value: float
    low: float
    high: float


def read_groups(out: Path, by: str, where: Sequence[str] = ()) -> list[Group]:
    """The finished runs of a sweep, in groups, in the order of `results.csv`.

    Args:
      out: folder of the sweep.
      by: the column to compare; or "cell", the name of a run without "-" and its seed at the end.
      where: conditions that a run must meet, as of `points.read_points`.

    Raises:
      RunError: there is no `results.csv`, or a run has no results clip by clip.
      ConfigError: it has no such column, or all runs are alike in it; a condition cannot be read.
      DataError: the file is damaged, or the runs were evaluated on different clips.
    """
    path = out / FILE
    if not path.is_file():
        raise RunError(f"{out} holds no {FILE}; see 'supclap sweep --help'")
    entries = list(read_csv(path, ("name", COST, "exit_code")))
    if odd := next((entry for entry in entries if entry.problem), None):
        raise DataError(f"row {odd.row} of {path} is damaged: {odd.problem}")
    rows = [entry.fields for entry in entries if entry.fields["exit_code"] == "0"]
    for row in rows if by == "cell" else ():
        row["cell"] = row["name"].removesuffix(f"-{row.get('seed', '')}")
    if rows and by not in rows[0]:
        raise ConfigError(f"{path} has no column {by!r}; it has cell, {', '.join(rows[0])}")
    conditions = [condition(text, rows[0], "--where") for text in where if rows]
    rows = [row for row in rows if all(met(row) for met in conditions)]
    if len({row[by] for row in rows}) < 2:
        raise ConfigError(
            f"the finished runs of {path} have one value of {by!r} or none; expected two or more"
        )
    results = {row["name"]: per_clip.read_per_clip(workdir_of(out, row["name"])) for row in rows}
    if len({fingerprint for fingerprint, _ in results.values()}) > 1:
        raise DataError(f"the runs of {out} were evaluated on different clips; compare on the same")
    shared = [name for name in UNITS if all(name in metrics for _, metrics in results.values())]
    others = _varying_within(rows, by)
    members: dict[tuple, list[dict]] = {}
    for row in rows:
        members.setdefault((row[by], *(row[name] for name in others)), []).append(row)
    groups = []
    for (value, *rest), runs in members.items():
        names, seeds = [row["name"] for row in runs], [row.get("seed", "") for row in runs]
        if len(set(seeds)) < len(seeds):
            raise ConfigError(
                f"the runs {', '.join(names)} differ neither in {by!r} nor in their seed"
            )
        metrics = {
            metric: np.stack([results[name][1][metric] for name in names]) for metric in shared
        }
        groups.append(Group(value, dict(zip(others, rest, strict=True)), names, seeds, metrics))
    return groups


def baseline_of(group: Group, groups: Iterable[Group], value: str) -> Group | None:
    """The group with that value and the same other columns."""
    same = (g for g in groups if g.value == value and g.others == group.others)
    return next(same, None)


def difference(ours: Group, theirs: Group, metric: str) -> Difference | None:
    """Of the seeds that both have; None without any.

    Each resample draws seeds and clips, both with replacement (the pigeonhole bootstrap; Owen,
    2007, Annals of Applied Statistics 1, 386), so the interval covers the chance of training and
    that of the choice of clips. A resample of few seeds varies too little, and how much `n` seeds
    vary is itself uncertain: their deviations from their mean are stretched by
    `sqrt(n / (n - 1))`, and by `sqrt((n - 1) / chi^2_{n-1})`, as for Student's t. With one seed
    only clips are drawn.
    """
    shared = [name for name in ours.seeds if name in theirs.seeds]
    if not shared:
        return None
    differences = np.stack(
        [
            ours.metrics[metric][ours.seeds.index(name)]
            - theirs.metrics[metric][theirs.seeds.index(name)]
            for name in shared
        ]
    )
    low, high = resampled_interval(differences, RESAMPLES, seed=0)
    return Difference(len(shared), float(differences.mean()), low, high)


def resampled_interval(values: np.ndarray, resamples: int, seed: int) -> tuple[float, float]:
    """Of the mean of `values [seeds, clips]`, by resampling both; see `difference`."""
    seeds, clips = values.shape
    by_clip, freedom = values.mean(axis=0), max(seeds - 1, 1)
    rng = np.random.default_rng(seed)
    means = np.empty(resamples)
    for i in range(resamples):
        of_seeds = np.bincount(rng.integers(seeds, size=seeds), minlength=seeds)
        of_clips = np.bincount(rng.integers(clips, size=clips), minlength=clips)
        stretch = np.sqrt(seeds / rng.chisquare(freedom))
        deviations = (values - by_clip) @ of_clips
        means[i] = (by_clip @ of_clips + stretch * (of_seeds @ deviations) / seeds) / clips
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _varying_within(rows: Sequence[dict], by: str) -> list[str]:
    """Settings, but the seed, that vary among runs of one value.

    The recipe's argument is none: it stands for others. Nor is a setting that those before it tell.
    """
    columns = list(rows[0])
    settings = columns[columns.index("name") + 1 : columns.index(COST)]
    kept: list[str] = []
    for name in settings:
        more = [*kept, name]
        if name not in ("argument", "seed", by) and _splits(rows, [by, *more], [by, *kept]):
            kept = more
    return kept


def _splits(rows: Sequence[dict], more: Sequence[str], fewer: Sequence[str]) -> bool:
    """Whether the first columns tell rows apart that the others do not."""
    return len(_distinct(rows, more)) > len(_distinct(rows, fewer))


def _distinct(rows: Sequence[dict], columns: Sequence[str]) -> set[tuple]:
    return {tuple(row[name] for name in columns) for row in rows}
