"""How fast a run is, and how much of its time goes into steps."""

import resource
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from statistics import median

import jax


class Meter:
    """Speed since the last log line, the share of it that the device waited for data, and goodput.

    The wait is an upper bound: a draw counts whole if the step before has finished by its end.
    Goodput is the time in steps that count, without waiting for data, over all time since the run
    was first started: evaluation, checkpoints, compilation, steps done twice after a kill and the
    time between a kill and the next start are the rest. The first step after any of these is not
    timed and counts as the others of its line.

    Args:
      batch_size: clips of a step.
      step: that the run continues after.
      useful_seconds: in the steps up to that one.
      first_start: of the run, in the seconds of `time.time`.
      clock: replaces `time.perf_counter`.
      wall_clock: replaces `time.time`.
    """

    def __init__(
        self,
        batch_size: int,
        step: int = 0,
        useful_seconds: float = 0.0,
        first_start: float | None = None,
        clock: Callable[[], float] = time.perf_counter,
        wall_clock: Callable[[], float] = time.time,
    ):
        self._batch_size, self._clock, self._wall_clock = batch_size, clock, wall_clock
        self._first_start = wall_clock() if first_start is None else first_start
        self._useful, self._read_at = useful_seconds, step
        self._last = None
        self._durations, self._waited, self._pending = [], 0.0, 0.0

    @contextmanager
    def waiting_for_data(self, in_flight):
        """Times the block; counts it if the step in flight is done when it ends."""
        began = self._clock()
        yield
        if in_flight is not None and in_flight[1]["loss"].is_ready():
            self._pending += self._clock() - began

    def restart(self) -> None:
        """The next finished step is not timed."""
        self._last = None

    def step_finished(self) -> None:
        """Counts a step; the first one after a restart, with its compilation, only starts it."""
        now = self._clock()
        if self._last is not None:
            self._durations.append(now - self._last)
            self._waited += self._pending
        self._last, self._pending = now, 0.0

    def read(self, step: int) -> dict[str, float]:
        """What the steps since the last reading, up to `step`, took; empty if none was timed.

        Returns:
          steps_per_second, clips_per_second; step_seconds, the median, and step_seconds_max;
          data_wait, a share; useful_seconds since the run began, and goodput, a share.
        """
        if not self._durations:
            return {}
        elapsed, timed = sum(self._durations), len(self._durations)
        rate = timed / elapsed
        self._useful += (elapsed - self._waited) / timed * (step - self._read_at)
        result = {
            "steps_per_second": rate,
            "clips_per_second": rate * self._batch_size,
            "step_seconds": median(self._durations),
            "step_seconds_max": max(self._durations),
            "data_wait": self._waited / elapsed,
            "useful_seconds": self._useful,
            "goodput": self.goodput(),
        }
        self._read_at = step
        self._durations, self._waited = [], 0.0
        return result

    def goodput(self) -> float:
        """Time in steps that count, up to the last reading, over all time; a share."""
        return self._useful / (self._wall_clock() - self._first_start)


def peak_memory() -> int:
    """Most bytes in use so far, on the fullest device of this process; on a CPU, of the process."""
    statistics = [device.memory_stats() for device in jax.local_devices()]
    if all(statistics):
        return max(device["peak_bytes_in_use"] for device in statistics)
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
