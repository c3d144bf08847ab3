"""Where a run's numbers go: metrics.jsonl, TensorBoard and lines of text."""

import json
import math
from datetime import UTC, datetime
from pathlib import Path

from tensorboardX import SummaryWriter

from supclap_jax.console import console
from supclap_jax.files import write_whole


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
        kept = read_metrics(workdir, start_step)
        path = workdir / "metrics.jsonl"
        write_whole(path, "".join(json.dumps(line) + "\n" for line in kept))
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


def read_lines(path: Path) -> list[dict]:
    """The objects in a file of one JSON object a line, without what a kill cut off.

    An empty list where there is no file.
    """
    found = []
    for line in path.read_text(errors="replace").splitlines() if path.is_file() else ():
        try:
            values = json.loads(line)
        except (ValueError, RecursionError):
            continue
        found += [values] if isinstance(values, dict) else []
    return found


def read_steps(path: Path) -> list[dict]:
    """As `read_lines`, those with a number as "step"."""
    return [line for line in read_lines(path) if type(line.get("step")) in (int, float)]


def read_metrics(workdir: Path, last_step: float = math.inf) -> list[dict]:
    """The lines of `workdir/metrics.jsonl` up to a step."""
    return [line for line in read_steps(workdir / "metrics.jsonl") if line["step"] <= last_step]


LINE = ("loss", "gradient_norm", "clips_per_second", "step_seconds", "data_wait", "goodput")


def print_line(step: int, total_steps: int, metrics: dict[str, float]) -> None:
    """Prints `time step=... loss=...`, for a log file; on a terminal the bar shows it instead."""
    if console.is_terminal:
        return
    time = datetime.now(UTC).isoformat(timespec="seconds")
    numbers = " ".join(f"{name}={metrics[name]:.4g}" for name in LINE if name in metrics)
    console.print(f"{time} step={step}/{total_steps} {numbers}", soft_wrap=True)
