"""The files of a checkpoint: which there are, and whether they are as they were written."""

import json
import zlib
from collections.abc import Iterator

from etils import epath

from supclap_jax.files import is_unfinished
from supclap_jax.runs.bucket import COMMITTED, entries, size_and_time

# In the folder of a step: length of each of its files and, on disk, CRC-32.
SUMS = "sums.json"
STAMPED = "_CHECKPOINT_METADATA"  # Orbax notes in it when the checkpoint got its name
METRICS = "metrics/metrics"
JSON = (METRICS, "default/_METADATA")  # Orbax's own files that it cannot do without


def step_folders(folder: epath.Path, committed: bool = True) -> list[epath.Path]:
    """Those of checkpoints; of a bucket, where folders have their names from the beginning, those
    that are whole, or all."""
    steps = (path for path in entries(folder) if path.name.isdecimal() and path.is_dir())
    if committed and str(folder).startswith("gs://"):
        steps = (path for path in steps if (path / COMMITTED).exists())
    return sorted(steps, key=lambda path: path.name)


def sums_of(step: epath.Path, contents: bool) -> dict[str, list[int]]:
    """Length and, with `contents`, CRC-32 of each file of a checkpoint but the list itself."""
    sums = {}
    for path in _files(step):
        if path.name != SUMS and not is_unfinished(path):
            length, _ = size_and_time(path)
            sums[str(path.relative_to(step))] = [length, _crc(path)] if contents else [length]
    return sums


def _files(folder: epath.Path) -> Iterator[epath.Path]:
    """All in a folder and below; buckets know no recursive pattern."""
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            yield from _files(path)
        else:
            yield path


def _are_sums(value: object) -> bool:
    """Length, and of checkpoints on disk the CRC-32."""
    is_list = isinstance(value, list) and len(value) in (1, 2)
    return is_list and all(type(x) is int for x in value)


def _crc(path: epath.Path) -> int:
    crc = 0
    with path.open("rb") as file:
        while block := file.read(2**24):
            crc = zlib.crc32(block, crc)
    return crc


def problem_of(step: epath.Path, contents: bool) -> str | None:
    """What is wrong with the files of a checkpoint; None if nothing is.

    One that Orbax alone wrote has no list. Then no more can be seen than whether Orbax will find
    what it reads first.
    """
    if not (step / SUMS).exists():
        return next(filter(None, (_json_problem(step, name) for name in JSON)), None)
    problem = _json_problem(step, SUMS)
    if problem:
        return problem
    expected = json.loads((step / SUMS).read_text())
    if not isinstance(expected, dict) or not all(map(_are_sums, expected.values())):
        return f"{SUMS} holds no sums"
    contents = contents and all(len(sums) == 2 for sums in expected.values())
    found = sums_of(step, contents)
    for name, sums in expected.items():
        if name not in found:
            return f"{name} is missing"
        if found[name][0] != sums[0]:
            return f"{name} has {found[name][0]} of {sums[0]} bytes"
        is_read_at_once = name in JSON and len(sums) == 2
        if is_read_at_once and not contents and _crc(step / name) != sums[1]:
            return f"{name} has changed"
        if contents and found[name] != sums:
            return f"{name} has changed"
    return None


def _json_problem(step: epath.Path, name: str) -> str | None:
    try:
        json.loads((step / name).read_text())
    except FileNotFoundError:
        return f"{name} is missing"
    except ValueError:
        return f"{name} is cut off"
    return None
