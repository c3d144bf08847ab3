"""Prepared data sets, read back by random access, alone or in a mixture.

A host holds nothing for a clip: captions lie beside the audio in its record, and durations and keys
in memory-mapped arrays.
"""

import bisect
import functools
import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from supclap_jax.data.clips import Clip, Clips
from supclap_jax.errors import DataError

CHUNK = 1 << 20


def is_prepared(folder: Path) -> bool:
    """Whether `supclap prepare` has written this folder."""
    return (folder / "report.json").is_file() and (folder / "dataset_info.json").is_file()


def split_names(folder: Path) -> list[str]:
    """Of a prepared set. Raises DataError where its report cannot be read."""
    path = folder / "report.json"
    try:
        return list(json.loads(path.read_text(encoding="utf-8"))["splits"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} cannot be read ({error}); prepare the set again") from error


class PreparedSplit(Sequence):
    """One split of a prepared set.

    Args:
      folder: that `supclap prepare` wrote.
      split: such as "train".
      languages: captions wanted.

    Attributes:
      sixteen_bit: whether all sounds are mono at 16 kHz and 16 bit.

    Raises:
      DataError: there is no such set or split.
    """

    def __init__(self, folder: Path, split: str, languages: Sequence[str]):
        if not is_prepared(folder):
            raise DataError(f"{folder} is no prepared data set; make one with 'supclap prepare'")
        self.folder, self.split, self.languages = folder, split, tuple(languages)
        with self._damage_told("report.json"):
            splits = json.loads((folder / "report.json").read_text(encoding="utf-8"))["splits"]
            if split not in splits:
                raise DataError(f"{folder} has no split {split!r}; it has {', '.join(splits)}")
            self._size, self._digest = splits[split]["clips"], splits[split]["digest"]
            self._captioned = splits[split]["languages"]
            self.sixteen_bit = splits[split].get("sixteen_bit", False)  # older sets do not say
            lists = (mine.get("classes", ()) for mine in splits.values())  # older sets have none
            self._classes = tuple(sorted(set().union(*lists)))
            self._covered = [splits[split]["labelled"]]
            self._covered += [splits[split]["languages"].get(name, 0) for name in languages]

    def __len__(self) -> int:
        return self._size

    def __getstate__(self) -> dict:
        """Without the open files: a process that gets a copy opens them again."""
        return {name: value for name, value in self.__dict__.items() if name != "_records"}

    @functools.cached_property
    def _records(self) -> Sequence[bytes]:
        import tensorflow_datasets as tfds  # takes half a second

        with self._damage_told("dataset_info.json or features.json"):
            return tfds.builder_from_directory(self.folder).as_data_source(
                self.split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
            )

    @contextmanager
    def _damage_told(self, name: str) -> Iterator[None]:
        """What goes wrong inside is the fault of this file of the set."""
        try:
            yield
        except DataError:
            raise
        except Exception as error:  # JSON, protobuf, TFDS and NumPy raise any kind
            problem = str(error).splitlines()[0] if str(error) else repr(error)
            raise DataError(
                f"{self.folder}: {name} cannot be read ({problem}); remove the folder and prepare "
                "the set again"
            ) from error

    def record(self, index: int) -> dict:
        """One clip: its texts, its fold, and as "audio" the bytes of a FLAC file.

        TFDS would copy the audio several times on its way out of the record.

        Raises:
          DataError: the shard is damaged or gone.
        """
        from tensorflow_datasets.proto import tf_example_pb2

        try:
            data, problem = self._records[int(index)], "it is empty"  # so of some shards cut short
        except RuntimeError as error:  # of ArrayRecord, which holds what it reads to hashes
            data, problem = b"", str(error)
        if not data:
            raise DataError(
                f"{self.folder}: clip {index} of {self.split!r} cannot be read ({problem}); "
                "prepare the set again"
            )
        example = tf_example_pb2.Example.FromString(data)
        features = example.features.feature
        values = {name: feature.bytes_list.value for name, feature in features.items()}
        record = {name: values[name][0].decode() for name in ("id", "source")}
        for name in ("captions", "languages"):
            record[name] = tuple(text.decode() for text in values[name])
        labels = values["labels"] if "labels" in values else values["label"]  # of version 1.0.0
        record["labels"] = tuple(text.decode() for text in labels if text)
        record["fold"] = features["fold"].int64_list.value[0]
        record["audio"] = values["audio"][0]
        return record

    def __getitem__(self, index: int) -> Clip:
        record = self.record(index)
        captions: dict[str, tuple[str, ...]] = {}
        for text, language in zip(record["captions"], record["languages"], strict=True):
            if language in self.languages:
                captions[language] = (*captions.get(language, ()), text)
        return Clip(record["audio"], captions, record["labels"])

    def check_trainable(self) -> None:
        """Raises DataError where a clip may have neither a wanted caption nor a label."""
        if max(self._covered) == len(self):
            return
        for index in range(len(self)):
            clip = self[index]
            if not clip.captions and not clip.labels:
                raise DataError(
                    f"{self.folder}: clip {self.record(index)['id']!r} has neither a label nor a "
                    f"caption in {', '.join(self.languages)}; add a language to data.languages"
                )

    def index(self, name: str) -> np.ndarray:
        """Memory-mapped `[clips]`: "audio" and "source" keys (uint64), or "duration" in seconds."""
        path = self.folder / "index" / f"{self.split}.{name}.npy"
        with self._damage_told(f"index/{path.name}"):
            return np.load(path, mmap_mode="r", allow_pickle=False)

    def clips(self) -> Clips:
        """All texts in memory, for evaluation.

        Raises:
          DataError: a clip has no label, and no caption in one of the languages.
        """
        lacking = next((name for name in self.languages if name not in self._captioned), None)
        if self._captioned and lacking is not None:
            raise DataError(
                f"{self.folder}: the {self.split} clips have no captions in {lacking}; they have "
                f"them in {', '.join(self._captioned)}"
            )
        captions: dict[str, list] = {language: [] for language in self.languages}
        labels, ids, folds = [], [], []
        for index in range(len(self)):
            record = self.record(index)
            texts: dict[str, list[str]] = {language: [] for language in self.languages}
            for text, language in zip(record["captions"], record["languages"], strict=True):
                if language in texts:
                    texts[language].append(text)
            for language, mine in texts.items():
                if not mine and not record["labels"]:
                    raise DataError(
                        f"{self.folder}: the {self.split} clip {record['id']!r} has no caption in "
                        f"{language}; choose other languages, or another set"
                    )
                captions[language].append(tuple(mine))
            labels.append(record["labels"])
            ids.append(record["id"])
            folds.append(record["fold"])
        return Clips(
            paths=_Audio(self),
            captions={language: tuple(texts) for language, texts in captions.items()},
            classes=self._classes,
            seconds=self.index("duration"),
            contents=[key.tobytes() for key in self.index("audio")],
            labels=tuple(labels),
            ids=tuple(ids),
            folds=tuple(folds),
            digest=self._digest,
        )

    def some_captions(self, most: int) -> list[str]:
        """Captions, or those of the labels, of at most `most` clips, evenly spaced."""
        captions = []
        for index in range(0, len(self), -(-len(self) // most)):
            captions += itertools.chain.from_iterable(self[index].texts.values())
        return captions[:: -(-len(captions) // most)]

    def fingerprint(self) -> str:
        """A digest of all clips."""
        return self._digest

    def audio_fingerprint(self) -> str:
        """A digest of all sounds, from their keys."""
        return hashlib.sha256(self.index("audio").tobytes()).hexdigest()


class _Audio(Sequence):
    """The FLAC files of a split, read when asked for."""

    def __init__(self, split: PreparedSplit):
        self._split = split

    def __len__(self) -> int:
        return len(self._split)

    def __getitem__(self, index: int) -> bytes:
        return self._split.record(index)["audio"]


class Mixture(Sequence):
    """Training splits one after another, each with its share of the stream.

    Clips are numbered through, so that no two of them share an id.
    """

    def __init__(self, splits: Sequence[PreparedSplit], weights: Sequence[float]):
        self.splits = tuple(splits)
        self._stops = list(itertools.accumulate(map(len, self.splits)))
        self._weights = tuple(weights)

    def __len__(self) -> int:
        return self._stops[-1]

    def __getitem__(self, index: int) -> Clip:
        number = bisect.bisect_right(self._stops, index)
        return self.splits[number][index - self.parts[number][0]]

    @property
    def parts(self) -> tuple[tuple[int, int, float], ...]:
        """Each set's first clip, the one after its last, and its weight."""
        starts = [0, *self._stops[:-1]]
        return tuple(zip(starts, self._stops, self._weights, strict=True))

    @property
    def sixteen_bit(self) -> bool:
        """Whether all sounds are mono at 16 kHz and 16 bit."""
        return all(split.sixteen_bit for split in self.splits)

    def durations(self) -> Iterator[np.ndarray]:
        """Seconds of the clips of each set."""
        return (split.index("duration") for split in self.splits)

    def some_captions(self, most: int) -> list[str]:
        """At most `most` captions, as many from each set."""
        share = max(1, most // len(self.splits))
        return [text for split in self.splits for text in split.some_captions(share)]

    def fingerprint(self) -> str:
        """A digest of all clips of all sets."""
        return _digest_of(split.fingerprint() for split in self.splits)

    def audio_fingerprint(self) -> str:
        """A digest of all sounds of all sets."""
        return _digest_of(split.audio_fingerprint() for split in self.splits)


def _digest_of(digests: Iterable[str]) -> str:
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def open_training(path: Path, mixture: Mapping[str, float], languages: Sequence[str]) -> Mixture:
    """The training split of the set in `path`, or of several in its sub-folders, with weights."""
    folders = {path / name: weight for name, weight in sorted(mixture.items())} or {path: 1.0}
    splits = [PreparedSplit(folder, "train", languages) for folder in folders]
    for split in splits:
        split.check_trainable()
    return Mixture(splits, list(folders.values()))


def find_leaks(
    training: Iterable[PreparedSplit], evaluation: Iterable[PreparedSplit]
) -> list[tuple[str, str]]:
    """Training clips whose recording or audio is also in an evaluation split.

    Returns:
      (the clip's id, where it is as well) for each.
    """
    leaks = []
    evaluation = list(evaluation)
    for mine in training:
        found: dict[int, str] = {}
        for other, name in itertools.product(evaluation, ("source", "audio")):
            keys = np.unique(other.index(name))
            keys = keys[keys != 0]
            all_keys = mine.index(name)
            for start in range(0, len(all_keys), CHUNK):
                for index in np.flatnonzero(np.isin(all_keys[start : start + CHUNK], keys)):
                    kind = "recording" if name == "source" else "audio"
                    found.setdefault(
                        start + int(index), f"its {kind} is in {other.folder}, {other.split}"
                    )
        leaks += [(mine.record(index)["id"], where) for index, where in sorted(found.items())]
    return leaks
