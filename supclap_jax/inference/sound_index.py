"""A folder of vectors of sounds: Parquet shards, of one model, and a map of them for search.

`index.json` says whose vectors they are, `part-NNNNNN.parquet` holds a row a sound or a window,
`failed.csv` what could not be embedded. `vectors-DIGEST.npy` is all vectors once more, in order, to
map into memory; the digest is of the shards, and where these have changed it is made anew.
"""

import contextlib
import csv
import fcntl
import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from supclap_jax.errors import ConfigError, DataError
from supclap_jax.files import replacing, write_whole

DESCRIPTION, FAILED, LOCK = "index.json", "failed.csv", ".lock"
VECTORS = "vectors-{}.npy"  # and a digest of what it was made of
CHANGED = "{} has changed while it was searched; search again"
NEEDED = {"space", "model", "step", "dim", "dtype", "source", "digest", "windows"}
DTYPES = ("float16", "float32")
# What all vectors of an index have in common.
SAME = {
    "space": "a model of space",
    "source": "sounds of",
    "digest": "data with the digest",
    "windows": "windows:",
    "window": "a window of",
    "hop": "a hop of",
    "dtype": "dtype",
}
UNREADABLE = (OSError, pa.ArrowException, ValueError, KeyError)


class Row(NamedTuple):
    """A sound, or a window of one.

    Attributes:
      path: in the index's source, or the id of a clip of a prepared set.
      start, end: in the sound, in seconds.
      duration: of the sound, in seconds.
      size, modified: of the file, in bytes and nanoseconds, when it was embedded.
      vector: unit row `[dim]`.
    """

    path: str
    start: float
    end: float
    duration: float
    size: int
    modified: int
    vector: np.ndarray


class SoundIndex:
    """The folder.

    Args:
      folder: of the index.

    Raises:
      DataError: there is none, or its description cannot be read.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.digest = ""  # of the shards that `vectors` last saw
        self._searched, self._ends, self._tables = [], np.zeros(0), {}
        path = folder / DESCRIPTION
        try:
            self.description = json.loads(path.read_text(encoding="utf-8"))
            self.dim, self.dtype = int(self.description["dim"]), self.description["dtype"]
            int(self.description["step"])
            if not all(isinstance(self.description[name], str) for name in ("model", "source")):
                raise ValueError("its model or source is no path")
            if not self.description.keys() >= NEEDED or self.dtype not in DTYPES:
                raise ValueError("it lacks what an index says of itself")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{folder} is no index of sounds; make one with 'supclap embed --out={folder}'"
            ) from error

    @classmethod
    def claim(cls, folder: Path, description: Mapping) -> "SoundIndex":
        """The index in a folder, which is made where there is none.

        Raises:
          ConfigError: the folder holds something else, or an index of other vectors.
        """
        if not (folder / DESCRIPTION).is_file():
            if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
                raise ConfigError(f"{folder} is not an empty folder; choose another --out")
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(folder / DESCRIPTION, json.dumps(dict(description), indent=2) + "\n")
        index = cls(folder)
        for key, what in SAME.items():
            here, given = index.description.get(key), description[key]
            if here != given:
                raise ConfigError(
                    f"{folder} holds vectors of {what} {here}, and these would be of {what} "
                    f"{given}; choose another --out"
                )
        return index

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Raises ConfigError where another process writes here."""
        with (self.folder / LOCK).open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ConfigError(
                    f"another process writes in {self.folder}; wait for it, or stop it"
                ) from error
            yield

    @property
    def shards(self) -> list[Path]:
        return sorted(self.folder.glob("part-*.parquet"))

    def known(self) -> dict[str, tuple[int, int]]:
        """Path -> size and time of the file, of all that is here."""
        found = {}
        for shard in self.shards:
            columns = self._read(shard, ["path", "size", "modified"]).to_pydict()
            found |= zip(
                columns["path"], zip(columns["size"], columns["modified"], strict=True), strict=True
            )
        return found

    def append(self, rows: list[Row]) -> None:
        """Writes a shard of rows, whole or not at all."""
        if not rows:
            return
        last = max((int(shard.stem[5:]) for shard in self.shards), default=-1)
        *columns, vectors = zip(*rows, strict=True)
        arrays = [pa.array(column) for column in columns]
        flat = pa.array(np.concatenate(vectors).astype(self.dtype))
        arrays.append(pa.FixedSizeListArray.from_arrays(flat, self.dim))
        table = pa.Table.from_arrays(arrays, names=Row._fields)
        self._write(self.folder / f"part-{last + 1:06d}.parquet", table)

    def forget(self, paths: set[str]) -> None:
        """Leaves these sounds out, such as files that have changed."""
        for shard in self.shards:
            table = self._read(shard)
            keep = [path not in paths for path in table["path"].to_pylist()]
            if not any(keep):
                shard.unlink()
            elif not all(keep):
                self._write(shard, table.filter(pa.array(keep)))

    def write_failed(self, failed: Mapping[str, str]) -> None:
        """`failed.csv`: path and reason of what is no sound."""
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(("path", "reason"))
        writer.writerows(sorted(failed.items()))
        write_whole(self.folder / FAILED, text.getvalue())

    def vectors(self) -> np.ndarray:
        """All vectors `[rows, dim]`, mapped into memory.

        Raises:
          DataError: there are none, or a shard is damaged.
        """
        shards = self.shards
        if not shards:
            raise DataError(f"{self.folder} holds no vectors yet; go on with 'supclap embed'")
        try:
            states = [(shard.name, shard.stat()) for shard in shards]
        except FileNotFoundError as error:
            raise DataError(CHANGED.format(self.folder)) from error
        told = json.dumps([[name, state.st_size, state.st_mtime_ns] for name, state in states])
        digest = hashlib.sha256(told.encode()).hexdigest()[:16]
        if digest != self.digest:
            counts = [_told(pq.read_metadata, shard).num_rows for shard in shards]
            self.digest, self._ends = digest, np.cumsum(counts)
            self._searched, self._tables = shards, {}
        shape = (int(self._ends[-1]), self.dim)
        path = self.folder / VECTORS.format(digest)
        if not _is_whole(path, shape, self.dtype):
            header = {"descr": np.dtype(self.dtype).str, "fortran_order": False, "shape": shape}
            with replacing(path) as unfinished, unfinished.open("wb") as file:
                np.lib.format.write_array_header_1_0(file, header)
                for shard in shards:
                    file.write(np.ascontiguousarray(self._vectors_of(shard)))
            for other in self.folder.glob(VECTORS.format("*")):
                if other != path:
                    other.unlink(missing_ok=True)
        return np.load(path, mmap_mode="r", allow_pickle=False)

    def rows(self, numbers: np.ndarray) -> list[dict]:
        """Path, start, end and duration of rows of `vectors` by number, in the order given.

        Raises:
          DataError: a shard is damaged, or has changed since.
        """
        found = []
        for number in numbers:
            place = int(np.searchsorted(self._ends, number, side="right"))
            if place not in self._tables:
                columns = ["path", "start", "end", "duration"]
                self._tables[place] = self._read(self._searched[place], columns)
            row = int(number - (self._ends[place - 1] if place else 0))
            found += self._tables[place].slice(row, 1).to_pylist()
        if len(found) < len(numbers):
            raise DataError(CHANGED.format(self.folder))
        return found

    def _vectors_of(self, shard: Path) -> np.ndarray:
        column = self._read(shard, ["vector"])["vector"]
        if getattr(column.type, "list_size", None) != self.dim:
            raise DataError(f"{shard} does not hold vectors of {self.dim} numbers; remove it")
        flat = column.combine_chunks().flatten()
        return flat.to_numpy(zero_copy_only=False).reshape(-1, self.dim)

    def _read(self, shard: Path, columns: list[str] | None = None) -> pa.Table:
        return _told(pq.read_table, shard, columns=columns)

    def _write(self, path: Path, table: pa.Table) -> None:
        with replacing(path) as unfinished:
            pq.write_table(table, unfinished, use_dictionary=["path"])


def _is_whole(path: Path, shape: tuple[int, int], dtype: str) -> bool:
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
        return (found.shape, found.dtype) == (shape, np.dtype(dtype))
    except (OSError, ValueError):  # cut, or none
        return False


def _told(read: Callable, shard: Path, **options):
    """What `read` says of a shard; its damage is an error for people."""
    try:
        found = read(shard, **options)
        if isinstance(found, pa.Table):
            missing = set(options["columns"] or Row._fields) - set(found.column_names)
            if missing:
                raise ValueError(f"it has no column {min(missing)!r}")
        return found
    except UNREADABLE as error:
        reason = str(error).splitlines()[0] if str(error) else repr(error)
        raise DataError(
            f"{shard} cannot be read ({reason}); remove it, and 'supclap embed' makes it anew"
        ) from error
