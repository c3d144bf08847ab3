"""Worker processes that end with their parent, and not by Ctrl-C."""

import multiprocessing
import os
import signal
import threading
from contextlib import contextmanager
from multiprocessing import resource_tracker

LEFT_TO_PARENT = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def born_deaf():
    """Processes of threads that start in the block do not hear Ctrl-C, from their first moment.

    One that died of it before it has read what it is to do would leave its parent waiting for ever.
    """
    resource_tracker.ensure_running()  # which else would let its thread hear again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, LEFT_TO_PARENT)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def ended_by_sigterm():
    """SIGTERM ends the block as an exception does, with code 143: workers, and what they share, go.

    For the main thread of a command.
    """

    def leave(number, frame):
        raise SystemExit(128 + number)

    previous = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def live_with_parent(*_) -> None:
    """Called in a worker: it leaves signals to its parent and ends with it, however it ends."""
    for number in LEFT_TO_PARENT:
        signal.signal(number, signal.SIG_IGN)

    def follow():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
