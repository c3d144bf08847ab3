"""Files that are rewritten: a reader finds the old content or the new, whole, whatever happens."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from supclap_jax.errors import BadArgument, ConfigError


def path_of(text: str) -> Path:
    """A path as a person writes it, `~` being the home folder.

    Raises:
      BadArgument: it is an address, such as of a bucket.
    """
    if "://" in text and not text.startswith("hf://"):
        raise BadArgument(
            f"{text} is no path on this machine; mount the bucket, such as by gcsfuse, or copy it. "
            "Runs alone may be in a bucket, as gs://BUCKET/PATH"
        )
    return Path(text).expanduser()


def check_output(path: Path | None) -> None:
    """Raises ConfigError where no file can be written there; before the work, not after."""
    if path is not None and (path.is_dir() or not path.parent.is_dir()):
        raise ConfigError(f"cannot write {str(path)!r}; expected a file in an existing folder")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary file's path beside `path`, which takes its place when the block ends.

    It is on disk before it does. A link stays, and what it points to is replaced. If the block
    raises, `path` stays as it was and nothing is left; a kill may leave the temporary file, whose
    name begins with a dot and ends with ".part".

    Raises:
      OSError: the file cannot be written, such as on a full disk.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "numbers.txt"
    >>> with replacing(path) as unfinished:
    ...     _ = unfinished.write_text("1 2 3")
    >>> path.read_text()
    '1 2 3'
    """
    path = path.resolve()
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        unfinished.touch()
        rights = unfinished.stat().st_mode
        yield unfinished
        unfinished.chmod(rights)  # those of new files here, whatever wrote it
        _sync(unfinished)
        os.replace(unfinished, path)
        _sync(path.parent)
    finally:
        unfinished.unlink(missing_ok=True)


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes a file by `replacing`; text as UTF-8. A pipe or device, as /dev/stdout, stays itself.

    Raises:
      OSError: it cannot be written.
    """
    content = content.encode() if isinstance(content, str) else content
    if path.exists() and not path.is_file():
        path.write_bytes(content)
        return
    with replacing(path) as unfinished:
        unfinished.write_bytes(content)


def is_unfinished(path: Path) -> bool:
    """Whether a kill has left this file: the temporary one of `replacing`."""
    return path.name.startswith(".") and path.suffix == ".part"


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
