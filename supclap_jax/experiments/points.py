"""Points for a law: rows of a CSV file, chosen by conditions, some of them held out."""

import math
import operator
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from supclap_jax.data.list_files import read_csv
from supclap_jax.errors import ConfigError, DataError

RESULTS = "results.csv"  # of a sweep's folder

_COMPARISONS: dict[str, Callable[[object, object], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
    "=": operator.eq,
}
_CONDITION = re.compile(r"\s*(.+?)\s*(<=|>=|==|!=|<|>|=)(?!\s*[<>=!])\s*(.+?)\s*")


class Row(NamedTuple):
    """A row of the file: its number, from 1 for the header, and its fields by column."""

    number: int
    fields: dict[str, str]


class Points(NamedTuple):
    """What a law is fitted to, and what it is held against.

    Attributes:
      x_columns, y_column: their names.
      x: `[points, columns]`, above 0.
      y: `[points]`, above 0.
      held_x, held_y: the same of the rows held out.
      rows: of the file that the conditions let through, less those held out; with a frontier, too.
    """

    x_columns: tuple[str, ...]
    y_column: str
    x: np.ndarray
    y: np.ndarray
    held_x: np.ndarray
    held_y: np.ndarray
    rows: list[Row]


def read_points(
    path: Path,
    x_columns: Sequence[str],
    y_column: str,
    *,
    where: Sequence[str] = (),
    hold_out: Sequence[str] = (),
) -> Points:
    """Reads points.

    Args:
      path: a CSV file with a header, or a folder that holds results.csv.
      x_columns, y_column: of numbers above 0.
      where: conditions "COLUMN OP VALUE", OP one of < <= > >= = == !=; a row must meet all. Two
        numbers are compared as numbers, else = and != compare words and the others do not hold.
      hold_out: the same; a row that meets any of them is held out.

    Raises:
      ConfigError: a condition cannot be read, or names no column.
      DataError: the file cannot be read or lacks columns, or a row has no such numbers.
    """
    path = path / RESULTS if path.is_dir() else path
    wanted = (*x_columns, y_column)
    entries = list(read_csv(path, wanted))
    if not entries:
        raise DataError(f"{path} has no rows under its header; expected one for each run")
    odd = next((entry for entry in entries if entry.problem), None)
    if odd:
        raise DataError(f"row {odd.row} of {path} is damaged: {odd.problem}")
    rows = [Row(entry.row, entry.fields) for entry in entries]
    required = [condition(text, rows[0].fields, "--where") for text in where]
    held = [condition(text, rows[0].fields, "--hold-out") for text in hold_out]
    rows = [row for row in rows if all(met(row.fields) for met in required)]
    parts: tuple[list[Row], list[Row]] = ([], [])
    for row in rows:
        parts[any(met(row.fields) for met in held)].append(row)
    values = [
        np.array([[_number(row, column, path) for column in wanted] for row in part]).reshape(
            -1, len(wanted)
        )
        for part in parts
    ]
    (x, y), (held_x, held_y) = ((value[:, :-1], value[:, -1]) for value in values)
    return Points(tuple(x_columns), y_column, x, y, held_x, held_y, parts[0])


def condition(text: str, columns: Iterable[str], option: str) -> Callable[[dict[str, str]], bool]:
    """Whether a row meets "COLUMN OP VALUE", as a function of its fields; see `read_points`.

    Raises:
      ConfigError: it cannot be read, or names none of the columns; `option` is what gave it.
    """
    match = _CONDITION.fullmatch(text)
    if match is None:
        raise ConfigError(
            f"{option}={text!r} is no condition; expected COLUMN OP VALUE with OP one of "
            f"{' '.join(sorted(_COMPARISONS))}, such as 'seed != 3'"
        )
    column, sign, value = match.groups()
    if column not in columns:
        raise ConfigError(
            f"{option}={text!r} names no column; expected one of {', '.join(columns)}"
        )
    compare, number = _COMPARISONS[sign], number_of(value)
    words = sign in ("=", "==", "!=")
    if number is None and not words:
        raise ConfigError(f"{option}={text!r} compares with {value!r}; expected a number")

    def met(fields: dict[str, str]) -> bool:
        found = number_of(fields[column])
        if number is None or found is None:
            return words and compare(fields[column].strip(), value)
        return compare(found, number)

    return met


def frontier(points: Points, bins: int) -> Points:
    """The lowest y of each of `bins` equal bins of log x, placed at the bin's centre.

    So published laws of image-text models are fitted (Cherti et al., arXiv 2212.07143). A bin
    without points is left out; the last bin holds its upper end; rows held out stay as they are.

    Raises:
      ConfigError: x has two columns, or there are too few bins.
    """
    if len(points.x_columns) != 1:
        raise ConfigError("--frontier has bins of one x; leave it out where --x names two columns")
    if bins < 1:
        raise ConfigError(f"--frontier is {bins}; expected a number of bins from 1")
    log_x = np.log(points.x[:, 0])
    edges = np.linspace(log_x.min(), log_x.max(), bins + 1)
    place = np.clip(np.searchsorted(edges, log_x, side="right") - 1, 0, bins - 1)
    best = [
        min(np.flatnonzero(place == number), key=points.y.__getitem__)
        for number in np.unique(place)
    ]
    centres = np.exp((edges[:-1] + edges[1:]) / 2)
    return points._replace(x=centres[place[best], None], y=points.y[best])


def check_points(points: Points, coefficients: int) -> None:
    """Refuses what no law of so many coefficients can be fitted to.

    Raises:
      DataError: fewer than three points, x all equal, or not more points than coefficients.
    """
    distinct = count_points(points)
    if distinct < 3:
        raise DataError(
            f"there are {distinct} points (runs with the same x are one); expected at least 3. "
            "Does --where or --frontier leave too few?"
        )
    for column, values in zip(points.x_columns, points.x.T, strict=True):
        if np.ptp(values) == 0:
            raise DataError(
                f"{column} is {values[0]:g} for all points; a law needs points that differ in it"
            )
    if distinct < coefficients or len(points.y) == coefficients:
        raise DataError(
            f"there are {len(points.y)} runs at {distinct} points; a law with {coefficients} "
            f"coefficients needs {coefficients} points and one run more. Take one with fewer, or "
            "add runs."
        )


def count_points(points: Points) -> int:
    """Points with an x of their own: seeds that repeat one count once."""
    return len(np.unique(points.x, axis=0))


def number_of(text: str) -> float | None:
    """A finite number, or None."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _number(row: Row, column: str, path: Path) -> float:
    value = number_of(row.fields[column])
    if value is None or value <= 0:
        raise DataError(
            f"row {row.number} of {path} has {row.fields[column]!r} for {column}; expected a "
            "number above 0. --where leaves rows out."
        )
    return value
