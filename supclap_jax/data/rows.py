"""What a layout makes of a data set: rows, one a clip, in shards.

What is wrong with a row is told in it, so that it is counted where the row is written.
"""

import dataclasses
import math
import re
import string
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Protocol

from supclap_jax.errors import DataError

ENGLISH = "eng_Latn"
CLIPS_IN_SHARD = 512
AUDIO_SUFFIXES = tuple(
    ".flac .wav .wave .mp3 .ogg .oga .opus .aiff .aif .aifc .w64 .au .caf .m4a".split()  # noqa: SIM905
)
LANGUAGE = re.compile(r"[a-z]{3}_[A-Z][a-z]{3}")
EMPTY = "it has no caption and no label"
CLUTTER = (".DS_Store", "Thumbs.db", "desktop.ini")
TIMES = (("start_time", "start", "onset"), ("end_time", "end", "offset"))
NUMBER = re.compile(r"[0-9]+(\.[0-9]*)?|\.[0-9]+")
SECONDS = re.compile(r"([0-9]+(\.[0-9]*)?|\.[0-9]+)(e[+-]?[0-9]{1,2})?", re.IGNORECASE)
FORMAT = re.compile(r"0?[0-9]{0,2}d?|0?[0-9]{0,2}(\.[0-9]{1,2})?f")


@dataclasses.dataclass(frozen=True)
class Row:
    """What a set's lists say of one clip.

    Attributes:
      id: the clip's name, unique in its split.
      audio: its file, or the file's bytes.
      captions: language -> captions.
      labels: names of its classes; most sets give a clip one, or none.
      fold: of a set with cross-validation folds, from 1; else 0.
      source: the recording it is cut from, such as "youtube:ID" or "freesound:ID"; by default `id`.
      start: second at which the clip begins in its file.
      end: second at which it ends; None: where the file does.
      problem: why the clip cannot be used, or "".
      ignored: it is no clip, but what a system leaves behind in folders and archives.
      excluded: why it must not be used, such as a blacklist, or "".
    """

    id: str
    audio: Path | bytes = b""
    captions: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    labels: tuple[str, ...] = ()
    fold: int = 0
    source: str = ""
    start: float = 0.0
    end: float | None = None
    problem: str = ""
    excluded: str = ""
    ignored: bool = False


class Shard(Protocol):
    """A part of a split, read row by row; equal shards have equal reprs."""

    @property
    def split(self) -> str: ...

    def __iter__(self) -> Iterator[Row]: ...


@dataclasses.dataclass(frozen=True)
class Rows:
    """A shard of files on disk."""

    split: str
    rows: tuple[Row, ...]

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)


@dataclasses.dataclass(frozen=True)
class Options:
    """What the layouts can be told.

    Attributes:
      template: the audio file's path for a row of the list, such as "{split}/Y{youtube_id}.wav".
      blacklists: JSON files of ids to exclude, for WavCaps.
      use_blacklist: whether WavCaps is read without its blacklisted clips.
    """

    template: str = ""
    blacklists: tuple[Path, ...] = ()
    use_blacklist: bool = True


def in_shards(split: str, rows: Iterable[Row]) -> list[Rows]:
    """Rows of one clip joined, in shards of one size; a second clip of the same id is a problem."""
    clips: dict[str, Row] = {}
    doubles = []
    for row in rows:
        first = clips.setdefault(row.id, row)
        if first is row:
            continue
        if _clip(row) != _clip(first):
            doubles.append(dataclasses.replace(row, problem="another clip has its id", excluded=""))
        else:
            clips[row.id] = join(first, row)
    joined = [*clips.values(), *doubles]
    return [
        Rows(split, tuple(joined[start : start + CLIPS_IN_SHARD]))
        for start in range(0, len(joined), CLIPS_IN_SHARD)
    ]


def join(first: Row, other: Row) -> Row:
    """One clip of two rows: the captions and labels of both, each once."""
    captions = dict(first.captions)
    for language, texts in other.captions.items():
        captions[language] = tuple(dict.fromkeys((*captions.get(language, ()), *texts)))
    problems = [problem for problem in (first.problem, other.problem) if problem != EMPTY]
    labels = tuple(dict.fromkeys((*first.labels, *other.labels)))
    empty = "" if captions or labels else EMPTY
    problem = next(filter(None, problems), empty)
    return dataclasses.replace(first, captions=captions, labels=labels, problem=problem)


def _clip(row: Row) -> tuple:
    """What rows of one clip have in common."""
    return row.audio, row.labels, row.start, row.end


def broken_row(path: Path, number: int, problem: str) -> Row:
    """A row of a list that cannot be read; one of its own, named by its number."""
    return Row(id=f"{path.name}:{number}", problem=problem)


def is_clutter(name: str) -> bool:
    """Whether a file is what macOS or Windows leave beside others."""
    *folders, file = PurePosixPath(name).parts or ("",)
    return "__MACOSX" in folders or file.startswith("._") or file in CLUTTER


def without_clutter(paths: Iterable[Path]) -> tuple[list[Path], list[Row]]:
    """The files in order, and a row for each that is ignored."""
    paths = sorted(paths)
    ignored = [Row(id=str(path), ignored=True) for path in paths if is_clutter(str(path))]
    return [path for path in paths if not is_clutter(str(path))], ignored


def not_empty(shards: list[Shard], folder: Path, expected: str) -> list[Shard]:
    """The shards, of which there must be any.

    Raises:
      DataError: there are none; it says what was expected in the folder.
    """
    if not shards:
        raise DataError(f"{folder} lists no clips; expected {expected}; is --format right?")
    return shards


def described_row(folder: Path, fields: dict, problem: str = "") -> Row:
    """A row of fields by their common names: `path`, `caption` or `captions`, `language`, ...

    Args:
      folder: that the path is relative to.
      fields: as read from CSV or JSON; values of any type, `id` and `label` may be numbers.
      problem: what is known to be wrong with them.
    """
    text = {key: value for key, value in fields.items() if isinstance(value, str)}
    if isinstance(fields.get("id"), int | float):
        text["id"] = str(fields["id"])
    name = text.get("path", "")
    file, misplaced = inside(folder, name)
    language = text.get("language") or ENGLISH
    texts = list(_pairs(fields.get("captions") or fields.get("caption"), language))
    captions, empty = captions_of(texts)
    odd = next((code for code in captions if not LANGUAGE.fullmatch(code)), None)
    if odd is not None:
        misplaced = misplaced or f"its language is {odd!r}; expected a code such as {ENGLISH!r}"
    several = fields.get("labels")
    several = several.split(";") if isinstance(several, str) else several
    given_labels = fields.get("label") if several is None else several
    given_labels = given_labels if isinstance(given_labels, list) else [given_labels]
    labels = labels_of([str(label) for label in given_labels if label is not None])
    odd_types = _odd_types(given_labels, texts, fields.get("language"))
    given, (start, end), mistimed = _times(fields)
    is_part = any(given)
    return Row(
        id=text.get("id") or (f"{name}:{'-'.join(given)}" if is_part else name),
        audio=file,
        captions=captions,
        labels=labels,
        source=name if is_part else "",
        start=start,
        end=end,
        problem=problem or misplaced or odd_types or mistimed or ("" if labels else empty),
    )


def _odd_types(labels: list, captions: list[tuple[str, object]], language: object) -> str:
    """What is not text, or of labels a number, or not there."""
    texts = [text for _, text in captions]
    for name, values in (("labels", labels), ("captions", texts), ("languages", [language])):
        for value in values:
            is_number = name == "labels" and type(value) in (int, float) and math.isfinite(value)
            if not (value is None or isinstance(value, str) or is_number):
                return f"one of its {name} is {str(value)[:40]!r}; expected text"
    return ""


def _times(fields: dict) -> tuple[list[str], tuple[float, float | None], str]:
    """Beginning and end, by any name: as given, in seconds, and what is wrong with them."""
    given = []
    for names in TIMES:
        values = (str(fields[name]).strip() for name in names if fields.get(name) is not None)
        given.append(next(filter(None, values), ""))
    odd = next((text for text in given if text and not SECONDS.fullmatch(text)), None)
    if odd is not None:
        return given, (0.0, None), f"one of its times is {odd!r}; expected seconds"
    start, end = float(given[0] or 0), float(given[1]) if given[1] else None
    if end is not None and end <= start:
        return given, (0.0, None), f"it ends at {end:g} s, but begins at {start:g} s"
    return given, (start, end), ""


def captions_of(
    pairs: Iterable[tuple[str, object]],
) -> tuple[dict[str, tuple[str, ...]], str]:
    """Captions by language from (language, caption), without empty ones; `EMPTY` if none is left.

    >>> captions_of([("eng_Latn", "A dog barks. "), ("eng_Latn", " ")])
    ({'eng_Latn': ('A dog barks.',)}, '')
    """
    captions: dict[str, tuple[str, ...]] = {}
    for language, text in pairs:
        if isinstance(text, str) and text.strip():
            captions[language] = (*captions.get(language, ()), text.strip())
    return captions, "" if captions else EMPTY


def labels_of(value: object) -> tuple[str, ...]:
    """Labels from one or a list of them, each once, without empty ones.

    >>> labels_of(["dog ", "rain", "", "dog"])
    ('dog', 'rain')
    """
    names = value if isinstance(value, list | tuple) else [value]
    texts = (name.strip() for name in names if isinstance(name, str))
    return tuple(dict.fromkeys(text for text in texts if text))


def inside(folder: Path, name: str) -> tuple[Path | bytes, str]:
    """The file of a relative name, or why that is none: it must not lead out of its folder."""
    path = PurePosixPath(name)
    if not name or "\0" in name:
        return b"", "its row names no file"
    if path.is_absolute() or ".." in path.parts:
        return b"", f"its path {name!r} leads out of the folder"
    return folder / path, ""


def check_template(template: str) -> None:
    """Raises DataError unless it consists of names in braces, with number formats at most."""
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise DataError(f"--template={template!r} cannot be read: {error}") from error
    for _, name, form, conversion in parts:
        fits = name is None or (name.isidentifier() and not conversion and FORMAT.fullmatch(form))
        if not fits:
            raise DataError(
                f"--template={template!r} has {name!r}; expected names of columns in braces, at "
                "most with a format of numbers, such as {start_time:06d} or {start_time:.3f}"
            )


def from_template(folder: Path, template: str, fields: dict) -> tuple[Path | bytes, str]:
    """The file that a checked template names with these fields, as `inside`.

    Raises:
      DataError: the template asks for other fields.
    """
    path = ""
    for text, name, form, _ in string.Formatter().parse(template):
        path += text
        if name is None:
            continue
        if name not in fields:
            known = ", ".join(fields)
            raise DataError(
                f"--template={template!r} cannot be filled in: {name!r} is none of {known}"
            )
        value = str(fields[name])
        if form:
            is_whole = not form.endswith("f")
            if not NUMBER.fullmatch(value) or (is_whole and float(value) % 1):
                kind = "a whole number" if is_whole else "a number"
                return b"", f"its {name} is {value!r}; expected {kind}"
            value = format(int(float(value)) if is_whole else float(value), form)
        path += value
    return inside(folder, path)


def _pairs(value: object, language: str) -> Iterator[tuple[str, object]]:
    """(language, caption) of a string, a list of strings, or lists by language."""
    if isinstance(value, dict):
        for code, texts in value.items():
            yield from _pairs(texts if isinstance(texts, list) else [texts], code)
    else:
        yield from ((language, text) for text in (value if isinstance(value, list) else [value]))
