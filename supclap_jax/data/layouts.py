"""Published layouts of audio-caption data sets, read into shards of rows.

A layout is a function of a folder that reads the set's lists and never its audio. It returns
shards, each an iterable of `Row`; what is wrong with a row is told in it, so that it is counted
where the row is written. A list that cannot be read at all raises `DataError`.
"""

import re
from collections.abc import Callable
from pathlib import Path

from supclap_jax.data import splits
from supclap_jax.data.audioset import audioset, fsd50k
from supclap_jax.data.clotho import clotho
from supclap_jax.data.list_files import read_csv, read_jsonl, read_yaml
from supclap_jax.data.parquet_files import parquet
from supclap_jax.data.rows import (
    ENGLISH,
    Options,
    Row,
    Shard,
    broken_row,
    captions_of,
    check_template,
    described_row,
    from_template,
    in_shards,
    inside,
    labels_of,
    not_empty,
    without_clutter,
)
from supclap_jax.data.tar_archives import Tar
from supclap_jax.data.wavcaps import wavcaps
from supclap_jax.errors import DataError

NUMBER = re.compile(r"[0-9]{1,9}")
SPLIT = re.compile(r"(?!all$)[A-Za-z][A-Za-z0-9_]*")


def audiocaps(folder: Path, options: Options) -> list[Shard]:
    """`train.csv`, `val.csv`, `test.csv`: `audiocap_id,youtube_id,start_time,caption`.

    The template knows these columns, `split`, and `end_time`, ten seconds after the start; by
    default `{split}/{youtube_id}.wav`.
    """
    template = options.template or "{split}/{youtube_id}.wav"
    columns = ("audiocap_id", "youtube_id", "start_time", "caption")
    shards = []
    for split, name in splits.AUDIOCAPS.items():
        path = folder / f"{name}.csv"
        if not path.is_file():
            continue
        rows = []
        for number, fields, problem in read_csv(path, columns):
            if problem:
                rows.append(broken_row(path, number, problem))
                continue
            clip = fields["youtube_id"]
            known = {"end_time": _ten_seconds_after(fields["start_time"])} | fields
            file, misplaced = from_template(folder, template, known | {"split": name})
            captions, empty = captions_of(((ENGLISH, fields["caption"]),))
            rows.append(
                Row(
                    id=f"{clip}_{fields['start_time']}",
                    audio=file,
                    captions=captions,
                    source=f"youtube:{clip}",
                    problem=misplaced or empty,
                )
            )
        shards += in_shards(split, rows)
    return not_empty(shards, folder, "train.csv, val.csv or test.csv")


def macs(folder: Path, _: Options) -> list[Shard]:
    """`MACS.yaml` and `audio/`, of TAU Urban Acoustic Scenes 2019: one split, "train".

    Annotators' tags are no classes, and left out. Clips of one place are cut from one recording.
    """
    path = folder / "MACS.yaml"
    content = read_yaml(path)
    files = content.get("files") if isinstance(content, dict) else None
    if not isinstance(files, list):
        raise DataError(f"{path} lists no files; expected 'files:' with annotations of each")
    rows = []
    for number, fields in enumerate(files, 1):
        name = fields.get("filename") if isinstance(fields, dict) else None
        annotations = fields.get("annotations") if isinstance(fields, dict) else None
        if not isinstance(name, str) or not isinstance(annotations, list):
            rows.append(broken_row(path, number, "its entry has no filename or no annotations"))
            continue
        texts = [item.get("sentence") if isinstance(item, dict) else item for item in annotations]
        odd = next((text for text in texts if not isinstance(text, str)), None)
        captions, empty = captions_of((ENGLISH, text) for text in texts)
        if odd is not None:
            empty = f"one of its sentences is {str(odd)[:40]!r}; expected text"
        file, misplaced = inside(folder / "audio", name)
        rows.append(
            Row(
                id=name,
                audio=file,
                captions=captions,
                source=f"tau:{'-'.join(name.split('-')[:3])}",  # scene, city, place
                problem=misplaced or empty,
            )
        )
    return not_empty(in_shards("train", rows), folder, "files in MACS.yaml")


def esc50(folder: Path, _: Options) -> list[Shard]:
    """`meta/esc50.csv` and `audio/`: one split, "test", with folds."""
    rows = []
    columns = ("filename", "fold", "category", "src_file")
    path = folder / "meta" / "esc50.csv"
    for number, fields, problem in read_csv(path, columns):
        if problem:
            rows.append(broken_row(path, number, problem))
            continue
        file, misplaced = inside(folder / "audio", fields["filename"])
        rows.append(
            Row(
                id=fields["filename"],
                audio=file,
                labels=labels_of(fields["category"]),
                fold=_fold(fields["fold"]),
                source=f"freesound:{fields['src_file']}",
                problem=misplaced or _unlabelled(fields["category"]),
            )
        )
    return not_empty(in_shards("test", rows), folder, "rows in meta/esc50.csv")


def urbansound8k(folder: Path, _: Options) -> list[Shard]:
    """`metadata/UrbanSound8K.csv` and `audio/fold*/`: one split, "test", with folds."""
    rows = []
    columns = ("slice_file_name", "fsID", "fold", "class")
    path = folder / "metadata" / "UrbanSound8K.csv"
    for number, fields, problem in read_csv(path, columns):
        if problem:
            rows.append(broken_row(path, number, problem))
            continue
        name = f"fold{fields['fold']}/{fields['slice_file_name']}"
        file, misplaced = inside(folder / "audio", name)
        rows.append(
            Row(
                id=fields["slice_file_name"],
                audio=file,
                labels=labels_of(fields["class"]),
                fold=_fold(fields["fold"]),
                source=f"freesound:{fields['fsID']}",
                problem=misplaced or _unlabelled(fields["class"]),
            )
        )
    return not_empty(in_shards("test", rows), folder, "rows in metadata/UrbanSound8K.csv")


def vggsound(folder: Path, options: Options) -> list[Shard]:
    """`vggsound.csv`, without a header: `ytid,start,label,split`.

    The template knows these four and `end`, ten seconds after the start; by default
    `audio/{ytid}_{start:06d}.wav`.
    """
    template = options.template or "audio/{ytid}_{start:06d}.wav"
    rows: dict[str, list[Row]] = {"train": [], "test": []}
    columns = ("ytid", "start", "label", "split")
    path = folder / "vggsound.csv"
    for number, fields, problem in read_csv(path, columns, header=False):
        if problem or fields["split"] not in rows:
            problem = problem or f"its split is {fields['split']!r}; expected train or test"
            rows["train"].append(broken_row(path, number, problem))
            continue
        file = b""
        if not NUMBER.fullmatch(fields["start"]):
            problem = f"its start is {fields['start']!r}; expected whole seconds"
        else:
            known = fields | {"end": int(fields["start"]) + 10}
            file, problem = from_template(folder, template, known)
        rows["test" if fields["split"] == "test" else "train"].append(
            Row(
                id=f"{fields['ytid']}_{fields['start']}",
                audio=file,
                labels=labels_of(fields["label"]),
                source=f"youtube:{fields['ytid']}",
                problem=problem or _unlabelled(fields["label"]),
            )
        )
    shards = [shard for split, these in rows.items() for shard in in_shards(split, these)]
    return not_empty(shards, folder, "rows in vggsound.csv")


def table(source: Path, _: Options) -> list[Shard]:
    """A CSV or JSONL file, or a folder of them: `path, caption[, language, split, id, label]`.

    `labels` are several, in CSV with `;` between them.

    Paths are relative to the file's folder. Rows of one id (by default the path) are captions of
    one clip. In JSONL, `captions` may be `{language: [caption, ...]}` instead. `start_time` and
    `end_time` in seconds (or `start` and `end`, `onset` and `offset`) cut the clip out of its file.
    """
    files, ignored = [source], []
    if source.is_dir():
        tables = (path for path in source.iterdir() if path.suffix in (".csv", ".jsonl"))
        files, ignored = without_clutter(tables)
    rows: dict[str, list[Row]] = {"train": ignored} if ignored else {}
    for path in files:
        if path.suffix not in (".csv", ".jsonl"):
            raise DataError(f"{path} is no table; expected a .csv or .jsonl file")
        read = read_csv(path, ("path",)) if path.suffix == ".csv" else read_jsonl(path)
        for number, fields, problem in read:
            if problem:
                rows.setdefault("train", []).append(broken_row(path, number, problem))
                continue
            split = fields.get("split") or "train"
            if not isinstance(split, str) or not SPLIT.fullmatch(split):
                raise DataError(f"{path}: {split!r} cannot name a split; expected such as 'train'")
            row = described_row(path.parent, fields)
            if not row.id:
                row = broken_row(path, number, row.problem)
            rows.setdefault(split, []).append(row)
    shards = [shard for split, these in rows.items() for shard in in_shards(split, these)]
    return not_empty(shards, source, "rows in .csv or .jsonl files")


def webdataset(folder: Path, _: Options) -> list[Shard]:
    """`*.tar` (training) and `SPLIT/*.tar`: audio beside `.json` or `.txt` of the same name.

    Captions are a `.txt`, or in the `.json` `caption`, `captions` or `text`: a string, a list, or
    `{language: [caption, ...]}`; `label` and `language` too.
    """
    if folder.is_file():
        return [Tar("train", folder)]
    archives, ignored = without_clutter(folder.glob("*.tar"))
    shards = [Tar("train", path) for path in archives]
    folders, _ = without_clutter(path for path in folder.iterdir() if path.is_dir())
    for split in folders:
        archives, more = without_clutter(split.glob("*.tar"))
        ignored += more
        if archives and not SPLIT.fullmatch(split.name):
            raise DataError(f"{split} cannot name a split; expected such as 'train'")
        shards += [Tar(split.name, path) for path in archives]
    not_empty(shards, folder, "*.tar or SPLIT/*.tar")
    return shards + in_shards(shards[0].split, ignored)


LAYOUTS: dict[str, Callable[[Path, Options], list[Shard]]] = {
    layout.__name__: layout
    for layout in (
        audiocaps,
        clotho,
        wavcaps,
        macs,
        esc50,
        urbansound8k,
        vggsound,
        fsd50k,
        audioset,
        table,
        parquet,
        webdataset,
    )
} | {"csv": table, "jsonl": table}

TAKEN_BY = {
    "template": ("audiocaps", "wavcaps", "vggsound", "audioset"),
    "blacklists": ("wavcaps",),
    "use_blacklist": ("wavcaps",),
}
OPTIONS = {
    "template": "--template",
    "blacklists": "--blacklist",
    "use_blacklist": "--no-blacklist",
}


def read_layout(name: str, source: Path, options: Options) -> list[Shard]:
    """The shards of a data set in one of `LAYOUTS`.

    Raises:
      DataError: there is no such folder, or its lists cannot be read.
    """
    if not source.exists():
        raise DataError(f"there is no {str(source)!r}; --source is the folder of the data set")
    for option, layouts in TAKEN_BY.items():
        if getattr(options, option) != getattr(Options(), option) and name not in layouts:
            given = OPTIONS[option]
            raise DataError(f"{given} is for {', '.join(layouts)}; leave it out with {name}")
    if options.blacklists and not options.use_blacklist:
        raise DataError("--blacklist and --no-blacklist are given; leave one of them out")
    check_template(options.template)
    if not source.is_dir() and LAYOUTS[name] not in (table, parquet, webdataset):
        raise DataError(f"{str(source)!r} is no folder; --source is the folder of the data set")
    return LAYOUTS[name](source, options)


def _ten_seconds_after(start: str) -> str:
    return str(int(start) + 10) if NUMBER.fullmatch(start) else ""


def _unlabelled(label: str) -> str:
    return "" if label.strip() else "it has no label"


def _fold(text: str) -> int:
    return int(text) if NUMBER.fullmatch(text) else 0
