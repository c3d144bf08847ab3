"""Parquet as hubs publish it: a file holds columns of text beside audio bytes, or beside paths."""

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow
import pyarrow.parquet as pq

from supclap_jax.data.rows import (
    Options,
    Row,
    Shard,
    described_row,
    in_shards,
    inside,
    join,
    not_empty,
    without_clutter,
)
from supclap_jax.errors import DataError

AUDIO = ("audio", "flac", "wav", "mp3", "path", "file", "filename", "file_name")
CAPTIONS = ("captions", "caption", "text", "sentence")
NUMBERED = re.compile(r"caption_?[0-9]+")
LABELS = ("human_labels", "labels", "label", "category", "class")
VIDEOS = ("youtube_id", "video_id", "ytid")
PLAIN = ("id", "language", "fold")
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training", "all"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
PART = re.compile(r"([A-Za-z][A-Za-z0-9_]*)-[0-9]+-of-[0-9]+")
NUMBER = re.compile(r"[0-9]{1,9}")
ROWS = 16  # read at once
BROKEN = "(broken)"  # a column that no file has
UNREADABLE = (OSError, pyarrow.ArrowException, ValueError, OverflowError)


def parquet(source: Path, _: Options) -> list[Shard]:
    """A `.parquet` file, or a folder of them, `SPLIT-00000-of-00001.parquet` or `SPLIT/*.parquet`.

    The audio is the column `audio`, bytes, or a structure of bytes and path as Hugging Face writes
    it, or a column of paths from the file's folder. Captions are `captions`, `caption`, `text`,
    `sentence` or `caption_1` and so on; labels `human_labels`, `labels`, `label`, `category` or
    `class`, of which the first that is there counts; `id`, `language`, `fold` and `youtube_id` too.
    Rows of one file with equal audio are one clip.
    """
    files, ignored = [source], []
    if source.is_dir():
        found = (path for path in source.rglob("*.parquet") if path.is_file())
        files, ignored = without_clutter(found)
    folder = source if source.is_dir() else source.parent
    shards: list[Shard] = []
    for path in files:
        shard = Parquet(_split_of(path.relative_to(folder)), folder, path)
        shard.check()
        shards.append(shard)
    not_empty(shards, source, ".parquet files")
    return shards + in_shards(shards[0].split, ignored)


@dataclasses.dataclass(frozen=True)
class Parquet:
    """A shard that is one file, in the folder of the set."""

    split: str
    folder: Path
    path: Path

    def __iter__(self) -> Iterator[Row]:
        """Reads the file twice: to join the rows of a clip, and for its audio."""
        clips: dict[Path | bytes, Row] = {}
        for row in self._rows():
            if not row.audio:
                yield row
            elif row.audio in clips:
                clips[row.audio] = join(clips[row.audio], row)
            else:
                clips[row.audio] = row
        for audio, row in [*clips.items()]:
            if row.problem:
                yield dataclasses.replace(clips.pop(audio), audio=b"")
        records = self._records()
        while clips:
            audio, *_ = self._audio_of(next(records))
            row = clips.pop(_key(audio), None)
            if row is not None:
                yield dataclasses.replace(row, audio=audio)

    def check(self) -> None:
        """Raises DataError where this is no Parquet file, or one without audio or texts."""
        try:
            names = pq.read_schema(self.path).names
        except UNREADABLE as error:
            raise DataError(
                f"{self.path} cannot be read as Parquet ({_first_line(error)}); is it whole?"
            ) from error
        texts = (*CAPTIONS, *LABELS)
        has_texts = set(texts) & set(names) or any(map(NUMBERED.fullmatch, names))
        if not set(AUDIO) & set(names) or not has_texts:
            raise DataError(
                f"{self.path} has the columns {', '.join(names) or '(none)'}; expected one of "
                f"{', '.join(AUDIO)}, and one of {', '.join(texts)}"
            )

    def _rows(self) -> list[Row]:
        """One for each row of the file, with a key of its audio for the audio."""
        rows, ids, taken = [], {}, set()
        class_names = _class_names(pq.read_schema(self.path))
        try:
            for number, record in enumerate(self._records(), 1):
                if problem := record.get(BROKEN):
                    rows.append(Row(id=self._name(str(number)), problem=problem))
                    continue
                audio, path, problem = self._audio_of(record)
                given, key = record.get("id"), _key(audio)
                name = str(path or number) if given is None else str(given)
                if key not in ids:
                    ids[key] = f"{name}:{number}" if name in taken else name
                    taken.add(name)
                fold, misfold = _fold(record.get("fold"))
                fields = _fields(record, class_names)
                row = described_row(self.folder, fields, problem or misfold)
                recording = f"sha:{key.hex()}" if isinstance(key, bytes) else self._name(name)
                rows.append(
                    dataclasses.replace(
                        row,
                        id=self._name(f"{name}:{number}" if problem else ids[key]),
                        audio=b"" if problem else key,
                        fold=fold,
                        source=_video(record) or recording,
                    )
                )
        except UNREADABLE as error:
            reason = f"the file is damaged here ({_first_line(error)})"
            for number in range(len(rows) + 1, pq.read_metadata(self.path).num_rows + 1):
                rows.append(Row(id=self._name(str(number)), problem=reason))
        return rows

    def _records(self) -> Iterator[dict]:
        """The rows, with the columns that are used."""
        used = {*AUDIO, *CAPTIONS, *LABELS, *VIDEOS, *PLAIN}
        options = {"pre_buffer": False, "page_checksum_verification": True}
        with pq.ParquetFile(self.path, **options) as file:
            names = file.schema_arrow.names
            names = [name for name in names if name in used or NUMBERED.fullmatch(name)]
            for batch in file.iter_batches(ROWS, columns=names):
                yield from _records_of(batch)

    def _audio_of(self, record: dict) -> tuple[Path | bytes, str, str]:
        """Bytes or a file, the path that the row gives, and what is wrong with that, or ""."""
        given = [record[name] for name in AUDIO if record.get(name) is not None]
        parts = [part for value in given for part in _parts(value)]
        path = next((part for part in parts if isinstance(part, str)), "")
        data = next((part for part in parts if isinstance(part, bytes) and part), b"")
        if data:
            return data, path, ""
        file, problem = inside(self.path.parent, path)
        return file, path, problem

    def _name(self, name: str) -> str:
        return f"{self.path.relative_to(self.folder)}/{name}"


def _records_of(batch: pyarrow.RecordBatch) -> Iterator[dict]:
    """The rows; one that Python cannot hold, such as text that is no Unicode, has only `BROKEN`."""
    try:
        yield from batch.to_pylist()
    except (ValueError, OverflowError):
        for number in range(batch.num_rows):
            try:
                yield from batch.slice(number, 1).to_pylist()
            except (ValueError, OverflowError) as error:
                yield {BROKEN: f"its row cannot be read ({_first_line(error)})"}


def _fold(value: object) -> tuple[int, str]:
    """A number from 1, 0 where there is none; and what is wrong with it."""
    if value is None or value == "":
        return 0, ""
    if NUMBER.fullmatch(str(value)):
        return int(value), ""
    return 0, f"its fold is {str(value)[:40]!r}; expected a number from 1"


def _parts(value: object) -> list:
    """Bytes and path of a structure, or what stands there alone."""
    return [value.get("bytes"), value.get("path")] if isinstance(value, dict) else [value]


def _fields(record: dict, class_names: dict[str, list[str]]) -> dict:
    """The columns of a row by the names that tables have."""
    columns = sorted(filter(NUMBERED.fullmatch, record), key=lambda name: (len(name), name))
    numbered = [record[name] for name in columns]
    captions = next((record[name] for name in CAPTIONS if record.get(name)), None)
    fields = {"path": "x", "captions": captions or numbered, "language": record.get("language")}
    for name in LABELS:
        value = record.get(name)
        if value is not None and value != []:
            values, names = value if isinstance(value, list) else [value], class_names.get(name)
            fields["labels"] = values if names is None else [_named(one, names) for one in values]
            break
    return fields


def _named(value: object, names: list[str]) -> object:
    """The name of a numbered class; below zero there is none; what has no name is as it is."""
    if not isinstance(value, int) or value >= len(names):
        return value
    return names[value] if value >= 0 else None


def _class_names(schema: pyarrow.Schema) -> dict[str, list[str]]:
    """Column -> names of its numbered classes, as Hugging Face's libraries note them."""
    try:
        noted = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError):
        return {}
    found = {}
    for column, feature in noted.items() if isinstance(noted, dict) else ():
        kind = feature[0] if isinstance(feature, list) and feature else feature
        kind = kind if isinstance(kind, dict) else {}
        kind = kind["feature"] if isinstance(kind.get("feature"), dict) else kind  # of a list
        if isinstance(kind.get("names"), list):
            found[column] = kind["names"]
    return found


def _video(record: dict) -> str:
    video = next((record[name] for name in VIDEOS if record.get(name)), "")
    return f"youtube:{video}" if isinstance(video, str) and video else ""


def _split_of(path: Path) -> str:
    """The split that a file's name or else its folder tells.

    >>> _split_of(Path("data/test-00000-of-00002.parquet")), _split_of(Path("val/0.parquet"))
    ('test', 'validation')
    """
    part = PART.match(path.stem)
    if part:
        return SPLIT_NAMES.get(part[1].lower(), part[1])
    for name in (path.stem, *reversed(path.parts[:-1])):
        for word in re.split(r"[^a-z]+", name.lower()):
            if word in SPLIT_NAMES:
                return SPLIT_NAMES[word]
    return "train"


def _key(audio: Path | bytes) -> Path | bytes:
    """What tells one clip's audio from another's."""
    return hashlib.blake2b(audio, digest_size=16).digest() if isinstance(audio, bytes) else audio


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
