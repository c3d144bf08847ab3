"""One shard of a layout -> one ArrayRecord file, and a note of what became of its rows."""

import dataclasses
import hashlib
import itertools
import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter
from tensorflow_datasets.core import example_serializer
from tensorflow_datasets.proto import tf_example_pb2

from supclap_jax.data.flac import Flac, Form, to_flac
from supclap_jax.data.rows import Row, Shard
from supclap_jax.data.sound_files import BadAudio
from supclap_jax.files import replacing, write_whole

FEATURES = {
    "id": tfds.features.Text(),
    "source": tfds.features.Text(),
    "audio": tfds.features.Text(),  # a FLAC file
    "captions": tfds.features.Sequence(tfds.features.Text()),
    "languages": tfds.features.Sequence(tfds.features.Text()),  # of each caption
    "labels": tfds.features.Sequence(tfds.features.Text()),
    "fold": tfds.features.Scalar(np.int32),
    "duration": tfds.features.Scalar(np.float32),
    "sample_rate": tfds.features.Scalar(np.int32),
}
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
      form: how audio is stored.
    """

    shard: Shard
    note: Path
    excluded: Path
    form: Form

    def __call__(self) -> Iterator[tuple[str, dict]]:
        exclusions = json.loads(self.excluded.read_text())
        seen: set[str] = set()
        index: dict[str, list] = {name: [] for name in INDEX}
        skipped, languages, silent = [], Counter(), Counter()
        read, ignored, labelled, classes = 0, 0, 0, set()
        digest = hashlib.sha256()
        for row in self.shard:
            if row.ignored:
                ignored += 1
                continue
            read += 1
            classes |= set() if _text_problem(row) else set(row.labels)
            excluded = row.excluded or exclusions.get(str(key_of(row.source or row.id)), "")
            problem, flac = row.problem, None
            if not excluded and not problem:
                problem = "another clip has its id" if row.id in seen else _text_problem(row)
            if not excluded and not problem:
                try:
                    flac = to_flac(row.audio, self.form, row.start, row.end)
                    if flac.silent != "silent":
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
            silent.update([flac.silent] if flac.silent else [])
            labelled += bool(row.labels)
            languages.update(row.captions.keys())
            example = _example(row, flac)
            index["audio"].append(0 if flac.silent == "silent" else key_of(flac.digest))
            index["source"].append(key_of(example["source"]))
            index["duration"].append(flac.duration)
            content = {name: value for name, value in example.items() if name != "audio"}
            digest.update(json.dumps([content, flac.digest], default=float).encode())
            yield row.id, example
        note = {
            "read": read,
            "ignored": ignored,
            "silent": dict(sorted(silent.items())),
            "skipped": skipped,
            "labelled": labelled,
            "classes": sorted(classes),
            "languages": dict(sorted(languages.items())),
            "digest": digest.hexdigest(),
            "index": index,
        }
        write_whole(self.note, json.dumps(note))


def write_shard(features: tfds.features.FeaturesDict, job: tuple[ShardExamples, Path]) -> None:
    """Writes a file that appears when whole; the same examples give the same bytes.

    Without the compression of ArrayRecord, which gains nothing on FLAC and slows reading.
    """
    examples, path = job
    serializer = example_serializer.ExampleSerializer(features.get_serialized_info())
    with replacing(path) as unfinished:
        file = ArrayRecordWriter(os.fspath(unfinished), "group_size:1,uncompressed")
        for _, example in examples():
            data = serializer.serialize_example(features.encode_example(example))
            in_fixed_order = tf_example_pb2.Example.FromString(data)
            file.write(in_fixed_order.SerializeToString(deterministic=True))
        file.close()


def _text_problem(row: Row) -> str:
    texts = itertools.chain([row.id, row.source, *row.labels], *row.captions.values())
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        return "its name, labels or captions are not valid Unicode"
    return ""


def _example(row: Row, flac: Flac) -> dict:
    pairs = [(text, language) for language, texts in row.captions.items() for text in texts]
    return {
        "id": row.id,
        "source": row.source or row.id,
        "audio": flac.data,
        "captions": [text for text, _ in pairs],
        "languages": [language for _, language in pairs],
        "labels": list(row.labels),
        "fold": row.fold,
        "duration": flac.duration,
        "sample_rate": flac.sample_rate,
    }
