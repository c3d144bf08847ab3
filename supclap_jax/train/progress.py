"""What training shows and writes as it goes."""

import math
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import jax
from ml_collections import ConfigDict
from rich.progress import TextColumn

from supclap_jax.console import STANDSTILLS, console, progress_bar
from supclap_jax.errors import Diverged
from supclap_jax.evaluate.entropy import CANDIDATES
from supclap_jax.runs.history import first_start
from supclap_jax.runs.metrics import MetricsWriter, print_line
from supclap_jax.runs.processes import is_first
from supclap_jax.runs.run import Run
from supclap_jax.train.meter import Meter

WAITING, COMPILING, VALIDATING = STANDSTILLS


class Progress:
    """Metrics of each step to the bar, the log, `metrics.jsonl` and TensorBoard, and their speed.

    The metrics of a step are read when the next one is dispatched, so that reading them keeps the
    device from nothing.

    Args:
      run: that trains.
      config: of the run.
      start: step that it continues after; what stands in `metrics.jsonl` of later ones is dropped.

    Attributes:
      bar: a context in which the bar is shown.
      meter: of the speed.
    """

    def __init__(self, run: Run, config: ConfigDict, start: int):
        self._config = config
        before = [line.get("useful_seconds", 0.0) for line in run.metrics(start)]
        self.meter = Meter(
            config.batch_size, start, max(before, default=0.0), first_start(run.workdir)
        )
        self._writer = MetricsWriter(run.workdir, start, silent=not is_first())
        self.bar = progress_bar(TextColumn("{task.fields[status]}"))
        self._task = self.bar.add_task(
            "training", total=config.total_steps, completed=start, status=WAITING
        )
        self._first = start + 1
        self._in_flight = None

    @contextmanager
    def compiling(self, step: int) -> Iterator[None]:
        """Says so, and then how long it took, where the step in this context is the first one."""
        if step == self._first:
            self.bar.update(self._task, status=COMPILING)
        began = time.perf_counter()
        yield
        if step == self._first:
            console.print(f"The step is compiled, in {time.perf_counter() - began:.0f} s.")
            self.bar.update(self._task, status="")

    def validating(self) -> None:
        """Says so, until the next step is shown."""
        self.bar.update(self._task, status=VALIDATING)

    def waiting_for_data(self) -> AbstractContextManager:
        """As `Meter.waiting_for_data`, for the step in flight."""
        return self.meter.waiting_for_data(self._in_flight)

    def dispatched(self, step: int, metrics: dict[str, jax.Array]) -> None:
        """Finishes the step before; this one is now in flight.

        Raises:
          Diverged: as `finish`.
        """
        self.finish()
        self._in_flight = step, metrics

    def finish(self) -> None:
        """Waits for the metrics of the step in flight, if there is one; shows and writes them.

        Raises:
          Diverged: too many steps in a row were skipped.
        """
        if self._in_flight is None:
            return
        step, metrics = self._in_flight
        self._in_flight = None
        config = self._config
        metrics = {name: float(value) for name, value in jax.device_get(metrics).items()}
        self.meter.step_finished()
        if step % config.log_every == 0 or step == config.total_steps:
            metrics |= self.meter.read(step)
            self._writer.write(step, metrics)
            print_line(step, config.total_steps, metrics)
            speed = metrics.get("steps_per_second", math.nan)
            status = f"loss {metrics['loss']:.3f}  {speed:.1f} steps/s"
            self.bar.update(self._task, status=status)
        self.bar.update(self._task, completed=step)
        if metrics["skipped_in_a_row"] >= config.max_bad_steps:
            raise Diverged(
                f"{config.max_bad_steps} steps in a row, up to step {step}, had a loss or gradient "
                "that was not finite and changed nothing; the last checkpoint is good. Lower "
                "optimizer.learning_rate, or look at the data"
            )

    def validated(self, step: int, table: dict[str, dict[str, float]], clips: int) -> float:
        """Shows and writes how a step did on so many validation clips.

        Args:
          table: metrics of "text_to_audio" and "audio_to_text", as of `validate`.

        Returns:
          The mean R@1 of both directions, in percent.
        """
        self._writer.write(
            step,
            {
                f"validation/{direction}/{name}": value
                for direction, metrics in table.items()
                for name, value in metrics.items()
            },
        )
        recall, entropy = ([of[name] for of in table.values()] for name in ("R@1", "entropy"))
        console.print(
            f"step {step}: validation R@1 {recall[0]:.1f} % text → audio, {recall[1]:.1f} % audio "
            f"→ text ({clips} clips); entropy {entropy[0]:.3f} and {entropy[1]:.3f} "
            f"({min(CANDIDATES, clips)} candidates)",
            soft_wrap=True,
        )
        return sum(recall) / 2

    def close(self) -> None:
        """Flushes what was written."""
        self._writer.close()
