"""Where a run's numbers go: metrics.jsonl, TensorBoard and the progress bar."""

import json
import math
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from tensorboardX import SummaryWriter

console = Console(highlight=False)


class MetricsWriter:
    """Appends to `workdir/metrics.jsonl` and `workdir/tensorboard`.

    Args:
      workdir: of the run.
      start_step: lines after this step, from a run that went on past its last checkpoint, are
        dropped, so that each step stands there once.
      silent: write nothing, as all processes but one do.
    """

    def __init__(self, workdir: Path, start_step: int, silent: bool = False):
        self._silent = silent
        if silent:
            return
        path = workdir / "metrics.jsonl"
        kept = []
        if path.is_file():
            kept = [line for line in path.read_text().splitlines() if _step(line) <= start_step]
        path.write_text("".join(f"{line}\n" for line in kept))
        self._file = path.open("a", buffering=1)
        self._tensorboard = SummaryWriter(str(workdir / "tensorboard"), purge_step=start_step + 1)

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """One line for `step`, null where not finite, and each metric as a TensorBoard scalar."""
        if self._silent:
            return
        numbers = {name: x if math.isfinite(x) else None for name, x in metrics.items()}
        self._file.write(json.dumps({"step": step, **numbers}) + "\n")
        for name, value in metrics.items():
            self._tensorboard.add_scalar(name, value, step)

    def close(self) -> None:
        """Flushes both."""
        if self._silent:
            return
        self._file.close()
        self._tensorboard.close()


def progress_bar(*fields: TextColumn) -> Progress:
    """A bar with counts, further `fields`, time spent and time left."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        *fields,
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
    )


def _step(line: str) -> float:
    """The step of a line; infinite for a line that was cut while it was written."""
    try:
        return json.loads(line)["step"]
    except ValueError:
        return float("inf")
