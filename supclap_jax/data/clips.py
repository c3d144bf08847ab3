"""Audio-text data sets on disk. Here: Clotho 2.1's layout, with optional further languages."""

import csv
import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path

from supclap_jax.data.audio import find_bad_clips
from supclap_jax.errors import DataError

SPLITS = ("development", "validation", "evaluation")


@dataclasses.dataclass(frozen=True)
class Clip:
    """One captioned audio file.

    Attributes:
      audio: the file, or the bytes of a FLAC file.
      captions: language -> captions.
      label: name of its class or only sound event, or None.
    """

    audio: Path | bytes
    captions: dict[str, tuple[str, ...]]
    label: str | None


@dataclasses.dataclass(frozen=True)
class Clips:
    """Captioned audio files of one split, all texts in memory.

    Attributes:
      paths: one audio file for each clip, or the bytes of a FLAC file.
      captions: language -> for each clip, its captions.
      labels: for each clip, the name of its only sound event, or None.
      ids: names of the clips; of a prepared set.
      folds: of cross-validation, from 1, else 0; of a prepared set.
      digest: of a prepared set's content.
    """

    paths: Sequence[Path | bytes]
    captions: dict[str, tuple[tuple[str, ...], ...]]
    labels: tuple[str | None, ...]
    ids: tuple[str, ...] = ()
    folds: tuple[int, ...] = ()
    digest: str = ""

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Clip:
        captions = {language: texts[index] for language, texts in self.captions.items()}
        return Clip(self.paths[index], captions, self.labels[index])

    @property
    def parts(self) -> tuple[tuple[int, int, float], ...]:
        """Of a mixture, each set's first clip, the one after its last, and its weight."""
        return ((0, len(self), 1.0),)

    def select(self, indices: Sequence[int]) -> "Clips":
        """The clips at `indices`, in that order."""

        def pick(values):
            return tuple(values[i] for i in indices) if len(values) else ()

        return dataclasses.replace(
            self,
            paths=(
                pick(self.paths)
                if isinstance(self.paths, tuple)
                else Selection(self.paths, tuple(indices))
            ),
            captions={language: pick(texts) for language, texts in self.captions.items()},
            labels=pick(self.labels),
            ids=pick(self.ids),
            folds=pick(self.folds),
        )

    def some_captions(self, most: int) -> list[str]:
        """At most `most` captions, evenly spaced."""
        captions = [
            text for by_clip in self.captions.values() for texts in by_clip for text in texts
        ]
        return captions[:: -(-len(captions) // most)]

    def fingerprint(self) -> str:
        """A digest of file names, file sizes and captions, wherever the folder lies."""
        if self.digest:
            return self.digest
        digest = hashlib.sha256()
        for index, path in enumerate(self.paths):
            texts = [text for captions in self.captions.values() for text in captions[index]]
            size = str(path.stat().st_size)
            digest.update("\0".join([path.name, size, *texts, ""]).encode())
        return digest.hexdigest()


@dataclasses.dataclass(frozen=True)
class Selection(Sequence):
    """The elements of `whole` at `indices`, looked up when asked for."""

    whole: Sequence
    indices: Sequence[int]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int):
        return self.whole[self.indices[index]]


def read_clotho(folder: Path, split: str, languages: tuple[str, ...]) -> Clips:
    """Reads one split in Clotho 2.1's layout.

    `folder/{split}/*` holds the audio, `folder/clotho_captions_{split}.csv` the English captions
    and `folder/clotho_captions_{split}.{language}.csv` those of another language. Labels are read
    from the metadata of a soundscape alone: the keyword of clips with just one. Clotho's own
    keywords are free tags, not classes.

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
    files = {
        language: folder / f"clotho_captions_{split}{_suffix(language)}.csv"
        for language in languages
    }
    captions = {language: _read_captions(path) for language, path in files.items()}
    first, *others = languages
    names = list(captions[first])
    for language in others:
        if set(captions[language]) != set(names):
            odd = sorted(set(captions[language]) ^ set(names))[0]
            raise DataError(
                f"{folder}: the {split} captions in {first} and {language} are not of the same "
                f"clips: {odd!r} is in only one of the two; make both files list the same names"
            )
    for row, name in enumerate(names, 2):
        if not (folder / split / name).is_file():
            raise DataError(
                f"{files[first]}, row {row}: there is no audio file "
                f"{str(folder / split / name)!r}; add the file or remove the row"
            )
    is_soundscape = (folder / "soundscape.json").is_file()
    labels = _read_labels(folder / f"clotho_metadata_{split}.csv") if is_soundscape else {}
    return Clips(
        paths=tuple(folder / split / name for name in names),
        captions={
            language: tuple(by_name[name] for name in names)
            for language, by_name in captions.items()
        },
        labels=tuple(labels.get(name) for name in names),
    )


def without_bad_clips(clips: Clips, on_bad_clip: str, progress) -> tuple[Clips, dict[Path, str]]:
    """Decodes every file once and returns the clips that can be used, and the bad files' problems.

    Args:
      clips: what to look at.
      on_bad_clip: "error" to refuse any bad file, "skip" to leave bad files out.
      progress: called with the number of files looked at so far.

    Raises:
      DataError: there are bad files and they are not to be skipped, or no good ones.
    """
    bad = find_bad_clips(clips.paths, progress)
    listed = "".join(f"\n  {path}: {problem}" for path, problem in list(bad.items())[:20])
    more = f"\n  ... and {len(bad) - 20} more" if len(bad) > 20 else ""
    if bad and on_bad_clip == "error":
        raise DataError(
            f"{len(bad)} of {len(clips)} audio files cannot be used; repair them, or leave them "
            f"out with data.on_bad_clip='skip':{listed}{more}"
        )
    if len(bad) == len(clips):
        raise DataError(f"none of the {len(clips)} audio files can be used:{listed}{more}")
    good = [index for index, path in enumerate(clips.paths) if path not in bad]
    return (clips.select(good) if bad else clips), bad


def _read_captions(path: Path) -> dict[str, tuple[str, ...]]:
    """Captions by file name, in the file's order."""
    captions: dict[str, tuple[str, ...]] = {}
    for row, fields in _read_csv(path, "utf-8-sig", ("file_name", "caption_1")):
        name = fields["file_name"]
        if None in fields:
            raise DataError(
                f"{path}, row {row}: it has more fields than the header; put captions with commas "
                "in double quotes"
            )
        columns = [column for column in fields if column.startswith("caption_")]
        texts = tuple((fields[column] or "").strip() for column in columns)
        if not name or Path(name).name != name:
            raise DataError(
                f"{path}, row {row}: file_name is {name!r}; expected the plain name of a file"
            )
        if name in captions:
            raise DataError(f"{path}, row {row}: {name!r} is listed twice; remove one of the rows")
        for column, text in zip(columns, texts, strict=True):
            if not text:
                raise DataError(
                    f"{path}, row {row}: {column} of {name!r} is empty; write it or remove the row"
                )
        captions[name] = texts
    if not captions:
        raise DataError(f"{path} lists no clips; expected a header and at least one row")
    return captions


def _suffix(language: str) -> str:
    return "" if language == "eng_Latn" else f".{language}"


def _read_labels(path: Path) -> dict[str, str]:
    rows = _read_csv(path, "iso-8859-1", ("file_name", "keywords"))
    keywords = {fields["file_name"]: (fields["keywords"] or "").split(";") for _, fields in rows}
    return {name: words[0] for name, words in keywords.items() if len(words) == 1 and words[0]}


def _read_csv(path: Path, encoding: str, columns: tuple[str, ...]):
    """Yields (row number as an editor counts records, fields by column)."""
    try:
        with path.open(encoding=encoding, newline="") as file:
            reader = csv.DictReader(file)
            missing = [name for name in columns if name not in (reader.fieldnames or [])]
            if missing:
                raise DataError(
                    f"{path} has the columns {', '.join(reader.fieldnames or []) or '(none)'}; "
                    f"expected {', '.join(missing)} as well, named in the first row"
                )
            yield from enumerate(reader, 2)
    except FileNotFoundError:
        raise DataError(f"there is no file {str(path)!r}; is data.path the right folder?") from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not a {encoding} CSV file: {error}; save it as one") from error
