"""Several processes that train together, on one machine or many, by JAX's distributed runtime."""

import os
import signal
import sys
from contextlib import contextmanager

import jax
from jax.experimental import multihost_utils

from supclap_jax.console import console
from supclap_jax.errors import ConfigError, Disconnected

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
