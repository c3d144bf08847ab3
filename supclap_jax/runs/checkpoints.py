"""Checkpoints of both train states: asynchronous, checked, the last few and the best."""

import json
import logging
import shutil
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

import jax
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint.checkpoint_managers import (
    AnyPreservationPolicy,
    BestN,
    CustomSteps,
    LatestN,
)

from supclap_jax.console import console
from supclap_jax.errors import CannotWrite, RunError
from supclap_jax.files import write_whole
from supclap_jax.runs.bucket import entries, home_of, is_in_bucket, move, push, reaching
from supclap_jax.runs.checkpoint_files import (
    METRICS,
    STAMPED,
    SUMS,
    problem_of,
    step_folders,
    sums_of,
)
from supclap_jax.runs.processes import failing_together, is_first, wait_for_all
from supclap_jax.runs.states import States

UNNAMED = "*.orbax-checkpoint-tmp*"  # a checkpoint until all of its files are there
# How TensorStore's errors begin where bytes are missing or cannot be decoded. Errors of the file
# system have other codes, such as UNKNOWN (EIO), ABORTED (ESTALE) and RESOURCE_EXHAUSTED (ENOMEM).
DAMAGED = ("DATA_LOSS:", "FAILED_PRECONDITION:", "NOT_FOUND:", "OUT_OF_RANGE:")


class DamagedCheckpoint(RunError):
    """Files of a checkpoint are missing or not as they were written."""

    def __init__(self, folder: epath.Path, problem: str):
        super().__init__(
            f"checkpoint {folder} is damaged: {problem}. Training, started again, puts it away and "
            "goes on from the one before; or remove it, or name another with --step"
        )
        self.problem = problem


class Checkpoints:
    """The folder `workdir/checkpoints`.

    Args:
      workdir: of the run.
      keep_last: newest checkpoints to keep, beside the one with the highest recall.
      keep_steps: steps whose checkpoints are kept, too.
      repair: whether to put damaged checkpoints away, in `workdir/damaged`, and print which.

    Raises:
      DamagedCheckpoint: one is, that is not to be repaired, and Orbax cannot do without it.
      RunError: the file system or Orbax does not let one be read.
    """

    def __init__(
        self,
        workdir: Path,
        keep_last: int,
        keep_steps: Sequence[int] = (),
        repair: bool = False,
    ):
        self._workdir = workdir
        self._folder = home_of(workdir) / "checkpoints"
        # of writing; the libraries of buckets raise any kind
        self._errors = Exception if is_in_bucket(workdir) else (OSError, ValueError, RuntimeError)
        self._damaged: dict[int, str] = {}
        with failing_together():
            problems = self._problems()
        if repair:
            with failing_together():  # once all have looked
                for step, problem in problems.items():
                    self._put_away(self._folder / str(step), problem)
        else:
            self._damaged = problems
        logging.getLogger("absl").setLevel(logging.CRITICAL)  # errors are raised, too
        self._wrote = False
        kept = [
            LatestN(keep_last),
            CustomSteps(list(keep_steps)),
            BestN(get_metric_fn=_recall, n=1),
        ]
        options = ocp.CheckpointManagerOptions(
            preservation_policy=AnyPreservationPolicy(kept),
            best_fn=_recall,
            async_options=ocp.AsyncOptions(post_finalization_callback=self._add_sums),
        )
        try:
            self._manager = ocp.CheckpointManager(self._folder, options=options)
        except Exception as error:  # Orbax raises any kind
            for step, problem in self._damaged.items():
                raise DamagedCheckpoint(self._folder / str(step), problem) from error
            raise RunError(
                f"the checkpoints in {self._folder} cannot be read: {_reason(error)}"
            ) from error

    def _problems(self) -> dict[int, str]:
        """What is wrong with checkpoints, by step; their contents are not read."""
        problems = {}
        with reaching(self._workdir, RunError):
            for step in step_folders(self._folder):
                try:
                    problem = problem_of(step, contents=False)
                except OSError as error:
                    raise RunError(
                        f"checkpoint {step} cannot be read: {_reason(error)}. It was left as it "
                        "is; mend that and try again"
                    ) from error
                if problem:
                    problems[int(step.name)] = problem
        return problems

    def save(self, states: States, step: int, recall: float | None = None) -> None:
        """Starts to write the states after `step`, with their validation recall where known.

        Raises:
          CannotWrite: this one or the one before cannot be written.
        """
        if not is_in_bucket(self._workdir):
            needed = sum(leaf.nbytes for leaf in jax.tree.leaves(states))
            free = shutil.disk_usage(self._folder).free
            if free < needed + 2**20:
                raise self._cannot_write(f"it needs {needed:,} bytes, and {free:,} are free")
        elif is_first():
            push(self._workdir)  # a checkpoint is not there before its metrics
        self._wrote = True
        try:
            self._manager.save(
                step,
                args=ocp.args.StandardSave(_items(states)),
                metrics={} if recall is None else {"recall": recall},
            )
        except self._errors as error:
            raise self._cannot_write(error) from error

    def restore(self, step: int, abstract: States) -> States:
        """Reads the states after `step` in the shapes and shardings of `abstract`.

        Raises:
          DamagedCheckpoint: files are missing or not as they were written.
          RunError: it cannot be restored for any other reason, such as too little memory, an error
            of the file system, or states of other shapes.
        """
        folder = self._folder / str(step)
        try:
            problem = problem_of(folder, contents=True)
            if problem is None:
                target = ocp.args.StandardRestore(_items(abstract))
                items = self._manager.restore(step, args=target)
                return States(dual=items["train"], radius=items["radius"])
        except Exception as error:  # Orbax raises any kind
            problem = _reason(error)
            with reaching(self._workdir, RunError):
                has_sums = (folder / SUMS).exists()
            if has_sums or not _is_of_bytes(error):
                raise RunError(
                    f"checkpoint {folder} cannot be restored: {problem}. Its files show no damage "
                    "and were left as they are; mend that and try again, or move it away to use "
                    "another one"
                ) from error
        raise DamagedCheckpoint(folder, problem)

    def restore_newest(self, abstract: States) -> tuple[int, States | None]:
        """The newest checkpoint that is as it was written; damaged ones are put away.

        Returns:
          Its step and states; 0 and None where there never was a checkpoint.

        Raises:
          RunError: there are checkpoints, and all are damaged, or as `restore`.
        """
        steps = self.steps()
        for step in reversed(steps):
            try:
                return step, self.restore(step, abstract)
            except DamagedCheckpoint as error:
                problem = error.problem
            wait_for_all(f"checkpoint {step} is read")
            self._put_away(self._folder / str(step), problem)
            wait_for_all(f"checkpoint {step} is put away")
            with reaching(self._workdir, RunError):
                self._manager.reload()
        with reaching(self._workdir, RunError):
            were_damaged = bool(entries(self._folder.parent / "damaged"))
        if steps or were_damaged:
            raise RunError(
                f"all checkpoints of {self._folder.parent} are damaged and now in its folder "
                "'damaged'; to train from the beginning, choose another --workdir"
            )
        return 0, None

    def find(self, step: int | None = None) -> int:
        """`step` if it has a checkpoint; by default `best_step`.

        Raises:
          RunError: there is no such checkpoint.
          DamagedCheckpoint: it is.
        """
        for damaged, problem in self._damaged.items() if step is None else ():
            if problem == f"{METRICS} is missing":  # cut short: the intact ones are as they were
                console.print(f"Checkpoint {damaged} is damaged and left out: {problem}.")
            elif problem.startswith(METRICS):  # then nobody knows which is the best
                raise DamagedCheckpoint(self._folder / str(damaged), problem)
        step = self.best_step() if step is None else step
        if step is None:
            raise RunError(f"{self._folder.parent} holds no checkpoint yet; train it further")
        if step not in self.steps():
            raise RunError(
                f"{self._folder.parent} holds no checkpoint of step {step}; there are "
                f"{', '.join(map(str, self.steps())) or 'none'}"
            )
        if step in self._damaged:
            raise DamagedCheckpoint(self._folder / str(step), self._damaged[step])
        return step

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
            if self._wrote:
                self._add_sums()
        except self._errors as error:
            raise self._cannot_write(error) from error

    def _put_away(self, step: epath.Path, problem: str) -> None:
        console.print(f"Checkpoint {step.name} is damaged and left out: {problem}.")
        if is_first():
            damaged = self._folder.parent / "damaged"
            with reaching(self._workdir, CannotWrite):
                damaged.mkdir(exist_ok=True)
                move(step, damaged / f"{step.name}-{len(entries(damaged))}")

    def _add_sums(self) -> None:
        """To all complete checkpoints; in Orbax's thread, before the newest gets its name."""
        if is_first():
            steps = step_folders(self._folder, committed=False)
            unnamed = [x for x in entries(self._folder) if fnmatch(x.name, UNNAMED)]
            for step in [*unnamed, *steps]:
                if not (step / SUMS).exists():
                    sums = sums_of(step, contents=not is_in_bucket(self._workdir))
                    sums.pop(STAMPED, None)
                    if is_in_bucket(self._workdir):
                        (step / SUMS).write_text(json.dumps(sums))
                    else:
                        write_whole(Path(step / SUMS), json.dumps(sums))

    def _cannot_write(self, reason: Exception | str) -> CannotWrite:
        mend = "see that it may be written" if is_in_bucket(self._workdir) else "make room"
        reason = str(reason).splitlines()[0][:500] if str(reason) else type(reason).__name__
        return CannotWrite(
            f"a checkpoint cannot be written in {self._folder}: {reason}. "
            f"The earlier ones are good: {mend} and start again with the same command"
        )


def _items(states: States) -> dict:
    """By their names on disk."""
    return {"train": states.dual, "radius": states.radius}


def _recall(metrics: dict[str, float]) -> float:
    """A checkpoint that was not evaluated ranks last."""
    return metrics.get("recall", -1.0)


def _is_of_bytes(error: BaseException | None) -> bool:
    """Whether an error on restoring says that bytes of the checkpoint are missing or wrong.

    It decides where there is no list of sums to compare them with. Files that are not there or
    cannot be decoded are damage: TensorStore and the readers of JSON say so. All other errors, such
    as of memory, of a file system, or for states of other shapes, say nothing about the bytes; and
    what is in doubt is not put away.
    """
    while error is not None:
        undecodable = isinstance(error, ValueError) and str(error).startswith(DAMAGED)
        if undecodable or isinstance(error, FileNotFoundError | json.JSONDecodeError):
            return True
        error = error.__cause__
    return False


def _reason(error: BaseException) -> str:
    """In one line, of the error that was the first."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {str(error)[:200]}".splitlines()[0]
