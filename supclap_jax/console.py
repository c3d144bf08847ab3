"""What commands print: the console, and how far long work is."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

INTERVAL = 30.0  # seconds between lines outside a terminal
STANDSTILLS = ("waiting for data", "compiling", "validating")  # while steps say nothing of the time

console = Console(highlight=False, markup=False)


class ReportedProgress(Progress):
    """Rich's display of progress; outside a terminal a line every `INTERVAL` seconds instead."""

    def __init__(self, *columns: ProgressColumn, transient: bool = False):
        is_shown = console.is_terminal
        super().__init__(*columns, console=console, transient=transient, disable=not is_shown)
        self._stopped = threading.Event()
        self._lines = threading.Thread(target=self._print_lines, daemon=True)

    def start(self) -> None:
        super().start()
        if self.disable:
            self._lines.start()

    def stop(self) -> None:
        super().stop()
        self._stopped.set()
        if self._lines.is_alive():
            self._lines.join()

    def _print_lines(self) -> None:
        while not self._stopped.wait(INTERVAL):
            for task in self.tasks:
                console.print(_line(task), soft_wrap=True)


def printable(text: str) -> str:
    """On one line, with what would move the cursor or change colours written out.

    >>> printable("a\\nb\\x1b[31m")
    'a\\\\nb\\\\x1b[31m'
    """
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def progress_bar(*fields: TextColumn) -> ReportedProgress:
    """A bar with counts, further `fields`, time spent and time left."""
    return ReportedProgress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        *fields,
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )


@contextmanager
def working(description: str) -> Iterator[None]:
    """Says, as long as the context lasts, what is done and for how long already."""
    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    with ReportedProgress(*columns, transient=True) as display:
        display.add_task(description, total=None)
        yield


def _line(task: Task) -> str:
    """Such as "training: 1,200 of 2,000, loss 1.716, 0:12:05 so far, 0:08:03 left"."""
    parts = []
    if task.total is not None:
        parts.append(f"{task.completed:,.0f} of {task.total:,.0f}")
    parts.append(task.fields.get("status"))
    parts.append(f"{timedelta(seconds=round(task.elapsed or 0))} so far")
    if task.time_remaining is not None and task.fields.get("status") not in STANDSTILLS:
        parts.append(f"{timedelta(seconds=round(task.time_remaining))} left")
    return f"{task.description}: {', '.join(filter(None, parts))}"
