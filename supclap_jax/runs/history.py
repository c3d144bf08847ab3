"""When a run was started and how each start ended: `workdir/history.jsonl`."""

import json
import time
from contextlib import contextmanager, suppress
from pathlib import Path

from supclap_jax.runs.metrics import read_lines

FINISHED = "finished"


@contextmanager
def session(workdir: Path, silent: bool = False, **facts):
    """Writes a line with `facts` that training started, and at the end of the block why it ended.

    What is killed writes no end. `silent`: write nothing, as all processes but one do.
    """
    if silent:
        yield
        return
    _write(workdir, event="start", **facts)
    try:
        yield
    except BaseException as error:
        with suppress(OSError):  # a full disk may be what ended it
            _write(workdir, event="end", reason=str(error) or type(error).__name__)
        raise
    _write(workdir, event="end", reason=FINISHED)


def read_history(workdir: Path) -> list[dict]:
    """Its lines in order, each with "time" in seconds since 1970 and "event", "start" or "end"."""
    lines = read_lines(workdir / "history.jsonl")
    return [line for line in lines if _is_number(line.get("time")) and "event" in line]


def _is_number(value: object) -> bool:
    return type(value) in (int, float)


def first_start(workdir: Path) -> float | None:
    """When the run began, in seconds since 1970; None before it did."""
    return min((line["time"] for line in read_history(workdir)), default=None)


def _write(workdir: Path, **line) -> None:
    with (workdir / "history.jsonl").open("a") as file:
        file.write(json.dumps({"time": time.time(), **line}) + "\n")
