"""Checkpoints of both train states: asynchronous, checked, the last few and the best."""

import json
import logging
import shutil
import zlib
from pathlib import Path

import jax
import orbax.checkpoint as ocp
from ml_collections import ConfigDict
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from supclap_jax.config import load
from supclap_jax.errors import CannotWrite, ConfigError
from supclap_jax.console import console
from supclap_jax.runs.processes import is_first, wait_for_all
from supclap_jax.runs.states import RadiusState, TrainState

SUMS = "sums.json"  # in the folder of a step: length and CRC-32 of each of its files


class Checkpoints:
    """The folder `workdir/checkpoints`.

    Args:
      workdir: of the run.
      keep_last: newest checkpoints to keep, beside the one with the highest recall.
      repair: whether to put damaged checkpoints away, in `workdir/damaged`, and print which.

    Raises:
      ConfigError: a checkpoint is damaged, and that is not to be repaired.
    """

    def __init__(self, workdir: Path, keep_last: int, repair: bool = False):
        self._folder = (workdir / "checkpoints").absolute()
        for step in _step_folders(self._folder):
            problem = _problem(step, contents=False)
            if problem and not repair:
                raise ConfigError(
                    f"checkpoint {step} is damaged: {problem}. Training, started again, puts it "
                    "away and goes on from the one before; or remove it"
                )
            if problem:
                self._put_away(step, problem)
        wait_for_all("damaged checkpoints are put away")
        logging.getLogger("absl").setLevel(logging.CRITICAL)  # errors are raised, too
        best = BestN(get_metric_fn=_recall, n=1)
        self._manager = ocp.CheckpointManager(
            self._folder,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=AnyPreservationPolicy([LatestN(keep_last), best]),
                best_fn=_recall,
                async_options=ocp.AsyncOptions(post_finalization_callback=self._add_sums),
            ),
        )

    def save(
        self, states: tuple[TrainState, RadiusState], step: int, recall: float | None = None
    ) -> None:
        """Starts to write the states after `step`, with their validation recall where known.

        Raises:
          CannotWrite: this one or the one before cannot be written.
        """
        needed = sum(leaf.nbytes for leaf in jax.tree.leaves(states))
        free = shutil.disk_usage(self._folder).free
        if free < needed + 2**20:
            raise self._cannot_write(f"it needs {needed:,} bytes, and {free:,} are free")
        try:
            self._manager.save(
                step,
                args=ocp.args.StandardSave(dict(zip(("train", "radius"), states, strict=True))),
                metrics={} if recall is None else {"recall": recall},
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise self._cannot_write(error) from error

    def restore(
        self, step: int, abstract: tuple[TrainState, RadiusState]
    ) -> tuple[TrainState, RadiusState]:
        """Reads the states after `step` in the shapes and shardings of `abstract`.

        Raises:
          ConfigError: its files are not as they were written.
        """
        problem = _problem(self._folder / str(step), contents=True)
        if problem:
            raise ConfigError(f"checkpoint {self._folder / str(step)} is damaged: {problem}")
        target = dict(zip(("train", "radius"), abstract, strict=True))
        restored = self._manager.restore(step, args=ocp.args.StandardRestore(target))
        return restored["train"], restored["radius"]

    def restore_newest(
        self, abstract: tuple[TrainState, RadiusState]
    ) -> tuple[int, tuple[TrainState, RadiusState] | None]:
        """The newest checkpoint that is as it was written; damaged ones are put away.

        Returns:
          Its step and states; 0 and None where there never was a checkpoint.

        Raises:
          ConfigError: there are checkpoints, and all are damaged.
        """
        steps = self.steps()
        for step in reversed(steps):
            try:
                return step, self.restore(step, abstract)
            except ConfigError:
                problem = _problem(self._folder / str(step), contents=True)
            except Exception as error:  # Orbax raises any kind for what it cannot read
                problem = f"{type(error).__name__}: {str(error)[:200]}"
            wait_for_all(f"checkpoint {step} is read")
            self._put_away(self._folder / str(step), problem)
            wait_for_all(f"checkpoint {step} is put away")
            self._manager.reload()
        if steps or (self._folder.parent / "damaged").is_dir():
            raise ConfigError(
                f"all checkpoints of {self._folder.parent} are damaged and now in its folder "
                "'damaged'; to train from the beginning, choose another --workdir"
            )
        return 0, None

    def steps(self) -> list[int]:
        """Steps with a checkpoint, in order."""
        return sorted(self._manager.all_steps())

    def best_step(self) -> int | None:
        """The step with the highest validation recall; None without any checkpoint."""
        return self._manager.best_step()

    def close(self) -> None:
        """Waits until every checkpoint is written.

        Raises:
          CannotWrite: the last one cannot be.
        """
        try:
            self._manager.close()
            self._add_sums()
        except (OSError, ValueError, RuntimeError) as error:
            raise self._cannot_write(error) from error

    def _put_away(self, step: Path, problem: str) -> None:
        console.print(f"Checkpoint {step.name} is damaged and left out: {problem}.")
        if is_first():
            damaged = self._folder.parent / "damaged"
            damaged.mkdir(exist_ok=True)
            step.rename(damaged / f"{step.name}-{len(list(damaged.iterdir()))}")

    def _add_sums(self) -> None:
        """To all complete checkpoints; in Orbax's thread, when the next one is nearly written."""
        if is_first():
            for step in _step_folders(self._folder):
                if not (step / SUMS).exists():
                    unfinished = self._folder / SUMS
                    unfinished.write_text(json.dumps(_sums(step, contents=True)))
                    unfinished.replace(step / SUMS)

    def _cannot_write(self, reason: Exception | str) -> CannotWrite:
        return CannotWrite(
            f"a checkpoint cannot be written in {self._folder}: {str(reason).splitlines()[0]}. The "
            "earlier ones are good: make room and start again with the same command"
        )


def open_run(workdir: Path, step: int | None) -> tuple[ConfigDict, Checkpoints, int]:
    """A run's config, its checkpoints, and `step`, or that of the best checkpoint.

    Raises:
      ConfigError: there is no run, or no such checkpoint, or one is damaged.
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


def _step_folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted((path for path in folder.iterdir() if path.name.isdigit()), key=lambda p: p.name)


def _sums(step: Path, contents: bool) -> dict[str, list[int]]:
    """Length and, with `contents`, CRC-32 of each file of a checkpoint but the list itself."""
    sums = {}
    for path in sorted(step.rglob("*")):
        if path.is_file() and path.name != SUMS:
            crc, length = 0, path.stat().st_size
            if contents:
                with path.open("rb") as file:
                    while block := file.read(2**24):
                        crc = zlib.crc32(block, crc)
            sums[str(path.relative_to(step))] = [length, crc] if contents else [length]
    return sums


def _problem(step: Path, contents: bool) -> str | None:
    """What is wrong with the files of a checkpoint; None if nothing is.

    There may be no list for the newest one, where training was killed before the next.
    """
    try:
        expected = json.loads((step / SUMS).read_text())
    except FileNotFoundError:
        return None
    except ValueError:
        return f"{SUMS} is cut off"
    found = _sums(step, contents)
    for name, sums in expected.items():
        if name not in found:
            return f"{name} is missing"
        if found[name][0] != sums[0]:
            return f"{name} has {found[name][0]} of {sums[0]} bytes"
        if contents and found[name] != sums:
            return f"{name} has changed"
    return None
