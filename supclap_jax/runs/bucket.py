"""Runs in a bucket: checkpoints lie there, small files in a local folder that is its copy.

Objects cannot be appended to, so metrics and history are written locally and copied: every minute,
and before every checkpoint, which therefore never lies there without its metrics. What the bucket
holds counts: a start anywhere makes the local folder the same as it.
"""

import base64
import hashlib
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from etils import epath

from supclap_jax.console import console
from supclap_jax.errors import BadArgument, CannotWrite, UserError
from supclap_jax.files import is_unfinished, write_whole
from supclap_jax.runs.lock import LOCK, is_locked

ADDRESS = ".bucket"  # in the local folder: where it is a copy of
COMMITTED = "commit_success.txt"  # Orbax writes it to a checkpoint when all else is there
LARGE = ("checkpoints", "damaged")  # not copied
INTERVAL = 60.0  # seconds
FORBIDDEN = (401, 403)


def folder_of(address: str) -> Path:
    """The local folder of a run `gs://BUCKET/PATH`, made what the bucket holds.

    It lies in `~/.cache/supclap/runs/`, and holds nothing that the bucket does not hold.

    Raises:
      BadArgument: the address is no such one, there is no such bucket, or it cannot be read.
      ModuleNotFoundError: the extra `gcs` is not installed.
    """
    scheme, _, path = address.partition("://")
    parts = [part for part in path.split("/") if part]
    if scheme != "gs" or len(parts) < 2 or {".", ".."} & set(parts):
        raise BadArgument(
            f"{address!r} is no place for a run; expected a folder, or gs://BUCKET/PATH"
        )
    folder = Path.home() / ".cache" / "supclap" / "runs" / Path(*parts)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ADDRESS).write_text(f"gs://{'/'.join(parts)}")
    pull(folder)
    return folder


def home_of(workdir: Path) -> epath.Path:
    """Where the large files of a run are: its folder, or its place in a bucket."""
    link = workdir / ADDRESS
    return epath.Path(link.read_text()) if link.is_file() else epath.Path(workdir.absolute())


def name_of(workdir: Path) -> str:
    """A run as a person calls it: by its folder, or its address."""
    return str(home_of(workdir) if is_in_bucket(workdir) else workdir)


def is_in_bucket(workdir: Path) -> bool:
    """Whether a folder is the local one of a run in a bucket."""
    return (workdir / ADDRESS).is_file()


def pull(workdir: Path) -> None:
    """Makes the local folder what the bucket holds; of any other folder nothing.

    One that is being trained in is left as it is, for the bucket will be made what it holds.

    Raises:
      BadArgument: as of `folder_of`.
    """
    if not is_in_bucket(workdir) or is_locked(workdir):
        return
    home, system = str(home_of(workdir)), _system()
    with _told(home, BadArgument):
        system.ls(home.removeprefix("gs://").partition("/")[0])  # fails where there is none
        theirs = _remote_files(system, home)
        for name, digest in theirs.items():
            path = workdir / name
            if not path.is_file() or _digest(path) != digest:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_whole(path, system.cat_file(f"{home}/{name}"))
    for name, path in _local_files(workdir).items():
        if name not in theirs:
            path.unlink()


def push(workdir: Path) -> None:
    """Copies to the bucket what is not there yet; of any other folder nothing.

    Raises:
      CannotWrite: it cannot be written.
    """
    if not is_in_bucket(workdir):
        return
    home, system = str(home_of(workdir)), _system()
    with _told(home, CannotWrite):
        theirs = _remote_files(system, home)
        for name, path in _local_files(workdir).items():
            content = path.read_bytes()
            if theirs.get(name) != _md5(content):
                system.pipe_file(f"{home}/{name}", content)


@contextmanager
def mirrored(workdir: Path) -> Iterator[None]:
    """Copies to the bucket every minute, and when the block ends; of any other folder nothing.

    A copy that fails on the way is told, and tried again a minute later.

    Raises:
      CannotWrite: the last one fails.
    """
    if not is_in_bucket(workdir):
        yield
        return
    ended = threading.Event()

    def copy():
        while not ended.wait(INTERVAL):
            try:
                push(workdir)
            except UserError as error:
                console.print(f"{error}; it is tried again in a minute", soft_wrap=True)

    threading.Thread(target=copy, daemon=True).start()
    try:
        yield
    except BaseException:
        ended.set()
        with suppress(UserError):  # what went wrong before is told
            push(workdir)
        raise
    ended.set()
    push(workdir)


def _system():
    import gcsfs

    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # errors are raised, too
    system = gcsfs.GCSFileSystem(use_listings_cache=False)
    system.retries = 8  # over a minute and a half, where the store is busy
    return system


@contextmanager
def _told(home: str, kind: type[UserError]) -> Iterator[None]:
    """What goes wrong with a bucket, in a line."""
    try:
        yield
    except FileNotFoundError as error:
        raise kind(f"{home}: there is no such bucket, or it is not yours to see") from error
    except Exception as error:  # gcsfs, aiohttp and Google's libraries raise any kind
        code = getattr(error, "code", getattr(error, "status", None))
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        if code in FORBIDDEN or reason.startswith("Forbidden"):
            reason = "access is refused; see that these credentials may read and write it"
        raise kind(f"{home} cannot be reached: {reason}") from error


def _remote_files(system, home: str) -> dict[str, str]:
    """Name -> MD5 of the small files in a bucket."""
    root = home.removeprefix("gs://")
    found = {}
    try:
        entries = system.ls(root, detail=True)
    except FileNotFoundError:  # a folder without files is none
        return {}
    for entry in entries:
        name = entry["name"].rstrip("/").removeprefix(f"{root}/")
        if entry["type"] == "file":
            found[name] = entry.get("md5Hash")
        elif name and name not in LARGE:
            inside = system.find(entry["name"], detail=True).items()
            found |= {path.removeprefix(f"{root}/"): info.get("md5Hash") for path, info in inside}
    return {name: digest for name, digest in found.items() if ".." not in name.split("/")}


def _local_files(workdir: Path) -> dict[str, Path]:
    own = (ADDRESS, LOCK, *LARGE)
    paths = (path for path in workdir.rglob("*") if path.is_file() and not is_unfinished(path))
    names = {path.relative_to(workdir).as_posix(): path for path in paths}
    return {name: path for name, path in names.items() if name.split("/")[0] not in own}


def _digest(path: Path) -> str:
    return _md5(path.read_bytes())


def _md5(content: bytes) -> str:
    """As Google tells it."""
    return base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()
