"""WebDataset archives, read as streams; nothing is unpacked."""

import dataclasses
import json
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from supclap_jax.data.rows import AUDIO_SUFFIXES, Row, described_row, inside, is_clutter

MEMBER_SUFFIXES = (*AUDIO_SUFFIXES, ".json", ".txt")
WAITING = 256 * 2**20  # bytes of clips whose files do not follow one another
FAR_APART = "its files lie too far apart in the archive; write the archive sorted by name"
BROKEN = (tarfile.TarError, OSError, EOFError, zlib.error)


@dataclasses.dataclass(frozen=True)
class Tar:
    """A shard that is an archive."""

    split: str
    path: Path

    def __iter__(self) -> Iterator[Row]:
        for row in _rows(self.path):
            yield dataclasses.replace(row, source=f"{self.split}/{row.id}")


class _Plan(NamedTuple):
    """What an archive's headers say, before its files are read.

    Attributes:
      files: how many files each clip has; a clip is a key and which of several of that key.
      besides: keys of files that stand beside a clip and are none of its own: `KEY.info.json`.
    """

    files: Counter
    besides: set[str]


def _plan(path: Path) -> _Plan:
    """Reads all headers; of an archive that is cut the last clip never has all of its files."""
    files, turns, with_audio, clip = Counter(), Counter(), set(), None
    try:
        with tarfile.open(path, "r:*", tarinfo=_Header) as archive:
            for member in archive:
                if is_clutter(member.name) or _problem(member) or not member.isfile():
                    continue
                key, suffix = _key(member.name)
                clip = (key, turns[key, suffix])
                turns[key, suffix] += 1
                files[clip] += 1
                if suffix in AUDIO_SUFFIXES:
                    with_audio.add(key)
    except BROKEN:
        files.update([clip] if clip else [])
    besides = {key for key, _ in files if key.rpartition(".")[0] in with_audio}
    return _Plan(files, besides - with_audio)


def _rows(path: Path) -> Iterator[Row]:
    """The clips of an archive, each when its last file has been read, wherever the others lie."""
    plan, turns, waiting, given_up = _plan(path), Counter(), {}, set()
    last = "(beginning)"
    try:
        with tarfile.open(path, "r|*", tarinfo=_Header) as archive:
            for member in archive:
                name = f"{path.name}/{member.name}"
                if is_clutter(member.name):
                    yield Row(id=name, ignored=True)
                    continue
                if problem := _problem(member):
                    yield Row(id=name, problem=problem)
                if problem or not member.isfile():
                    continue
                last, suffix = _key(member.name)
                clip = (last, turns[last, suffix])
                turns[last, suffix] += 1
                if last in plan.besides or clip in given_up:
                    continue
                files = waiting.setdefault(clip, {})
                used = suffix in MEMBER_SUFFIXES
                files[suffix] = archive.extractfile(member).read() if used else b""
                if len(files) == plan.files[clip]:
                    yield _row(path, last, waiting.pop(clip))
                elif _size(waiting) > WAITING:
                    oldest = next(iter(waiting))
                    given_up.add(oldest)
                    del waiting[oldest]
                    yield Row(id=f"{path.name}/{oldest[0]}", problem=FAR_APART)
    except BROKEN as error:
        for key in dict.fromkeys(key for key, _ in waiting) or (last,):
            problem = f"the archive is cut or broken here ({error})"
            yield Row(id=f"{path.name}/{key}", problem=problem)


def _size(waiting: dict[tuple, dict[str, bytes]]) -> int:
    return sum(len(data) for files in waiting.values() for data in files.values())


def _problem(member: tarfile.TarInfo) -> str:
    _, problem = inside(Path(), member.name)
    if not problem and not (member.isfile() or member.isdir()):
        problem = "it is neither a file nor a folder"
    if not problem and member.issparse():
        problem = "it is a sparse file; write the archive without --sparse"
    return problem


class _Header(tarfile.TarInfo):
    """The header of a member; an archive that does not end with zeros is an error, not its end."""

    @classmethod
    def fromtarfile(cls, archive):
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from error


def _key(name: str) -> tuple[str, str]:
    """What the members of one clip have in common, and the suffix: known ones may follow dots."""
    path = PurePosixPath(name)
    if path.suffix.lower() in MEMBER_SUFFIXES:
        return str(path.with_suffix("")), path.suffix.lower()
    stem, _, suffix = path.name.partition(".")
    return str(path.parent / stem), f".{suffix}"


def _row(path: Path, name: str, members: dict[str, bytes]) -> Row:
    audio = next((members[suffix] for suffix in AUDIO_SUFFIXES if suffix in members), None)
    row = Row(id=f"{path.name}/{name}", audio=audio or b"")
    if audio is None:
        known = ", ".join(AUDIO_SUFFIXES)
        return dataclasses.replace(row, problem=f"it has no audio, such as {known}")
    try:
        fields = json.loads(members.get(".json", b"{}"))
        if not isinstance(fields, dict):
            raise ValueError("expected an object")
        texts = fields.get("captions") or fields.get("caption") or fields.get("text")
        texts = texts or members.get(".txt", b"").decode()
    except (ValueError, RecursionError) as error:
        return dataclasses.replace(row, problem=f"its .json or .txt cannot be read ({error})")
    fields = {key: fields.get(key) for key in ("language", "label", "labels")} | {"captions": texts}
    described = described_row(Path(), fields | {"path": "x"})
    return dataclasses.replace(described, id=row.id, audio=audio)
