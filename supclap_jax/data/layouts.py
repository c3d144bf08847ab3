"""Published layouts of audio-caption data sets, read into shards of rows.

A layout is a function of a folder that reads the set's lists and never its audio. It returns
shards, each an iterable of `Row`; what is wrong with a row is told in it, so that it is counted
where the row is written. A list that cannot be read at all raises `DataError`.
"""

import csv
import dataclasses
import io
import json
import re
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from supclap_jax.errors import DataError

ENGLISH = "eng_Latn"
CLIPS_IN_SHARD = 512
AUDIO_SUFFIXES = (".flac", ".wav", ".mp3", ".ogg")
MEMBER_SUFFIXES = (*AUDIO_SUFFIXES, ".json", ".txt")  # of WebDataset archives
LANGUAGE = re.compile(r"[a-z]{3}_[A-Z][a-z]{3}")
NUMBER = re.compile(r"[0-9]{1,9}")
SPLIT = re.compile(r"(?!all$)[A-Za-z][A-Za-z0-9_]*")


@dataclasses.dataclass(frozen=True)
class Row:
    """What a set's lists say of one clip.

    Attributes:
      id: the clip's name, unique in its split.
      audio: its file, or the file's bytes.
      captions: language -> captions.
      label: name of its class, or "".
      fold: of a set with cross-validation folds, from 1; else 0.
      source: the recording it is cut from, such as "youtube:ID" or "freesound:ID"; by default `id`.
      problem: why the clip cannot be used, or "".
      excluded: why it must not be used, such as a blacklist, or "".
    """

    id: str
    audio: Path | bytes = b""
    captions: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    label: str = ""
    fold: int = 0
    source: str = ""
    problem: str = ""
    excluded: str = ""


@dataclasses.dataclass(frozen=True)
class Rows:
    """A shard of files on disk."""

    split: str
    rows: tuple[Row, ...]

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)


@dataclasses.dataclass(frozen=True)
class Tar:
    """A shard that is a WebDataset archive, read as a stream."""

    split: str
    path: Path

    def __iter__(self) -> Iterator[Row]:
        for row in _tar_rows(self.path):
            yield dataclasses.replace(row, source=f"{self.split}/{row.id}")


Shard = Rows | Tar


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


def audiocaps(folder: Path, options: Options) -> list[Shard]:
    """`train.csv`, `val.csv`, `test.csv`: `audiocap_id,youtube_id,start_time,caption`.

    The template knows these columns and `split`; by default `{split}/{youtube_id}.wav`.
    """
    template = options.template or "{split}/{youtube_id}.wav"
    columns = ("audiocap_id", "youtube_id", "start_time", "caption")
    shards = []
    for name, split in {"train": "train", "val": "validation", "test": "test"}.items():
        path = folder / f"{name}.csv"
        if not path.is_file():
            continue
        rows = []
        for fields in _csv_fields(path, columns):
            fields["split"] = name
            clip = fields["youtube_id"]
            file, problem = _from_template(folder, template, fields)
            captions, empty = _captions(((ENGLISH, fields["caption"]),))
            rows.append(
                Row(
                    id=f"{clip}_{fields['start_time']}",
                    audio=file,
                    captions=captions,
                    source=f"youtube:{clip}",
                    problem=fields["problem"] or problem or empty,
                )
            )
        shards += _shards(split, rows)
    return _found(shards, folder, "train.csv, val.csv or test.csv")


def clotho(folder: Path, _: Options) -> list[Shard]:
    """Clotho 2.1, with captions in further languages as `clotho_captions_SPLIT.LANGUAGE.csv`."""
    shards = []
    splits = {"development": "train", "validation": "validation", "evaluation": "test"}
    is_soundscape = (folder / "soundscape.json").is_file()
    for name, split in splits.items():
        path = folder / f"clotho_captions_{name}.csv"
        if not path.is_file():
            continue
        texts: dict[str, list[tuple[str, str]]] = {}
        problems: dict[str, str] = {}
        seen = set()
        files = {ENGLISH: path}
        for other in sorted(folder.glob(f"clotho_captions_{name}.*.csv")):
            files[other.name.split(".")[1]] = other
        for language, file in files.items():
            for fields in _csv_fields(file, ("file_name", "caption_1")):
                clip = fields["file_name"]
                if (language, clip) in seen:
                    problems[clip] = "its file name is listed twice"
                    continue
                seen.add((language, clip))
                if fields["problem"]:
                    problems[clip] = fields["problem"]
                columns = [column for column in fields if column.startswith("caption_")]
                texts.setdefault(clip, []).extend((language, fields[c]) for c in columns)
        metadata = {}
        if (folder / f"clotho_metadata_{name}.csv").is_file():
            for fields in _csv_fields(folder / f"clotho_metadata_{name}.csv", ("file_name",)):
                metadata[fields["file_name"]] = fields
        rows = []
        for clip, pairs in texts.items():
            captions, empty = _captions(pairs)
            file, problem = _inside(folder / name, clip)
            more = metadata.get(clip, {})
            sound = more.get("sound_id", "").strip()
            keywords = more.get("keywords", "").split(";")
            rows.append(
                Row(
                    id=clip,
                    audio=file,
                    captions=captions,
                    label=keywords[0] if is_soundscape and len(keywords) == 1 else "",
                    source=f"freesound:{sound}" if sound.isdigit() and not is_soundscape else "",
                    problem=problems.get(clip) or problem or empty,
                )
            )
        shards += _shards(split, rows)
    return _found(shards, folder, "clotho_captions_development.csv")


def wavcaps(folder: Path, options: Options) -> list[Shard]:
    """`.../SUBSET/*.json`: a list of clips, or `{"data": [...]}`; without blacklisted clips.

    The template knows `subset`, `id` and `stem`, the id without a suffix; by default
    `{subset}/{stem}.flac`. Blacklists are files whose name begins with "blacklist", in `folder`:
    `{SUBSET: [id, ...]}`, with "AudioSet" for AudioSet_SL, or a list for all subsets.
    """
    template = options.template or "{subset}/{stem}.flac"
    lists = sorted(folder.rglob("*.json"))
    own = [path for path in lists if path.name.startswith("blacklist")]
    lists = [path for path in lists if path not in own]
    blacklisted: dict[tuple[str, str], str] = {}
    if options.use_blacklist:
        found = [*own, *options.blacklists]
        if not found:
            raise DataError(
                f"{folder} holds no blacklist*.json; put WavCaps' folder 'blacklist' there, name "
                "one with --blacklist=FILE, or keep all clips with --no-blacklist"
            )
        for path in found:
            content = _json(path)
            for site, ids in (content if isinstance(content, dict) else {"": content}).items():
                if not isinstance(ids, list):
                    raise DataError(f"{path} is no blacklist; expected lists of ids by subset")
                blacklisted |= {(site, _stem(str(name))): path.name for name in ids}
    rows = []
    for path in lists:
        content = _json(path)
        clips = content.get("data") if isinstance(content, dict) else content
        if not isinstance(clips, list):
            raise DataError(f'{path} is no list of clips; expected [...] or {{"data": [...]}}')
        subset = path.parent.name if path.parent != folder else path.stem
        site = {"AudioSet_SL": "youtube", "FreeSound": "freesound"}.get(subset)
        for number, fields in enumerate(clips, 1):
            if not isinstance(fields, dict) or not isinstance(fields.get("id"), str | int):
                rows.append(Row(id=f"{path.name}:{number}", problem="the entry has no id"))
                continue
            stem = _stem(str(fields["id"]))
            names = {"subset": subset, "id": str(fields["id"]), "stem": stem}
            file, problem = _from_template(folder, template, names)
            captions, empty = _captions(((ENGLISH, fields.get("caption")),))
            clip = stem.removeprefix("Y") if site == "youtube" else stem
            keys = ((subset, stem), (subset.removesuffix("_SL"), stem), ("", stem))
            listed = next((blacklisted[key] for key in keys if key in blacklisted), "")
            rows.append(
                Row(
                    id=f"{subset}/{stem}",
                    audio=file,
                    captions=captions,
                    source=f"{site}:{clip}" if site else "",
                    problem=problem or empty,
                    excluded=f"blacklisted in {listed}" if listed else "",
                )
            )
    return _found(_shards("train", rows), folder, "JSON lists of clips")


def esc50(folder: Path, _: Options) -> list[Shard]:
    """`meta/esc50.csv` and `audio/`: one split, "test", with folds."""
    rows = []
    columns = ("filename", "fold", "category", "src_file")
    for fields in _csv_fields(folder / "meta" / "esc50.csv", columns):
        file, problem = _inside(folder / "audio", fields["filename"])
        rows.append(
            Row(
                id=fields["filename"],
                audio=file,
                label=fields["category"],
                fold=_fold(fields["fold"]),
                source=f"freesound:{fields['src_file']}",
                problem=fields["problem"] or problem or _unlabelled(fields["category"]),
            )
        )
    return _found(_shards("test", rows), folder, "rows in meta/esc50.csv")


def urbansound8k(folder: Path, _: Options) -> list[Shard]:
    """`metadata/UrbanSound8K.csv` and `audio/fold*/`: one split, "test", with folds."""
    rows = []
    columns = ("slice_file_name", "fsID", "fold", "class")
    for fields in _csv_fields(folder / "metadata" / "UrbanSound8K.csv", columns):
        name = f"fold{fields['fold']}/{fields['slice_file_name']}"
        file, problem = _inside(folder / "audio", name)
        rows.append(
            Row(
                id=fields["slice_file_name"],
                audio=file,
                label=fields["class"],
                fold=_fold(fields["fold"]),
                source=f"freesound:{fields['fsID']}",
                problem=fields["problem"] or problem or _unlabelled(fields["class"]),
            )
        )
    return _found(_shards("test", rows), folder, "rows in metadata/UrbanSound8K.csv")


def vggsound(folder: Path, options: Options) -> list[Shard]:
    """`vggsound.csv`, without a header: `ytid,start,label,split`.

    The template knows these four, `start` as a number; by default `audio/{ytid}_{start:06d}.wav`.
    """
    template = options.template or "audio/{ytid}_{start:06d}.wav"
    rows: dict[str, list[Row]] = {"train": [], "test": []}
    for fields in _csv_fields(
        folder / "vggsound.csv", ("ytid", "start", "label", "split"), header=False
    ):
        problem = fields["problem"]
        file = b""
        if not problem and fields["split"] not in rows:
            problem = f"its split is {fields['split']!r}; expected train or test"
        if not problem and not NUMBER.fullmatch(fields["start"]):
            problem = f"its start is {fields['start']!r}; expected whole seconds"
        if not problem:
            file, problem = _from_template(
                folder, template, fields | {"start": int(fields["start"])}
            )
        rows["test" if fields["split"] == "test" else "train"].append(
            Row(
                id=f"{fields['ytid']}_{fields['start']}",
                audio=file,
                label=fields["label"],
                source=f"youtube:{fields['ytid']}",
                problem=problem or _unlabelled(fields["label"]),
            )
        )
    shards = [shard for split, these in rows.items() for shard in _shards(split, these)]
    return _found(shards, folder, "rows in vggsound.csv")


def table(source: Path, _: Options) -> list[Shard]:
    """A CSV or JSONL file, or a folder of them: `path, caption[, language, split, id, label]`.

    Paths are relative to the file's folder. Rows of one id (by default the path) are captions of
    one clip. In JSONL, `captions` may be `{language: [caption, ...]}` instead.
    """
    files = [source]
    if source.is_dir():
        files = sorted(path for path in source.iterdir() if path.suffix in (".csv", ".jsonl"))
    rows: dict[str, list[Row]] = {}
    for path in files:
        if path.suffix not in (".csv", ".jsonl"):
            raise DataError(f"{path} is no table; expected a .csv or .jsonl file")
        read = _csv_fields(path, ("path",)) if path.suffix == ".csv" else _jsonl_fields(path)
        for fields in read:
            split = fields.get("split") or "train"
            if not isinstance(split, str) or not SPLIT.fullmatch(split):
                raise DataError(f"{path}: {split!r} cannot name a split; expected such as 'train'")
            rows.setdefault(split, []).append(_table_row(path.parent, fields))
    shards = [shard for split, these in rows.items() for shard in _shards(split, these)]
    return _found(shards, source, "rows in .csv or .jsonl files")


def webdataset(folder: Path, _: Options) -> list[Shard]:
    """`*.tar` (training) and `SPLIT/*.tar`: audio beside `.json` or `.txt` of the same name.

    Captions are a `.txt`, or in the `.json` `caption`, `captions` or `text`: a string, a list, or
    `{language: [caption, ...]}`; `label` and `language` too.
    """
    if folder.is_file():
        return [Tar("train", folder)]
    shards = [Tar("train", path) for path in sorted(folder.glob("*.tar"))]
    for split in sorted(path for path in folder.iterdir() if path.is_dir()):
        archives = sorted(split.glob("*.tar"))
        if archives and not SPLIT.fullmatch(split.name):
            raise DataError(f"{split} cannot name a split; expected such as 'train'")
        shards += [Tar(split.name, path) for path in archives]
    return _found(shards, folder, "*.tar or SPLIT/*.tar")


LAYOUTS: dict[str, Callable[[Path, Options], list[Shard]]] = {
    layout.__name__: layout
    for layout in (audiocaps, clotho, wavcaps, esc50, urbansound8k, vggsound, table, webdataset)
}


def read_layout(name: str, source: Path, options: Options) -> list[Shard]:
    """The shards of a data set in one of `LAYOUTS`.

    Raises:
      DataError: there is no such folder, or its lists cannot be read.
    """
    if not source.exists():
        raise DataError(f"there is no {str(source)!r}; --source is the folder of the data set")
    if not source.is_dir() and name not in ("table", "webdataset"):
        raise DataError(f"{str(source)!r} is no folder; --source is the folder of the data set")
    return LAYOUTS[name](source, options)


def _shards(split: str, rows: Iterable[Row]) -> list[Rows]:
    """Rows of one clip joined, in shards of one size; a second clip of the same id is a problem."""
    clips: dict[str, Row] = {}
    doubles = []
    for row in rows:
        first = clips.setdefault(row.id, row)
        if first is row:
            continue
        if row.audio != first.audio or row.label != first.label:
            doubles.append(dataclasses.replace(row, problem="another clip has its id", excluded=""))
        elif row.captions:
            captions = dict(first.captions)
            for language, texts in row.captions.items():
                known = captions.get(language, ())
                captions[language] = (*known, *(text for text in texts if text not in known))
            problem = "" if first.problem == EMPTY else first.problem
            clips[row.id] = dataclasses.replace(
                first, captions=captions, problem=problem or (row.problem and first.problem)
            )
    joined = [*clips.values(), *doubles]
    return [
        Rows(split, tuple(joined[start : start + CLIPS_IN_SHARD]))
        for start in range(0, len(joined), CLIPS_IN_SHARD)
    ]


def _found(shards: list[Shard], folder: Path, expected: str) -> list[Shard]:
    if not shards:
        raise DataError(f"{folder} lists no clips; expected {expected}; is --format right?")
    return shards


EMPTY = "it has no caption and no label"


def _captions(
    pairs: Iterable[tuple[str, object]],
) -> tuple[dict[str, tuple[str, ...]], str]:
    """Captions by language, empty ones left out, and the problem if none is left."""
    captions: dict[str, tuple[str, ...]] = {}
    for language, text in pairs:
        if isinstance(text, str) and text.strip():
            captions[language] = (*captions.get(language, ()), text.strip())
    return captions, "" if captions else EMPTY


def _unlabelled(label: str) -> str:
    return "" if label.strip() else "it has no label"


def _fold(text: str) -> int:
    return int(text) if NUMBER.fullmatch(text) else 0


def _stem(name: str) -> str:
    """An id without the suffix of an audio file."""
    path = PurePosixPath(name)
    return name.removesuffix(path.suffix) if path.suffix in AUDIO_SUFFIXES else name


def _inside(folder: Path, name: str) -> tuple[Path | bytes, str]:
    """The file of a relative name, or why that is none: it must not lead out of its folder."""
    path = PurePosixPath(name)
    if not name or "\0" in name:
        return b"", "its row names no file"
    if path.is_absolute() or ".." in path.parts:
        return b"", f"its path {name!r} leads out of the folder"
    return folder / path, ""


def _from_template(folder: Path, template: str, fields: dict) -> tuple[Path | bytes, str]:
    try:
        name = template.format(**fields)
    except (KeyError, IndexError, ValueError, AttributeError, TypeError) as error:
        raise DataError(
            f"--template={template!r} cannot be filled in ({error!r}); expected names in braces, "
            f"of {', '.join(key for key in fields if key != 'problem')}"
        ) from error
    return _inside(folder, name)


def _table_row(folder: Path, fields: dict) -> Row:
    text = {key: value for key, value in fields.items() if isinstance(value, str)}
    for key in ("id", "label"):  # in JSON, they may be numbers
        if isinstance(fields.get(key), int | float):
            text[key] = str(fields[key])
    name = text.get("path", "")
    file, problem = _inside(folder, name)
    language = text.get("language") or ENGLISH
    captions, empty = _captions(_pairs(fields.get("captions") or fields.get("caption"), language))
    odd = next((code for code in captions if not LANGUAGE.fullmatch(code)), None)
    if odd is not None:
        problem = problem or f"its language is {odd!r}; expected a code such as {ENGLISH!r}"
    label = text.get("label", "").strip()
    return Row(
        id=text.get("id") or name,
        audio=file,
        captions=captions,
        label=label,
        problem=fields.get("problem") or problem or ("" if label else empty),
    )


def _pairs(value: object, language: str) -> Iterator[tuple[str, object]]:
    """(language, caption) of a string, a list of strings, or lists by language."""
    if isinstance(value, dict):
        for code, texts in value.items():
            yield from _pairs(texts if isinstance(texts, list) else [texts], code)
    else:
        yield from ((language, text) for text in (value if isinstance(value, list) else [value]))


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


def _tar_rows(path: Path) -> Iterator[Row]:
    """The clips of an archive, each when its last member has been read; nothing is unpacked."""
    name, members = "", {}
    try:
        with tarfile.open(path, "r|*", tarinfo=_Header) as archive:
            for member in archive:
                _, problem = _inside(Path(), member.name)
                if not problem and not (member.isfile() or member.isdir()):
                    problem = "it is neither a file nor a folder"
                if problem:
                    yield Row(id=f"{path.name}/{member.name}", problem=problem)
                elif member.isfile():
                    key, suffix = _key(member.name)
                    if members and (key != name or suffix in members):
                        yield _tar_row(path, name, members)
                        members = {}
                    name = key
                    used = suffix in MEMBER_SUFFIXES
                    members[suffix] = archive.extractfile(member).read() if used else b""
            if members:
                yield _tar_row(path, name, members)
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        yield Row(
            id=f"{path.name}/{name or '(beginning)'}",
            problem=f"the archive is cut or broken here ({error})",
        )


def _key(name: str) -> tuple[str, str]:
    """What the members of one clip have in common, and the suffix: known ones may follow dots."""
    path = PurePosixPath(name)
    if path.suffix.lower() in MEMBER_SUFFIXES:
        return str(path.with_suffix("")), path.suffix.lower()
    stem, _, suffix = path.name.partition(".")
    return str(path.parent / stem), f".{suffix}"


def _tar_row(path: Path, name: str, members: dict[str, bytes]) -> Row:
    audio = next((members[suffix] for suffix in AUDIO_SUFFIXES if suffix in members), None)
    row = Row(id=f"{path.name}/{name}", audio=audio or b"")
    if audio is None:
        return dataclasses.replace(row, problem="it has no audio: no .flac, .wav, .mp3 or .ogg")
    try:
        fields = json.loads(members.get(".json", b"{}"))
        if not isinstance(fields, dict):
            raise ValueError("expected an object")
        texts = fields.get("captions") or fields.get("caption") or fields.get("text")
        texts = texts or members.get(".txt", b"").decode()
    except (ValueError, RecursionError) as error:
        return dataclasses.replace(row, problem=f"its .json or .txt cannot be read ({error})")
    fields = {key: fields.get(key) for key in ("language", "label")} | {"captions": texts}
    described = _table_row(Path(), fields | {"path": "x"})
    return dataclasses.replace(described, id=row.id, audio=audio)


def _csv_fields(
    path: Path, columns: Sequence[str], header: bool = True
) -> Iterator[dict[str, str]]:
    """Rows by column, and under "problem" what is wrong with one, or "".

    UTF-8 with or without a byte order mark, else ISO-8859-1; any line ends.
    """
    try:
        content = path.read_bytes()
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = content.decode("iso-8859-1")
        reader = csv.reader(io.StringIO(text, newline=""))
        names = next(reader, []) if header else list(columns)
        missing = [column for column in columns if column not in names]
        if missing:
            raise DataError(
                f"{path} has the columns {', '.join(names) or '(none)'}; expected "
                f"{', '.join(missing)} as well, named in the first row"
            )
        for values in reader:
            if values:
                fields = dict(zip(names, values, strict=False))
                fields = dict.fromkeys(names, "") | fields
                odd = len(values) != len(names)
                counts = f"its row has {len(values)} fields, expected {len(names)}"
                yield fields | {"problem": counts if odd else ""}
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; is --source right?") from error
    except csv.Error as error:
        raise DataError(f"{path} is not a CSV file: {error}; save it as one") from error


def _jsonl_fields(path: Path) -> Iterator[dict]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                fields = json.loads(line.decode("utf-8-sig"))
            except (ValueError, RecursionError):
                fields = None
            if not isinstance(fields, dict):
                yield {"id": f"{path.name}:{number}", "problem": "its line is no JSON object"}
            else:
                yield fields | {"problem": ""}


def _json(path: Path) -> object:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} is not a readable JSON file: {error}") from error
