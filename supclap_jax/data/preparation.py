"""Any layout on disk -> ArrayRecord shards with one schema, by one writer.

`prepare` writes on one machine with several processes, and continues where it was killed: each
shard is written under another name and renamed when whole. With Beam the same builder runs on any
of its runners. What is left out is counted, with its reason.
"""

import dataclasses
import functools
import hashlib
import json
import multiprocessing
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
from tensorflow_datasets.core import splits

from supclap_jax.data.captioned_audio import EXCLUDED, NOTES, CaptionedAudio, write_with_beam
from supclap_jax.data.flac import AS_TRAINING_READS, Form
from supclap_jax.data.rows import Rows, Shard
from supclap_jax.data.shards import INDEX, write_shard
from supclap_jax.data.workers import live_with_parent
from supclap_jax.errors import DataError
from supclap_jax.files import write_whole

PLAN, FAILED = "plan", "failed.json"
REPORTED = {"read", "written", "skipped", "excluded", "ignored", "silent", "splits", "problems"}


def prepare(
    shards: Iterable[Shard],
    out: Path,
    *,
    workers: int = 1,
    max_bad: float = 0.01,
    excluded: Mapping[int, str] | None = None,
    form: Form = AS_TRAINING_READS,
    beam: list[str] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict:
    """Writes a data set to `out`, which appears when all of it is there; returns its report.

    Until then `OUT.incomplete` holds the shards that are done. Interrupted or killed, the same call
    goes on from them and ends with the same bytes.

    Args:
      shards: of a layout.
      out: folder to make.
      workers: processes.
      max_bad: share of clips that may be bad; excluded ones count neither way.
      excluded: keys (`key_of`) of recordings and audio to leave out, and why.
      form: how audio is stored.
      beam: options of a Beam pipeline, such as `["--runner=FlinkRunner"]`; instead of `workers`.
      progress: called with the shards done, and of how many.

    Returns:
      {"read", "written", "excluded", "skipped", "ignored", "silent": {kind (see `Flac`): clips},
      "splits": {split: {"clips", "labelled", "classes", "languages": {language: clips}, "digest",
      "repeated": clips with the audio of another, "sixteen_bit": whether all are mono at 16 kHz and
      16 bit}},
      "problems": [{"split", "id", "file", "reason", "excluded"}, ...]}

    Raises:
      DataError: too many clips are bad, none is good, or `out` is taken.
    """
    by_split: dict[str, list[Shard]] = {}
    for shard in shards:
        by_split.setdefault(shard.split, []).append(shard)
    plan = _plan(by_split, excluded or {}, form)
    if out.exists():
        if not (out / PLAN).is_file() or (out / PLAN).read_text() != plan:
            raise DataError(f"{out} exists and is not this data set; choose another --out")
        shutil.rmtree(out / NOTES, ignore_errors=True)
        return read_report(out)
    _check_files(by_split)
    unfinished = out.with_name(f"{out.name}.incomplete")
    _claim(unfinished, plan, excluded or {})
    builder = CaptionedAudio(by_split, unfinished, form)
    if beam is None:
        _write_in_processes(builder, workers, progress)
    else:
        write_with_beam(builder, beam)
    report = _report(builder)
    if not report["read"]:
        raise DataError("the lists of the set name no clips; is --source the right folder?")
    bad, considered = report["skipped"], report["read"] - report["excluded"]
    if report["read"] and not considered:
        raise DataError(f"all {report['read']:,} clips are excluded; nothing is left to write")
    if bad > max_bad * considered or not report["written"]:
        shown = "; ".join(
            f"{entry['file']!r}: {entry['reason']}"
            for entry in [entry for entry in report["problems"] if not entry["excluded"]][:3]
        )
        write_whole(unfinished / FAILED, json.dumps(report, indent=2))
        raise DataError(
            f"{bad:,} of {considered:,} clips cannot be used ({shown}); all are listed in "
            f"{unfinished / FAILED}; repair them and start again, or allow more than "
            f"--max-bad={max_bad:g}"
        )
    _finish(builder, report)
    os.replace(unfinished, out)
    shutil.rmtree(out / NOTES)
    return report


def read_report(out: Path) -> dict:
    """What `prepare` returned when it made the set.

    Raises:
      DataError: its file is damaged.
    """
    try:
        report = json.loads((out / "report.json").read_text(encoding="utf-8"))
        if report.keys() >= REPORTED:
            return report
        problem = f"it lacks {min(REPORTED - report.keys())!r}"
    except (OSError, ValueError, AttributeError) as error:
        problem = str(error)
    raise DataError(
        f"{out / 'report.json'} cannot be read ({problem}); remove {out} and prepare it again"
    )


def exclusions(folders: Iterable[Path]) -> dict[int, str]:
    """Keys of all recordings and audio of prepared sets, for `prepare` to leave out."""
    excluded: dict[int, str] = {}
    for folder in folders:
        files = sorted((folder / "index").glob("*.npy"))
        if not files:
            raise DataError(f"{folder} is no prepared data set; make one with 'supclap prepare'")
        for path in files:
            name = path.stem.rsplit(".", 1)[1]
            if name != "duration":
                same = "the same audio is" if name == "audio" else "the same recording is"
                keys = np.load(path, mmap_mode="r", allow_pickle=False)
                excluded |= dict.fromkeys(keys.tolist(), f"{same} in {folder.name}")
    excluded.pop(0, None)
    return excluded


def _plan(by_split: dict[str, list[Shard]], excluded: Mapping[int, str], form: Form) -> str:
    """A digest of all that is to be written, and what not."""
    told = [dataclasses.astuple(form), sorted(excluded.items())]
    digest = hashlib.sha256(json.dumps(told).encode())
    for split, shards in by_split.items():
        for shard in shards:
            digest.update(f"{split} {shard!r}".encode())
    return digest.hexdigest()


def _check_files(by_split: Mapping[str, list[Shard]]) -> None:
    """Refuses lists of which not one file is there, before anything is written."""
    for split, shards in by_split.items():
        rows = (row for shard in shards if isinstance(shard, Rows) for row in shard)
        files = [row.audio for row in rows if isinstance(row.audio, Path) and not row.problem]
        if files and not any(os.path.isfile(file) for file in files):
            raise DataError(
                f"none of the {len(files):,} files of {split} is there, such as {str(files[0])!r}; "
                "are --source and --template right?"
            )


def _claim(folder: Path, plan: str, excluded: Mapping[int, str]) -> None:
    """Makes the folder this plan's, or checks that it is; forgets shards of a failed attempt."""
    if (folder / FAILED).is_file():
        shutil.rmtree(folder)
    is_other = (folder / PLAN).is_file() and (folder / PLAN).read_text() != plan
    if is_other and not any((folder / NOTES).glob("*")):
        shutil.rmtree(folder)  # in which no shard was finished
    elif is_other:
        raise DataError(
            f"{folder} was begun from another list of clips; remove it, or choose another --out"
        )
    (folder / NOTES).mkdir(parents=True, exist_ok=True)
    (folder / "dataset_info.json").unlink(missing_ok=True)
    write_whole(folder / EXCLUDED, json.dumps(excluded))
    write_whole(folder / PLAN, plan)


def _write_in_processes(builder: CaptionedAudio, workers: int, progress) -> None:
    jobs = builder.jobs()
    waiting = builder.missing()
    done = len(jobs) - len(waiting)
    progress(done, len(jobs))
    write = functools.partial(write_shard, builder.info.features)
    if workers == 1:
        for number, job in enumerate(waiting, done + 1):
            write(job)
            progress(number, len(jobs))
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=live_with_parent) as pool:
        try:
            futures = [pool.submit(write, job) for job in waiting]
            for number, future in enumerate(as_completed(futures), done + 1):
                future.result()
                progress(number, len(jobs))
        except BrokenProcessPool:
            raise DataError(
                "a worker was killed, perhaps for want of memory; the same command goes on from "
                "here, with fewer --workers if need be"
            ) from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in multiprocessing.active_children():  # they would finish their shards
                worker.kill()
            raise


def _report(builder: CaptionedAudio) -> dict:
    counts = Counter(read=0, written=0, excluded=0, skipped=0, ignored=0)
    silent = Counter()
    report = {"splits": {}, "problems": []}
    digests = {}
    for split, note in builder.notes():
        written = len(note["index"]["duration"])
        excluded = sum(entry["excluded"] for entry in note["skipped"])
        counts.update(
            read=note["read"],
            ignored=note["ignored"],
            written=written,
            excluded=excluded,
            skipped=len(note["skipped"]) - excluded,
        )
        silent.update(note["silent"])
        mine = report["splits"].setdefault(
            split,
            {
                "clips": 0,
                "labelled": 0,
                "classes": [],
                "languages": {},
                "sixteen_bit": not builder.form.original,
            },
        )
        mine["clips"] += written
        mine["labelled"] += note["labelled"]
        mine["classes"] = sorted({*mine["classes"], *note["classes"]})
        for language, clips in note["languages"].items():
            mine["languages"][language] = mine["languages"].get(language, 0) + clips
        digests.setdefault(split, hashlib.sha256()).update(note["digest"].encode())
        report["problems"] += [{"split": split, **entry} for entry in note["skipped"]]
    for split, digest in digests.items():
        report["splits"][split]["digest"] = digest.hexdigest()
    report["splits"] = {split: mine for split, mine in report["splits"].items() if mine["clips"]}
    return {**counts, "silent": dict(silent), **report}


def _finish(builder: CaptionedAudio, report: dict) -> None:
    """Writes index, metadata and report; removes what only an unfinished set needs."""
    folder = Path(builder.data_dir)
    lengths = _write_index(builder, report)
    _write_metadata(builder, {split: lengths[split] for split in report["splits"]})
    for path in [folder / EXCLUDED, *folder.glob("*.part")]:
        path.unlink(missing_ok=True)
    text = json.dumps(report, indent=2, ensure_ascii=False) + "\n"
    write_whole(folder / "report.json", text.encode(errors="replace"))


def _write_index(builder: CaptionedAudio, report: dict) -> dict[str, list[int]]:
    """Writes keys and durations of all clips; returns the number of clips of each shard.

    Notes in the report how many clips of a split repeat the audio of another.
    """
    folder = Path(builder.data_dir) / "index"
    folder.mkdir(exist_ok=True)
    arrays = {
        (split, name): np.lib.format.open_memmap(
            folder / f"{split}.{name}.npy", "w+", dtype, (mine["clips"],)
        )
        for split, mine in report["splits"].items()
        for name, dtype in INDEX.items()
    }
    lengths: dict[str, list[int]] = {}
    for split, note in builder.notes():
        begin = sum(lengths.setdefault(split, []))
        count = len(note["index"]["duration"])
        lengths[split].append(count)
        if count:
            for name, dtype in INDEX.items():
                arrays[split, name][begin : begin + count] = np.array(note["index"][name], dtype)
    for array in arrays.values():
        array.flush()
    for split, mine in report["splits"].items():
        keys = arrays[split, "audio"]
        mine["repeated"] = int(np.count_nonzero(keys) - np.count_nonzero(np.unique(keys)))
    return lengths


def _write_metadata(builder: CaptionedAudio, lengths: dict[str, list[int]]) -> None:
    """Writes what TFDS knows of a set, with the number of clips of each shard."""
    infos = []
    for split, counts in lengths.items():
        template = builder.template(split)
        size = sum(os.path.getsize(path) for path in template.sharded_filepaths(len(counts)))
        infos.append(
            splits.SplitInfo(
                name=split, shard_lengths=counts, num_bytes=size, filename_template=template
            )
        )
    builder.info.set_splits(splits.SplitDict(infos))
    builder.info.write_to_directory(builder.data_dir)
