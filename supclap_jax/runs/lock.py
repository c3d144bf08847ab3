"""One training at a time in a folder."""

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from supclap_jax.errors import RunError

LOCK = ".lock"


@contextmanager
def locked(workdir: Path) -> Iterator[None]:
    """Holds the folder, which is made if need be, until the block ends or the process dies.

    By an advisory lock of the file system (flock), which those of clusters know among their nodes
    too, if they are mounted so; the file says who has it.

    Raises:
      RunError: another training holds it.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    with (workdir / LOCK).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise RunError(
                f"{workdir} is being trained already, {_holder(file.read())}; wait for it or stop "
                "it, or choose another --workdir"
            ) from error
        file.truncate(0)
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.time()}
        file.write(json.dumps(holder))
        file.flush()
        yield


def is_locked(workdir: Path) -> bool:
    """Whether a training holds the folder."""
    try:
        with (workdir / LOCK).open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _holder(text: str) -> str:
    try:
        held = json.loads(text)
        since = time.strftime("%Y-%m-%d %H:%M", time.localtime(held["since"]))
        return f"by process {held['pid']} on {held['host']} since {since}"
    except (ValueError, KeyError, TypeError):
        return "by a process that has just begun"
