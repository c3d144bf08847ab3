"""WebDataset archives, read as streams; nothing is unpacked."""

import dataclasses
import json
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from supclap_jax.data.rows import AUDIO_SUFFIXES, Row, described_row, inside, is_clutter

MEMBER_SUFFIXES = (*AUDIO_SUFFIXES, ".json", ".txt")


@dataclasses.dataclass(frozen=True)
class Tar:
    """A shard that is an archive."""

    split: str
    path: Path

    def __iter__(self) -> Iterator[Row]:
        for row in _rows(self.path):
            yield dataclasses.replace(row, source=f"{self.split}/{row.id}")


def _rows(path: Path) -> Iterator[Row]:
    """The clips of an archive, each when its last member has been read."""
    name, members = "", {}
    try:
        with tarfile.open(path, "r|*", tarinfo=_Header) as archive:
            for member in archive:
                if is_clutter(member.name):
                    yield Row(id=f"{path.name}/{member.name}", ignored=True)
                    continue
                _, problem = inside(Path(), member.name)
                if not problem and not (member.isfile() or member.isdir()):
                    problem = "it is neither a file nor a folder"
                if problem:
                    yield Row(id=f"{path.name}/{member.name}", problem=problem)
                elif member.isfile():
                    key, suffix = _key(member.name)
                    if members and (key != name or suffix in members):
                        yield _row(path, name, members)
                        members = {}
                    name = key
                    used = suffix in MEMBER_SUFFIXES
                    members[suffix] = archive.extractfile(member).read() if used else b""
            if members:
                yield _row(path, name, members)
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        yield Row(
            id=f"{path.name}/{name or '(beginning)'}",
            problem=f"the archive is cut or broken here ({error})",
        )


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
    fields = {key: fields.get(key) for key in ("language", "label")} | {"captions": texts}
    described = described_row(Path(), fields | {"path": "x"})
    return dataclasses.replace(described, id=row.id, audio=audio)
