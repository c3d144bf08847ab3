"""Clotho 2.1's layout, with optional further languages: read strictly to train on, or by row.

`folder/{split}/*` holds the audio of a split, `folder/clotho_captions_{split}.csv` the English
captions and `folder/clotho_captions_{split}.{language}.csv` those of another language,
`folder/clotho_metadata_{split}.csv` the keywords and the recording. Keywords are free tags, not
classes; but of a soundscape, the keyword of a clip with just one is its label.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from supclap_jax.data import splits
from supclap_jax.data.clips import Clips
from supclap_jax.data.list_files import ENCODINGS, read_csv
from supclap_jax.data.rows import (
    ENGLISH,
    Options,
    Row,
    Shard,
    broken_row,
    captions_of,
    in_shards,
    inside,
    labels_of,
    not_empty,
    without_clutter,
)
from supclap_jax.errors import DataError

UTF_8 = ENCODINGS[:1]

TWICE = "its file name is listed twice"


class Listed(NamedTuple):
    """What a captions file says in one row.

    Attributes:
      row: its number, as an editor counts records.
      name: of the audio file.
      captions: column -> caption, which may be empty.
      problem: what is wrong with the row, or "".
    """

    row: int
    name: str
    captions: dict[str, str]
    problem: str


def captions_file(folder: Path, split: str, language: str) -> Path:
    """Where the captions of a split lie; its name is Clotho's."""
    suffix = "" if language == ENGLISH else f".{language}"
    return folder / f"clotho_captions_{split}{suffix}.csv"


def metadata_file(folder: Path, split: str) -> Path:
    """Where keywords and recordings of a split lie; its name is Clotho's."""
    return folder / f"clotho_metadata_{split}.csv"


def read_clotho(folder: Path, split: str, languages: tuple[str, ...]) -> Clips:
    """Reads one split, to train on or to evaluate; whatever is wrong with a row is an error.

    Args:
      folder: the data set.
      split: "development", "validation" or "evaluation".
      languages: which captions to read, such as ("eng_Latn", "fra_Latn").

    Raises:
      DataError: a file or column is missing, a row is incomplete, or names absent audio.
    """
    if not folder.is_dir():
        raise DataError(
            f"there is no data folder {str(folder)!r}; set data.path, or make one with "
            "'supclap synthesize --out=DIR --clips=N'"
        )
    listed = {
        language: _read_strictly(captions_file(folder, split, language)) for language in languages
    }
    first, *others = languages
    names = list(listed[first])
    for language in others:
        odd = sorted(set(listed[language]) ^ set(names))
        if odd:
            raise DataError(
                f"{folder}: the {split} captions in {first} and {language} are not of the same "
                f"clips: {odd[0]!r} is in only one of the two; make both files list the same names"
            )
    for name, row in listed[first].items():
        if not (folder / split / name).is_file():
            raise DataError(
                f"{captions_file(folder, split, first)}, row {row.row}: there is no audio file "
                f"{str(folder / split / name)!r}; add the file or remove the row"
            )
    metadata = _read_metadata(folder, split) if _is_soundscape(folder) else {}
    keywords = [_keywords(metadata.get(name, {})) for name in names]
    return Clips(
        paths=tuple(folder / split / name for name in names),
        captions={
            language: tuple(tuple(rows[name].captions.values()) for name in names)
            for language, rows in listed.items()
        },
        labels=tuple(_only(kinds) for kinds in keywords),
        events=tuple(len(kinds) for kinds in keywords) if metadata else (),
    )


def clotho(folder: Path, _: Options) -> list[Shard]:
    """Clotho 2.1, with captions in further languages as `clotho_captions_SPLIT.LANGUAGE.csv`."""
    shards = []
    is_soundscape = _is_soundscape(folder)
    for split, name in splits.CLOTHO.items():
        files = {ENGLISH: captions_file(folder, name, ENGLISH)}
        if not files[ENGLISH].is_file():
            continue
        others, _ = without_clutter(folder.glob(f"clotho_captions_{name}.*.csv"))
        for other in others:
            files[other.name.split(".")[1]] = other
        texts: dict[str, list[tuple[str, str]]] = {}
        problems: dict[str, str] = {}
        rows = []
        for language, file in files.items():
            for listed in _read_captions(file):
                if listed.problem and listed.problem != TWICE:
                    rows.append(broken_row(file, listed.row, listed.problem))
                    continue
                if listed.problem:
                    problems[listed.name] = listed.problem
                captions = [(language, text) for text in listed.captions.values()]
                texts.setdefault(listed.name, []).extend(captions)
        has_metadata = metadata_file(folder, name).is_file()
        metadata = _read_metadata(folder, name) if has_metadata else {}
        for clip, pairs in texts.items():
            captions, empty = captions_of(pairs)
            file, misplaced = inside(folder / name, clip)
            more = metadata.get(clip, {})
            sound = more.get("sound_id", "").strip()
            rows.append(
                Row(
                    id=clip,
                    audio=file,
                    captions=captions,
                    labels=_only(_keywords(more)) if is_soundscape else (),
                    source=f"freesound:{sound}" if sound.isdecimal() and not is_soundscape else "",
                    problem=problems.get(clip) or misplaced or empty,
                )
            )
        shards += in_shards(split, rows)
    return not_empty(shards, folder, "clotho_captions_development.csv")


def _read_strictly(path: Path) -> dict[str, Listed]:
    """The rows of a captions file by name, all of them right."""
    if not path.is_file():
        raise DataError(f"there is no file {str(path)!r}; is data.path the right folder?")
    rows: dict[str, Listed] = {}
    for listed in _read_captions(path, UTF_8):
        empty = next((column for column, text in listed.captions.items() if not text), None)
        if not listed.name or Path(listed.name).name != listed.name:
            fault = f"file_name is {listed.name!r}; expected the plain name of a file"
        elif empty is not None:
            fault = f"{empty} of {listed.name!r} is empty; write it or remove the row"
        elif listed.problem:
            fault = f"{listed.problem}; correct or remove the row"
        else:
            rows[listed.name] = listed
            continue
        raise DataError(f"{path}, row {listed.row}: {fault}")
    if not rows:
        raise DataError(f"{path} lists no clips; expected a header and at least one row")
    return rows


def _read_captions(path: Path, encodings: Sequence[str] = ENCODINGS) -> Iterator[Listed]:
    """The rows of a captions file; of a name's second row only the problem."""
    seen = set()
    for row, fields, problem in read_csv(path, ("file_name", "caption_1"), encodings=encodings):
        name = fields["file_name"]
        if name in seen:
            yield Listed(row, name, {}, TWICE)
        else:
            columns = [column for column in fields if column.startswith("caption_")]
            yield Listed(row, name, {c: fields[c].strip() for c in columns}, problem)
        seen.add(name)


def _read_metadata(folder: Path, split: str) -> dict[str, dict[str, str]]:
    """Columns of the metadata by file name."""
    entries = read_csv(metadata_file(folder, split), ("file_name",))
    return {entry.fields["file_name"]: entry.fields for entry in entries}


def _is_soundscape(folder: Path) -> bool:
    return (folder / "soundscape.json").is_file()


def _keywords(metadata: dict[str, str]) -> list[str]:
    return metadata.get("keywords", "").split(";")


def _only(keywords: list[str]) -> tuple[str, ...]:
    return labels_of(keywords) if len(keywords) == 1 else ()
