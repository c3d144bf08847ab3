"""AudioSet, and FSD50K, which has classes of its ontology: several labels a clip, no captions."""

from pathlib import Path

from supclap_jax.data.list_files import read_csv
from supclap_jax.data.rows import (
    SECONDS,
    Options,
    Row,
    Shard,
    broken_row,
    from_template,
    in_shards,
    inside,
    labels_of,
    not_empty,
)
from supclap_jax.errors import DataError

CLASSES = "class_labels_indices.csv"
SEGMENTS = {
    "balanced_train_segments": "train",
    "unbalanced_train_segments": "train",
    "eval_segments": "test",
}
FSD50K_SPLITS = {"train": "train", "val": "validation"}


def audioset(folder: Path, options: Options) -> list[Shard]:
    """`{balanced_train,unbalanced_train,eval}_segments.csv` and `class_labels_indices.csv`.

    Balanced and unbalanced clips are one split, "train"; of lists that are not there, nothing is
    written. The template knows `list`, the list's name without its suffix, `ytid`, `start` and
    `end` in seconds; by default `{list}/{ytid}.wav`.
    """
    template = options.template or "{list}/{ytid}.wav"
    classes = _classes(folder / CLASSES)
    rows: dict[str, list[Row]] = {}
    for name, split in SEGMENTS.items():
        path = folder / f"{name}.csv"
        if not path.is_file():
            continue
        columns = ("ytid", "start", "end", "labels")
        mine = rows.setdefault(split, [])
        for number, fields, problem in read_csv(path, columns, header=False, spaced=True):
            if fields["ytid"].startswith("#"):
                continue
            mids = fields["labels"].split(",")
            strange = next((mid for mid in mids if mid not in classes), None)
            if strange is not None:
                problem = problem or f"its class {strange!r} is none of {CLASSES}"
            start, end = fields["start"], fields["end"]
            if not (SECONDS.fullmatch(start) and SECONDS.fullmatch(end)):
                problem = problem or f"its times are {start!r} and {end!r}; expected seconds"
            if problem:
                mine.append(broken_row(path, number, problem))
                continue
            file, problem = from_template(folder, template, fields | {"list": name})
            mine.append(
                Row(
                    id=f"{fields['ytid']}_{float(start):g}",
                    audio=file,
                    labels=labels_of([classes[mid] for mid in mids]),
                    source=f"youtube:{fields['ytid']}",
                    problem=problem,
                )
            )
    shards = [shard for split, these in rows.items() for shard in in_shards(split, these)]
    return not_empty(shards, folder, ", ".join(f"{name}.csv" for name in SEGMENTS))


def _classes(path: Path) -> dict[str, str]:
    """Names by id; every row must be right, since each is of many clips."""
    classes = {}
    for number, fields, problem in read_csv(path, ("mid", "display_name")):
        name = fields["display_name"].strip()
        if problem or not name:
            raise DataError(f"{path}, row {number}: {problem or 'it has no name'}; correct it")
        classes[fields["mid"]] = name
    return classes


def fsd50k(folder: Path, _: Options) -> list[Shard]:
    """`FSD50K.ground_truth/{dev,eval}.csv`, `FSD50K.dev_audio/` and `FSD50K.eval_audio/`."""
    rows: dict[str, list[Row]] = {}
    for name in ("dev", "eval"):
        path = folder / "FSD50K.ground_truth" / f"{name}.csv"
        if not path.is_file():
            continue
        columns = ("fname", "labels", "split") if name == "dev" else ("fname", "labels")
        for number, fields, problem in read_csv(path, columns):
            split = FSD50K_SPLITS.get(fields["split"]) if name == "dev" else "test"
            if split is None:
                problem = problem or f"its split is {fields['split']!r}; expected train or val"
            if problem:
                rows.setdefault(split or "train", []).append(broken_row(path, number, problem))
                continue
            file, misplaced = inside(folder / f"FSD50K.{name}_audio", f"{fields['fname']}.wav")
            labels = labels_of(fields["labels"].split(","))
            rows.setdefault(split, []).append(
                Row(
                    id=fields["fname"],
                    audio=file,
                    labels=labels,
                    source=f"freesound:{fields['fname']}",
                    problem=misplaced or ("" if labels else "it has no label"),
                )
            )
    shards = [shard for split, these in rows.items() for shard in in_shards(split, these)]
    return not_empty(shards, folder, "FSD50K.ground_truth/dev.csv or eval.csv")
