"""Checkpoints of both train states: asynchronous, the last few and the best on validation."""

from pathlib import Path

import orbax.checkpoint as ocp
from ml_collections import ConfigDict
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from supclap_jax.config import ConfigError, load
from supclap_jax.train.state import RadiusState, TrainState


class Checkpoints:
    """The folder `workdir/checkpoints`.

    Args:
      workdir: of the run.
      keep_last: newest checkpoints to keep, beside the one with the highest recall.
    """

    def __init__(self, workdir: Path, keep_last: int):
        best = BestN(get_metric_fn=_recall, n=1)
        self._manager = ocp.CheckpointManager(
            (workdir / "checkpoints").absolute(),
            options=ocp.CheckpointManagerOptions(
                preservation_policy=AnyPreservationPolicy([LatestN(keep_last), best]),
                best_fn=_recall,
            ),
        )

    def save(
        self, states: tuple[TrainState, RadiusState], step: int, recall: float | None = None
    ) -> None:
        """Starts to write the states after `step`, with their validation recall where known."""
        self._manager.save(
            step,
            args=ocp.args.StandardSave(dict(zip(("train", "radius"), states, strict=True))),
            metrics={} if recall is None else {"recall": recall},
        )

    def restore(
        self, step: int, abstract: tuple[TrainState, RadiusState]
    ) -> tuple[TrainState, RadiusState]:
        """Reads the states after `step` in the shapes and shardings of `abstract`."""
        target = dict(zip(("train", "radius"), abstract, strict=True))
        restored = self._manager.restore(step, args=ocp.args.StandardRestore(target))
        return restored["train"], restored["radius"]

    def steps(self) -> list[int]:
        """Steps with a checkpoint, in order."""
        return sorted(self._manager.all_steps())

    def best_step(self) -> int | None:
        """The step with the highest validation recall; None without any checkpoint."""
        return self._manager.best_step()

    def close(self) -> None:
        """Waits until every checkpoint is written."""
        self._manager.close()


def open_run(workdir: Path, step: int | None) -> tuple[ConfigDict, Checkpoints, int]:
    """A run's config, its checkpoints, and `step`, or that of the best checkpoint.

    Raises:
      ConfigError: there is no run, or no such checkpoint.
    """
    if not (workdir / "config.json").is_file():
        raise ConfigError(f"{workdir} holds no run (no config.json); see 'supclap train --help'")
    config = load(workdir / "config.json")
    checkpoints = Checkpoints(workdir, config.keep_last)
    step = checkpoints.best_step() if step is None else step
    if step not in checkpoints.steps():
        raise ConfigError(
            f"{workdir} holds no checkpoint of step {step}; there are "
            f"{', '.join(map(str, checkpoints.steps())) or 'none'}"
        )
    return config, checkpoints, step


def _recall(metrics: dict[str, float]) -> float:
    """A checkpoint that was not evaluated ranks last."""
    return metrics.get("recall", -1.0)
