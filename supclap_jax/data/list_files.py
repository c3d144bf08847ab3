"""The lists of a data set on disk: CSV, JSON, JSON lines and YAML."""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import yaml

from supclap_jax.errors import DataError

ENCODINGS = ("utf-8-sig", "iso-8859-1")  # with or without a byte order mark; the latter reads all

DEEPEST = 50  # levels of a YAML file


class Entry(NamedTuple):
    """One record of a list.

    Attributes:
      row: its number, from 1, the header of a CSV file counted.
      fields: values by column; of CSV, all columns, absent ones "".
      problem: what is wrong with it, or "".
    """

    row: int
    fields: dict
    problem: str


def read_csv(
    path: Path,
    columns: Sequence[str],
    header: bool = True,
    encodings: Sequence[str] = ENCODINGS,
    spaced: bool = False,
) -> Iterator[Entry]:
    """Reads a CSV file with any line ends.

    Args:
      path: the file.
      columns: that it must have; without a header, all it has.
      header: whether the first row names the columns.
      encodings: tried in turn.
      spaced: whether commas are followed by spaces that do not count.

    Raises:
      DataError: it cannot be read, or lacks columns.
    """
    try:
        content = io.StringIO(_decoded(path.read_bytes(), encodings), newline="")
        reader = _Reader(csv.reader(content, strict=True, skipinitialspace=spaced))
        names = next(reader, []) if header else list(columns)
        missing = [column for column in columns if column not in names]
        if missing:
            raise DataError(
                f"{path} has the columns {', '.join(names) or '(none)'}; expected "
                f"{', '.join(missing)} as well, named in the first row"
            )
        for row, values in enumerate(reader, 1 + header):
            if values:
                fields = dict.fromkeys(names, "") | dict(zip(names, values, strict=False))
                odd = len(values) != len(names)
                counts = f"its row has {len(values)} fields, expected {len(names)}"
                yield Entry(row, fields, counts if odd else "")
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror}; is its folder the right one?"
        ) from error
    except csv.Error as error:
        raise DataError(
            f"{path}, line {reader.begin}: {error}; is a quote not closed, or one within a field "
            "not doubled?"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not a {encodings[0]} CSV file: {error}; save it as one"
        ) from error


class _Reader:
    """A CSV reader that knows the line at which its record begins."""

    def __init__(self, reader):
        self._reader, self.begin = reader, 1

    def __iter__(self):
        return self

    def __next__(self) -> list[str]:
        self.begin = self._reader.line_num + 1
        return next(self._reader)


def read_jsonl(path: Path) -> Iterator[Entry]:
    """Reads a JSON object a line; a line that is none has the fields `id` alone."""
    with path.open("rb") as file:
        for row, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                fields = json.loads(line.decode("utf-8-sig"))
            except (ValueError, RecursionError):
                fields = None
            if isinstance(fields, dict):
                yield Entry(row, fields, "")
            else:
                yield Entry(row, {"id": f"{path.name}:{row}"}, "its line is no JSON object")


def read_json(path: Path) -> object:
    """Reads a JSON file.

    Raises:
      DataError: it is none, or cannot be read.
    """
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} is not a readable JSON file: {error}") from error


def read_yaml(path: Path) -> object:
    """Reads a YAML file, as `read_json` does; all values are text, lists and dicts of text."""
    try:
        content = path.read_bytes()
        depth = 0
        for event in yaml.parse(content, Loader=yaml.CBaseLoader):
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST:
                raise ValueError(f"it is nested deeper than {DEEPEST} levels")
        return yaml.load(content, Loader=yaml.CBaseLoader)
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path} is not a readable YAML file: {reason}") from error


def _decoded(content: bytes, encodings: Sequence[str]) -> str:
    *tried, last = encodings
    for encoding in tried:
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            continue
    return content.decode(last)
