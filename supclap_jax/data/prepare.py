"""Any layout on disk -> ArrayRecord shards with one schema, by one writer.

`prepare` writes on one machine with several processes, and continues where it was killed: each
shard is written under another name and renamed when whole. With Beam the same builder runs on any
of its runners. What is left out is counted, with its reason.
"""

import dataclasses
import functools
import hashlib
import itertools
import json
import multiprocessing
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter
from tensorflow_datasets.core import example_serializer, naming, splits
from tensorflow_datasets.proto import tf_example_pb2

from supclap_jax.data.audio import BadAudio, Flac, to_flac
from supclap_jax.data.layouts import Row, Shard
from supclap_jax.data.workers import live_with_parent
from supclap_jax.errors import DataError

FEATURES = {
    "id": tfds.features.Text(),
    "source": tfds.features.Text(),
    "audio": tfds.features.Text(),  # a FLAC file
    "captions": tfds.features.Sequence(tfds.features.Text()),
    "languages": tfds.features.Sequence(tfds.features.Text()),  # of each caption
    "label": tfds.features.Text(),
    "fold": tfds.features.Scalar(np.int32),
    "duration": tfds.features.Scalar(np.float32),
    "sample_rate": tfds.features.Scalar(np.int32),
}
PLAN, NOTES, EXCLUDED, FAILED = "plan", "notes", "excluded.json", "failed.json"
INDEX = {"audio": np.uint64, "source": np.uint64, "duration": np.float32}


def key_of(text: str) -> int:
    """64 bits of a digest, to compare names and audio by."""
    return int.from_bytes(
        hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest(), "little"
    )


@dataclasses.dataclass(frozen=True)
class ShardExamples:
    """The examples of one shard; when it has been read to its end, what became of every row.

    Attributes:
      shard: of a layout.
      note: JSON file for the counts, skipped clips, and keys of the written ones.
      excluded: JSON file with the keys of recordings and audio to leave out, and why.
      original: whether audio is stored in its own rate and channels, not as training reads it.
    """

    shard: Shard
    note: Path
    excluded: Path
    original: bool

    def __call__(self) -> Iterator[tuple[str, dict]]:
        exclusions = json.loads(self.excluded.read_text())
        seen: set[str] = set()
        index: dict[str, list] = {name: [] for name in INDEX}
        skipped, languages, read, silent, labelled = [], Counter(), 0, 0, 0
        digest = hashlib.sha256()
        for row in self.shard:
            read += 1
            excluded = row.excluded or exclusions.get(str(key_of(row.source or row.id)), "")
            problem, flac = row.problem, None
            if not excluded and not problem:
                problem = "another clip has its id" if row.id in seen else _text_problem(row)
            if not excluded and not problem:
                try:
                    flac = to_flac(row.audio, self.original)
                    if not flac.silent:
                        excluded = exclusions.get(str(key_of(flac.digest)), "")
                except BadAudio as error:
                    problem = str(error)
            if excluded or problem:
                file = str(row.audio) if isinstance(row.audio, Path) else row.id
                skipped.append(
                    {
                        "id": row.id,
                        "file": file,
                        "reason": excluded or problem,
                        "excluded": bool(excluded),
                    }
                )
                continue
            seen.add(row.id)
            silent += flac.silent
            labelled += bool(row.label)
            languages.update(row.captions.keys())
            example = _example(row, flac)
            index["audio"].append(0 if flac.silent else key_of(flac.digest))
            index["source"].append(key_of(example["source"]))
            index["duration"].append(flac.duration)
            content = {name: value for name, value in example.items() if name != "audio"}
            digest.update(json.dumps([content, flac.digest], default=float).encode())
            yield row.id, example
        note = {
            "read": read,
            "silent": silent,
            "skipped": skipped,
            "labelled": labelled,
            "languages": dict(sorted(languages.items())),
            "digest": digest.hexdigest(),
            "index": index,
        }
        _write_whole(self.note, json.dumps(note))


class CaptionedAudio(tfds.core.ShardBasedBuilder):
    """TFDS builder of any layout; `data_dir` is the folder of the set itself.

    Args:
      shards: of a layout, by split.
      data_dir: to write; what is there already is kept.
      original: see `ShardExamples`.
    """

    VERSION = tfds.core.Version("1.0.0")
    name = "captioned_audio"
    code_path = None  # no checksum files beside this module

    def __init__(self, shards: dict[str, list[Shard]], data_dir: Path, original: bool):
        self.examples = {
            split: [
                ShardExamples(
                    shard,
                    data_dir / NOTES / f"{split}-{number:05d}.json",
                    data_dir / EXCLUDED,
                    original,
                )
                for number, shard in enumerate(these)
            ]
            for split, these in shards.items()
        }
        super().__init__(data_dir=os.fspath(data_dir), file_format="array_record")

    def jobs(self) -> list[tuple[ShardExamples, Path]]:
        """Each shard's examples and file."""
        return [
            (these, Path(path))
            for split, examples in self.examples.items()
            for these, path in zip(
                examples, self.template(split).sharded_filepaths(len(examples)), strict=True
            )
        ]

    def template(self, split: str) -> naming.ShardedFileTemplate:
        """Names of the files of a split."""
        return naming.ShardedFileTemplate(
            data_dir=self.data_path,
            dataset_name=self.name,
            split=split,
            filetype_suffix="array_record",
        )

    def _build_data_dir(self, given_data_dir: str) -> tuple[str, str]:
        return given_data_dir, given_data_dir

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(FEATURES))

    def _shard_iterators_per_split(self, dl_manager) -> dict[str, list[ShardExamples]]:
        return self.examples

    def _download_and_prepare(self, dl_manager, download_config) -> None:
        """Writes the missing shards under Beam, as one collection, however many they are."""
        import apache_beam as beam

        runner, options = download_config.beam_runner, download_config.beam_options
        write = functools.partial(_write_shard, self.info.features)
        with beam.Pipeline(runner=runner, options=options) as pipeline:
            waiting = pipeline | beam.Create(_missing(self.jobs()))
            _ = waiting | beam.Reshuffle() | beam.Map(write)


def prepare(
    shards: Iterable[Shard],
    out: Path,
    *,
    workers: int = 1,
    max_bad: float = 0.01,
    excluded: Mapping[int, str] | None = None,
    original: bool = False,
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
      original: store audio in its own rate and channels, not mono at 16 kHz and 16 bit, as training
        reads it.
      beam: options of a Beam pipeline, such as `["--runner=FlinkRunner"]`; instead of `workers`.
      progress: called with the shards done, and of how many.

    Returns:
      {"read", "written", "excluded", "skipped", "silent",
      "splits": {split: {"clips", "labelled", "languages": {language: clips}, "digest"}},
      "problems": [{"split", "id", "file", "reason", "excluded"}, ...]}

    Raises:
      DataError: too many clips are bad, none is good, or `out` is taken.
    """
    by_split: dict[str, list[Shard]] = {}
    for shard in shards:
        by_split.setdefault(shard.split, []).append(shard)
    plan = _plan(by_split, excluded or {}, original)
    if out.exists():
        if not (out / PLAN).is_file() or (out / PLAN).read_text() != plan:
            raise DataError(f"{out} exists and is not this data set; choose another --out")
        shutil.rmtree(out / NOTES, ignore_errors=True)
        return json.loads((out / "report.json").read_text(encoding="utf-8"))
    unfinished = out.with_name(f"{out.name}.incomplete")
    _claim(unfinished, plan, excluded or {})
    builder = CaptionedAudio(by_split, unfinished, original)
    if beam is None:
        _write_in_processes(builder, workers, progress)
    else:
        _write_with_beam(builder, beam)
    report = _report(builder)
    bad, considered = report["skipped"], report["read"] - report["excluded"]
    if bad > max_bad * considered or not report["written"]:
        shown = "; ".join(
            f"{entry['file']!r}: {entry['reason']}" for entry in report["problems"][:3]
        )
        _write_whole(unfinished / FAILED, json.dumps(report, indent=2))
        raise DataError(
            f"{bad:,} of {considered:,} clips cannot be used ({shown}); all are listed in "
            f"{unfinished / FAILED}; repair them and start again, or allow more than "
            f"--max-bad={max_bad:g}"
        )
    _finish(builder, report)
    os.replace(unfinished, out)
    shutil.rmtree(out / NOTES)
    return report


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


def _text_problem(row: Row) -> str:
    texts = itertools.chain([row.id, row.source, row.label], *row.captions.values())
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        return "its name, label or captions are not valid Unicode"
    return ""


def _example(row: Row, flac: Flac) -> dict:
    pairs = [(text, language) for language, texts in row.captions.items() for text in texts]
    return {
        "id": row.id,
        "source": row.source or row.id,
        "audio": flac.data,
        "captions": [text for text, _ in pairs],
        "languages": [language for _, language in pairs],
        "label": row.label,
        "fold": row.fold,
        "duration": flac.duration,
        "sample_rate": flac.sample_rate,
    }


def _plan(by_split: dict[str, list[Shard]], excluded: Mapping[int, str], original: bool) -> str:
    """A digest of all that is to be written, and what not."""
    digest = hashlib.sha256(json.dumps([original, sorted(excluded.items())]).encode())
    for split, shards in by_split.items():
        for shard in shards:
            digest.update(f"{split} {shard!r}".encode())
    return digest.hexdigest()


def _claim(folder: Path, plan: str, excluded: Mapping[int, str]) -> None:
    """Makes the folder this plan's, or checks that it is; forgets shards of a failed attempt."""
    if (folder / PLAN).is_file() and (folder / PLAN).read_text() != plan:
        raise DataError(
            f"{folder} was begun from another list of clips; remove it, or choose another --out"
        )
    if (folder / FAILED).is_file():
        shutil.rmtree(folder)
    (folder / NOTES).mkdir(parents=True, exist_ok=True)
    (folder / "dataset_info.json").unlink(missing_ok=True)
    _write_whole(folder / EXCLUDED, json.dumps(excluded))
    _write_whole(folder / PLAN, plan)


def _missing(jobs: list[tuple[ShardExamples, Path]]) -> list[tuple[ShardExamples, Path]]:
    return [job for job in jobs if not (job[1].is_file() and job[0].note.is_file())]


def _write_in_processes(builder: CaptionedAudio, workers: int, progress) -> None:
    jobs = builder.jobs()
    waiting = _missing(jobs)
    done = len(jobs) - len(waiting)
    progress(done, len(jobs))
    write = functools.partial(_write_shard, builder.info.features)
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


def _write_shard(features, job: tuple[ShardExamples, Path]) -> None:
    """Writes a file that appears when whole; the same examples give the same bytes.

    Without the compression of ArrayRecord, which gains nothing on FLAC and slows reading.
    """
    examples, path = job
    serializer = example_serializer.ExampleSerializer(features.get_serialized_info())
    part = _part(path)
    file = ArrayRecordWriter(os.fspath(part), "group_size:1,uncompressed")
    for _, example in examples():
        data = serializer.serialize_example(features.encode_example(example))
        in_fixed_order = tf_example_pb2.Example.FromString(data)
        file.write(in_fixed_order.SerializeToString(deterministic=True))
    file.close()
    os.replace(part, path)


def _write_with_beam(builder: CaptionedAudio, arguments: list[str]) -> None:
    try:
        from apache_beam.options import pipeline_options
    except ImportError:
        raise DataError("Apache Beam is not installed; pip install 'supclap_jax[beam]'") from None
    options = pipeline_options.PipelineOptions(arguments)
    runner = options.view_as(pipeline_options.StandardOptions).runner or "DirectRunner"
    builder._download_and_prepare(
        None, tfds.download.DownloadConfig(beam_runner=runner, beam_options=options)
    )


def _notes(builder: CaptionedAudio) -> Iterator[tuple[str, int, dict]]:
    for split, examples in builder.examples.items():
        for number, these in enumerate(examples):
            yield split, number, json.loads(these.note.read_text())


def _report(builder: CaptionedAudio) -> dict:
    counts = Counter(read=0, written=0, excluded=0, skipped=0, silent=0)
    report = {"splits": {}, "problems": []}
    digests = {}
    for split, _, note in _notes(builder):
        written = len(note["index"]["duration"])
        excluded = sum(entry["excluded"] for entry in note["skipped"])
        counts.update(
            read=note["read"],
            written=written,
            excluded=excluded,
            skipped=len(note["skipped"]) - excluded,
            silent=note["silent"],
        )
        mine = report["splits"].setdefault(split, {"clips": 0, "labelled": 0, "languages": {}})
        mine["clips"] += written
        mine["labelled"] += note["labelled"]
        for language, clips in note["languages"].items():
            mine["languages"][language] = mine["languages"].get(language, 0) + clips
        digests.setdefault(split, hashlib.sha256()).update(note["digest"].encode())
        report["problems"] += [{"split": split, **entry} for entry in note["skipped"]]
    for split, digest in digests.items():
        report["splits"][split]["digest"] = digest.hexdigest()
    report["splits"] = {split: mine for split, mine in report["splits"].items() if mine["clips"]}
    return {**counts, **report}


def _finish(builder: CaptionedAudio, report: dict) -> None:
    """Writes index, metadata and report; removes what only an unfinished set needs."""
    folder = Path(builder.data_dir)
    index = folder / "index"
    index.mkdir(exist_ok=True)
    arrays = {
        (split, name): np.lib.format.open_memmap(
            index / f"{split}.{name}.npy", "w+", dtype, (mine["clips"],)
        )
        for split, mine in report["splits"].items()
        for name, dtype in INDEX.items()
    }
    lengths: dict[str, list[int]] = {}
    for split, _, note in _notes(builder):
        begin = sum(lengths.setdefault(split, []))
        count = len(note["index"]["duration"])
        lengths[split].append(count)
        if count:
            for name in INDEX:
                arrays[split, name][begin : begin + count] = np.array(
                    note["index"][name], INDEX[name]
                )
    for array in arrays.values():
        array.flush()
    infos = []
    for split, counts in lengths.items():
        if split in report["splits"]:
            template = builder.template(split)
            paths = template.sharded_filepaths(len(counts))
            size = sum(os.path.getsize(path) for path in paths)
            infos.append(
                splits.SplitInfo(
                    name=split, shard_lengths=counts, num_bytes=size, filename_template=template
                )
            )
    builder.info.set_splits(splits.SplitDict(infos))
    builder.info.write_to_directory(folder)
    for path in [folder / EXCLUDED, *folder.glob("*.part")]:
        path.unlink(missing_ok=True)
    _write_whole(folder / "report.json", json.dumps(report, indent=2, ensure_ascii=False) + "\n")


def _part(path: Path) -> Path:
    """Where a file is written until it is whole; no other process writes there."""
    return path.with_name(f"{path.name}.{os.getpid()}.part")


def _write_whole(path: Path, text: str) -> None:
    part = _part(path)
    part.write_text(text, encoding="utf-8", errors="replace")
    os.replace(part, path)
