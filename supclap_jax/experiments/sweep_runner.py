"""Runs what is left of a sweep, each run as `supclap train` in a process of its own."""

import contextlib
import fcntl
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from supclap_jax.config import changed_keys
from supclap_jax.errors import CannotWrite, ConfigError, Diverged, Interrupted
from supclap_jax.experiments.sweep_file import Planned, workdir_of
from supclap_jax.files import write_whole
from supclap_jax.runs.processes import collected_signals
from supclap_jax.runs.run import Run

POLL, REFRESH = 0.2, 2.0  # seconds


def run_sweep(
    planned: list[Planned],
    out: Path,
    jobs: int,
    on_change: Callable[[dict[str, str]], None],
    locks: Sequence[int] = (),
) -> dict[str, str]:
    """Runs, in order, what is not done, and returns when all are done or have failed.

    What was interrupted continues; what failed is tried again, unless it diverged, as it would once
    more. A run does not begin before its trunk is done, and not at all if that has failed.

    Args:
      planned: the runs, trunks first.
      out: folder of the sweep.
      jobs: how many at a time.
      on_change: called with `states` when one changes, and every two seconds.
      locks: of `alone`, which the runs hold too, should this process be killed.

    Returns:
      As `states`.

    Raises:
      ConfigError: a run was trained before, with another config than the sweep now has for it.
      Interrupted: by SIGINT or SIGTERM; every run was stopped after a checkpoint.
      CannotWrite: a file cannot be written.
    """
    _check_unchanged(planned, out)
    waiting = [plan for plan in planned if _is_to_run(out, plan)]
    running: dict[str, subprocess.Popen] = {}
    told, when = None, 0.0
    with collected_signals() as received:
        try:
            while (waiting or running) and not received:
                for plan in _ready(waiting, planned, out)[: jobs - len(running)]:
                    running[plan.run.name] = _start(plan, out, locks)
                    waiting.remove(plan)
                ended = {name: process for name, process in running.items() if _ended(process)}
                for name, process in ended.items():
                    _write_code(out, name, process.returncode)
                    del running[name]
                if not running and not _ready(waiting, planned, out):
                    break  # what is left needs a trunk that failed
                now = states(planned, out, running)
                if now != told or time.monotonic() > when + REFRESH:
                    on_change(now)
                    told, when = now, time.monotonic()
                time.sleep(POLL)
        finally:
            _stop(running)
    on_change(states(planned, out, {}))
    if received:
        raise Interrupted(
            received[0], f"the runs were stopped; the same command goes on with those in {out}"
        )
    return states(planned, out, {})


def states(planned: list[Planned], out: Path, running: dict | tuple = ()) -> dict[str, str]:
    """Of each run: "done", "running", "failed (CODE)", "trunk failed", "begun" or "waiting"."""
    found = {}
    for plan in planned:
        name, code = plan.run.name, exit_code(out, plan.run.name)
        if name in running:
            found[name] = "running"
        elif code is not None:
            found[name] = f"failed ({code})" if code else "done"
        elif "failed" in found.get(plan.run.trunk, ""):
            found[name] = "trunk failed"
        else:
            found[name] = "begun" if workdir_of(out, name).is_dir() else "waiting"
    return found


def exit_code(out: Path, name: str) -> int | None:
    """With which a run ended; None where it has not, or was interrupted."""
    path = _code_file(out, name)
    return int(path.read_text()) if path.is_file() else None


@contextlib.contextmanager
def alone(out: Path, index: int = 0, of: int = 1) -> Iterator[tuple[int, ...]]:
    """Holds the folder of a sweep, or this part of it, as long as this process and its runs live.

    Yields:
      Descriptors of the locks, for `run_sweep`.

    Raises:
      ConfigError: another sweep holds it.
    """
    with contextlib.ExitStack() as stack:
        try:
            out.mkdir(parents=True, exist_ok=True)
            whole = stack.enter_context((out / "sweep.lock").open("a"))
            part = stack.enter_context((out / f"part-{index}.lock").open("a"))
            fcntl.flock(whole, (fcntl.LOCK_SH if of > 1 else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            fcntl.flock(part, fcntl.LOCK_EX | fcntl.LOCK_NB)
            division = stack.enter_context((out / f"of-{of}.lock").open("a"))
            fcntl.flock(division, fcntl.LOCK_SH | fcntl.LOCK_NB)
            for path in set(out.glob("of-*.lock")) - {out / f"of-{of}.lock"}:
                with path.open("a") as other:  # parts of another division may hold the same runs
                    fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                f"another sweep, or a run that a killed one has left, is at work in {out}; wait "
                "for it, end it, or choose another --out"
            ) from error
        except OSError as error:
            raise CannotWrite(f"cannot write in {out}: {error}") from error
        yield whole.fileno(), part.fileno(), division.fileno()


def _check_unchanged(planned: list[Planned], out: Path) -> None:
    for plan in planned:
        run = Run(workdir_of(out, plan.run.name))
        if not run.exists or exit_code(out, plan.run.name) not in (0, None):
            continue  # what failed may have been mended
        changed = [key for key in changed_keys(run.config, plan.config) if key != "branch.run"]
        if changed:
            raise ConfigError(
                f"run {plan.run.name!r} in {out} was trained with other values of "
                f"{', '.join(changed)} than the sweep has now; give it another name, or choose "
                "another --out"
            )


def _is_to_run(out: Path, plan: Planned) -> bool:
    return exit_code(out, plan.run.name) not in (0, Diverged.exit_code)


def _ready(waiting: list[Planned], planned: list[Planned], out: Path) -> list[Planned]:
    """Those whose trunk is done, or is not needed any more."""
    names = {plan.run.name for plan in planned}
    return [
        plan
        for plan in waiting
        if plan.run.trunk not in names or exit_code(out, plan.run.trunk) == 0
    ]


def _start(plan: Planned, out: Path, locks: Sequence[int]) -> subprocess.Popen:
    """In a session of its own, so that Ctrl-C reaches the sweep alone."""
    workdir, code = workdir_of(out, plan.run.name), _code_file(out, plan.run.name)
    code.unlink(missing_ok=True)
    code.parent.mkdir(parents=True, exist_ok=True)
    workdir.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "supclap_jax.cli", "train", f"--workdir={workdir}"]
    with code.with_suffix(".log").open("a") as log:
        output = {"stdout": log, "stderr": log}
        return subprocess.Popen(
            [*command, *plan.flags], start_new_session=True, pass_fds=locks, **output
        )


def _ended(process: subprocess.Popen) -> bool:
    return process.poll() is not None


def _stop(running: dict[str, subprocess.Popen]) -> None:
    """Each after a checkpoint."""
    for process in running.values():
        process.send_signal(signal.SIGTERM)
    for process in running.values():
        process.wait()


def _write_code(out: Path, name: str, code: int) -> None:
    code = 128 - code if code < 0 else code  # of a signal, as shells have it
    if code in (128 + signal.SIGINT, 128 + signal.SIGTERM):
        return  # interrupted: it goes on next time
    write_whole(_code_file(out, name), f"{code}\n")


def _code_file(out: Path, name: str) -> Path:
    return out / "logs" / f"{name}.code"
