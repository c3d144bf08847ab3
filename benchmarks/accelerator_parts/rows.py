"""The rows of one part: kept in a file as they come, so that nothing measured is lost."""

import gc
import json
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

SHORT = "out of memory"
UNKNOWN = 10.0  # seconds of a case of which nothing is known


class Case(NamedTuple):
    """What makes one row.

    Attributes:
      key: what is measured; no two cases of a part have the same.
      measure: the figures.
      seconds: about how long it takes; None: as long as the longest one of its kind so far.
    """

    key: dict
    measure: Callable[[], dict]
    seconds: Callable[[], float] | None = None


class OutOfMemory(Exception):
    """The device has not enough memory for a case."""


class Rows:
    """The file of a part: `{"machine": {...}, "complete": bool, "rows": [...]}`.

    Raises:
      SystemExit: the file holds rows of another device or of other versions.
    """

    def __init__(self, path: Path, machine: dict):
        self._path = path
        found = json.loads(path.read_text()) if path.exists() else {"machine": machine, "rows": []}
        if found["machine"] != machine:
            raise SystemExit(
                f"{path} holds figures of {found['machine']}, not of {machine}; "
                "choose another folder"
            )
        self._machine, self.rows = machine, found["rows"]

    def find(self, **key) -> dict | None:
        """The row with this key."""
        return next((row for row in self.rows if key.items() <= row.items()), None)

    def measure(self, cases: Iterable[Case], seconds: float) -> None:
        """Adds the rows that are not there yet, until the time is nearly spent.

        A case is left out where there is not the time that the longest one of its kind took. What
        fails is a row that says so, and is tried again by the next call, unless memory was short.
        """
        deadline, longest, left_out = time.monotonic() + seconds, {}, 0
        self.rows = [row for row in self.rows if row.get("failed", SHORT) == SHORT]
        self._write(False)
        for case in cases:
            if self.find(**case.key):
                continue
            kind = case.key["what"], case.key.get("form")
            needed = case.seconds() if case.seconds else longest.get(kind, UNKNOWN)
            began = time.monotonic()
            if began + needed > deadline:
                left_out += 1
                continue  # a later case may be shorter
            try:
                figures = case.measure()
            except OutOfMemory:
                figures = {"failed": SHORT}
                gc.collect()
            except Exception as error:  # of a compiler or kernel: the other cases may work
                figures = {"failed": f"{type(error).__name__}: {error}"[:300]}
                gc.collect()
            longest[kind] = max(longest.get(kind, 0.0), time.monotonic() - began)
            self.rows.append({**case.key, **figures})
            self._write(False)
            print("  " + ", ".join(f"{k} {shown(x)}" for k, x in self.rows[-1].items()), flush=True)
        self._write(not left_out)
        if left_out:
            print(f"  not complete: {left_out} cases need another call", flush=True)

    @property
    def failed(self) -> list[dict]:
        """The rows of what failed, but for want of memory."""
        return [row for row in self.rows if row.get("failed", SHORT) != SHORT]

    def _write(self, complete: bool) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        content = {"machine": self._machine, "complete": complete, "rows": self.rows}
        part = self._path.with_suffix(".part")
        part.write_text(json.dumps(content, indent=1) + "\n")
        os.replace(part, self._path)


def shown(x) -> str:
    """A figure as people read it."""
    if isinstance(x, bool) or x is None:
        return {True: "yes", False: "NO", None: "-"}[x]
    return f"{x:.3g}" if isinstance(x, float) else f"{x:,}" if isinstance(x, int) else str(x)
