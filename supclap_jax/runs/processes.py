"""Several processes that train together, on one machine or many, by JAX's distributed runtime."""

import json
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import contextmanager

import jax
import numpy as np
from jax.experimental import multihost_utils

from supclap_jax.console import console
from supclap_jax.errors import ConfigError, DataError, Disconnected, UserError

HEARTBEAT_TIMEOUT = 60  # seconds of silence after which a process counts as gone


def connect() -> None:
    """Makes this process one of several; to be called before anything else of JAX.

    JAX finds the others by itself on TPU pods, under SLURM and Open MPI. Elsewhere the variables
    JAX_COORDINATOR_ADDRESS (host:port of the first process), JAX_NUM_PROCESSES and JAX_PROCESS_ID
    (from 0) name them. All but the first stay silent, errors aside.

    Raises:
      ConfigError: nothing names the others, or they do not come within five minutes.
    """
    numbers = {"num_processes": "JAX_NUM_PROCESSES", "process_id": "JAX_PROCESS_ID"}
    try:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(
            **{key: int(os.environ[name]) for key, name in numbers.items() if name in os.environ},
            heartbeat_timeout_seconds=HEARTBEAT_TIMEOUT,
        )
    except (ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"cannot join the other processes: {reason}. Outside TPU pods, SLURM and Open MPI, set "
            "JAX_COORDINATOR_ADDRESS=HOST:PORT, JAX_NUM_PROCESSES and JAX_PROCESS_ID, or leave out "
            "--distributed"
        ) from error
    console.quiet = not is_first()


def is_first() -> bool:
    """Whether this process is the one that prints and writes for all."""
    return jax.process_index() == 0


def wait_for_all(place: str) -> None:
    """Returns when all processes have come to `place`, a name."""
    multihost_utils.sync_global_devices(place)


@contextmanager
def failing_together():
    """What a user can mend in one process ends all, each with a line that says whose fault it is.

    Raises:
      UserError: of the block; or DataError, if it went well here and not in another process.
    """
    mine = None
    try:
        yield
    except UserError as error:
        mine = error
    told = _gather("" if mine is None else str(mine))
    if mine is not None:
        raise mine
    number = next((number for number, message in enumerate(told) if message), None)
    if number is not None:
        raise DataError(f"process {number} of {len(told)} cannot begin: {told[number]}")


def check_same(facts: Mapping[str, str]) -> None:
    """Compares facts with those of all other processes.

    Args:
      facts: what is compared, such as "the train clips" -> a digest.

    Raises:
      DataError: in all processes, where one has others; it says which, and what.
    """
    told = [json.loads(text) for text in _gather(json.dumps(facts))]
    for number, theirs in enumerate(told):
        for name in facts:
            if theirs[name] != told[0][name]:
                raise DataError(
                    f"{name} of process {number} are not those of process 0; all {len(told)} need "
                    "the same files, recipe and arguments"
                )


def _gather(text: str) -> list[str]:
    """A text of every process, to all of them; at most 4 kB of each."""
    if jax.process_count() == 1:
        return [text]
    mine = np.zeros(4096, np.uint8)
    data = text.encode()[: mine.size]
    mine[: len(data)] = np.frombuffer(data, np.uint8)
    rows = multihost_utils.process_allgather(mine)
    return [row.tobytes().rstrip(b"\0").decode(errors="replace") for row in rows]


@contextmanager
def ending_with_the_others():
    """Ends this process at once, with code 5, when another one is gone.

    At once, since orderly ways out wait for the others. What was saved is good.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if jax.process_count() == 1:
            raise
        print(
            f"supclap: process {jax.process_index()} of {jax.process_count()} lost the others: "
            f"{str(error).splitlines()[0]}. Start all again with the same command; training "
            "continues after the last checkpoint",
            file=sys.stderr,
            flush=True,
        )
        os._exit(Disconnected.exit_code)


@contextmanager
def stop_signals():
    """Yields `stop(step)`: the signal to stop for after this step, the same for all processes.

    A process of its own catches SIGTERM and SIGINT. Of several, JAX catches the SIGTERM of any one
    and names the next step that all can stop at.
    """
    if jax.process_count() > 1:
        yield lambda step: multihost_utils.reached_preemption_sync_point(step) and signal.SIGTERM
        return
    with collected_signals() as received:
        yield lambda step: next(iter(received), None)


@contextmanager
def collected_signals():
    """Yields a list that SIGTERM and SIGINT are added to; a second one of a kind acts as usual."""
    received, previous = [], {}

    def receive(number, frame):
        received.append(number)
        signal.signal(number, previous[number])

    for number in (signal.SIGTERM, signal.SIGINT):
        previous[number] = signal.signal(number, receive)
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
