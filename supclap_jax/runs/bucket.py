"""Runs in a bucket: checkpoints lie there, small files in a local folder that is its copy.

Objects cannot be appended to, so metrics and history are written locally and copied: every minute,
and before every checkpoint, which therefore never lies there without its metrics. What the bucket
holds counts: training, started anywhere, makes the local folder the same as it. Others only read:
they fetch what is newer and remove nothing, and of a folder that is trained in not even that.
"""

import base64
import fcntl
import hashlib
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

import fsspec
from etils import epath

from supclap_jax.console import console
from supclap_jax.errors import BadArgument, CannotWrite, RunError, UserError
from supclap_jax.files import is_unfinished, write_whole
from supclap_jax.runs.lock import LOCK, is_locked

ADDRESS = ".bucket"  # in the local folder: where it is a copy of
RUN = "config.json"  # what makes a folder a run
LARGE = ("checkpoints", "damaged")  # not copied
PROFILE = "profile"  # of each host its own; that of the first is copied
OF_EVALUATION = ("evaluation.json", "per_clip.npz", "figures")  # copied by it alone
COMMITTED = "commit_success.txt"  # Orbax writes it to a checkpoint when all else is there
INTERVAL = 60.0  # seconds
LONGEST = 200  # of names of local folders
FORBIDDEN = (401, 403)


def folder_of(address: str, trains: bool = False) -> Path:
    """The local folder of a run `gs://BUCKET/PATH`, with what the bucket holds.

    It lies in `~/.cache/supclap/runs/`.

    Args:
      address: of the run.
      trains: whether the run may be begun or continued; the folder then holds nothing else.

    Raises:
      BadArgument: the address is no such one, there is no such bucket, it cannot be read, or other
        things are there.
      RunError: nothing is there, and nothing is to be begun.
      ModuleNotFoundError: the extra `gcs` is not installed.
    """
    scheme, _, path = address.partition("://")
    parts = [part for part in path.split("/") if part]
    if scheme != "gs" or len(parts) < 2 or {".", ".."} & set(parts):
        raise BadArgument(
            f"{address!r} is no place for a run; expected a folder, or gs://BUCKET/PATH"
        )
    home = f"gs://{'/'.join(parts)}"
    name = quote(home, safe="")
    if len(name) > LONGEST:
        name = f"{name[:LONGEST]}-{hashlib.sha256(home.encode()).hexdigest()[:16]}"
    folder = Path.home() / ".cache" / "supclap" / "runs" / name
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / ADDRESS).is_file():
        write_whole(folder / ADDRESS, home)
    pull(folder, trains)
    return folder


def home_of(workdir: Path) -> epath.Path:
    """Where the large files of a run are: its folder, or its place in a bucket."""
    if not is_in_bucket(workdir):
        return epath.Path(workdir.absolute())
    for protocol in ("gs", "gcs"):  # which would not see what others have written since
        fsspec.config.conf.setdefault(protocol, {})["use_listings_cache"] = False
    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # errors are raised, too
    return epath.Path((workdir / ADDRESS).read_text())


def entries(folder: epath.Path) -> list[epath.Path]:
    """What is in a folder; nothing where there is none, which a bucket does not tell apart."""
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError:
        return []


def size_and_time(path: epath.Path) -> tuple[int, float]:
    """Bytes of a file, and when it was written, in seconds since 1970."""
    if str(path).startswith("gs://"):
        found = path.stat()
        return found.length, found.mtime
    found = os.stat(path)  # for epath asks for the owner's name, which there may be none of
    return found.st_size, found.st_mtime


def name_of(workdir: Path) -> str:
    """A run as a person calls it: by its folder, or its address."""
    return str(home_of(workdir) if is_in_bucket(workdir) else workdir)


def is_in_bucket(workdir: Path) -> bool:
    """Whether a folder is the local one of a run in a bucket."""
    return (workdir / ADDRESS).is_file()


def pull(workdir: Path, trains: bool) -> None:
    """Fetches the small files of a bucket that differ; of any other folder nothing.

    Nothing of one that is trained in on this machine: it is newer than the bucket.

    Raises:
      BadArgument, RunError: as of `folder_of`.
    """
    if not is_in_bucket(workdir) or is_locked(workdir):
        return
    home, system = str(home_of(workdir)), _system()
    with reaching(workdir, BadArgument):
        system.ls(home.removeprefix("gs://").partition("/")[0])  # fails where there is none
        theirs = _remote_files(system, home)
        if RUN not in theirs and not trains:
            raise RunError(f"{home} holds no run; see 'supclap train --help'")
        if RUN not in theirs and theirs:
            raise BadArgument(
                f"{home} holds other things, such as {min(theirs)}, and no run; choose another"
            )
        contents = {
            name: system.cat_file(f"{home}/{name}")
            for name, info in theirs.items()
            if not (workdir / name).is_file()
            or _md5((workdir / name).read_bytes()) != info.get("md5Hash")
        }
    for name, content in contents.items():
        path, written = workdir / name, datetime.fromisoformat(str(theirs[name]["updated"]))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)
        os.utime(path, (written.timestamp(), written.timestamp()))
    if trains:
        for name, path in _local_files(workdir).items():
            if name not in theirs and name.split("/")[0] != PROFILE:
                path.unlink(missing_ok=True)


def push(workdir: Path, of_evaluation: bool = False) -> None:
    """Copies to the bucket what differs there; of any other folder nothing.

    Args:
      workdir: the local folder.
      of_evaluation: what evaluation writes, or all else.

    Raises:
      CannotWrite: it cannot be written.
    """
    if not is_in_bucket(workdir):
        return
    home, system = str(home_of(workdir)), _system()
    with (workdir / ADDRESS).open("a") as link:
        fcntl.flock(link, fcntl.LOCK_EX)  # so that of two copies the later one has the newer files
        contents = {}
        for name, path in _local_files(workdir).items():
            if (name.split("/")[0] in OF_EVALUATION) == of_evaluation:
                with suppress(FileNotFoundError):  # a temporary one
                    contents[name] = path.read_bytes()
        with reaching(workdir, CannotWrite):
            theirs = _remote_files(system, home)
            for name in sorted(contents, key=lambda name: name != RUN):  # by it a run is known
                content = contents[name]
                if name not in theirs or theirs[name].get("md5Hash") != _md5(content):
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

    thread = threading.Thread(target=copy, daemon=True)
    thread.start()
    try:
        yield
    except BaseException:
        ended.set()
        with suppress(UserError):  # what went wrong before is told
            push(workdir)
        raise
    ended.set()
    thread.join()
    push(workdir)


def move(source: epath.Path, target: epath.Path) -> None:
    """A folder with all that is in it; buckets copy each file and remove it."""
    if not str(source).startswith("gs://"):
        source.rename(target)
        return
    system = _system()
    for path in system.find(str(source)):
        inside = path.removeprefix(str(source).removeprefix("gs://"))
        system.pipe_file(f"{target}{inside}", system.cat_file(path))
    system.rm(str(source), recursive=True)


@contextmanager
def reaching(workdir: Path, kind: type[UserError]) -> Iterator[None]:
    """What goes wrong with a run's bucket is raised as `kind`, in a line; on disk, as it is."""
    if not is_in_bucket(workdir):
        yield
        return
    home = home_of(workdir)
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError as error:
        raise kind(f"{home}: there is no such bucket, or it is not yours to see") from error
    except Exception as error:  # gcsfs, aiohttp and Google's libraries raise any kind
        code = getattr(error, "code", getattr(error, "status", None))
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        if code in FORBIDDEN or reason.startswith("Forbidden"):
            reason = "access is refused; see that these credentials may read and write it"
        raise kind(f"{home} cannot be reached: {reason}") from error


def _system():
    import gcsfs  # noqa: F401  says which extra is missing

    return fsspec.filesystem("gs")


def _remote_files(system, home: str) -> dict[str, dict]:
    """Name -> what the store tells of it, of the small files in a bucket."""
    root = home.removeprefix("gs://")
    found = {}
    try:
        entries = system.ls(root, detail=True)
    except FileNotFoundError:  # a folder without files is none
        return {}
    for entry in entries:
        name = entry["name"].rstrip("/").removeprefix(f"{root}/")
        if entry["type"] == "file":
            found[name] = entry
        elif name and name not in LARGE:
            inside = system.find(entry["name"], detail=True).items()
            found |= {path.removeprefix(f"{root}/"): info for path, info in inside}
    return {name: info for name, info in found.items() if ".." not in name.split("/")}


def _local_files(workdir: Path) -> dict[str, Path]:
    own = (ADDRESS, LOCK, *LARGE)
    paths = (path for path in workdir.rglob("*") if path.is_file() and not is_unfinished(path))
    names = {path.relative_to(workdir).as_posix(): path for path in paths}
    return {name: path for name, path in names.items() if name.split("/")[0] not in own}


def _md5(content: bytes) -> str:
    """As Google tells it."""
    return base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()
