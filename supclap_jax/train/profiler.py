"""A window of steps under JAX's profiler."""

from pathlib import Path

import jax
from ml_collections import ConfigDict


class Trace:
    """Traces steps `profile.start` to `profile.start + profile.steps - 1` into `workdir/profile`.

    Every process writes a file of its own there, for XProf, TensorBoard or Perfetto.
    """

    def __init__(self, config: ConfigDict, workdir: Path):
        self._first = config.profile.start if config.profile.steps else None
        self._last = config.profile.start + config.profile.steps - 1
        self._folder = workdir / "profile"
        self._running = False

    def before(self, step: int) -> None:
        """Starts the trace if `step` is the first one in it."""
        if step == self._first:
            jax.profiler.start_trace(self._folder)
            self._running = True

    def after(self, step: int, metrics: dict[str, jax.Array]) -> None:
        """Ends the trace, when `metrics` are computed, if `step` is the last one in it."""
        if self._running and step == self._last:
            jax.block_until_ready(metrics)
            self.close()

    def close(self) -> None:
        """Ends the trace if it is running."""
        if self._running:
            jax.profiler.stop_trace()
            self._running = False
