"""Captioned clips of one split, with all texts in memory."""

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from supclap_jax.data.sound_files import BadAudio, survey_all
from supclap_jax.data.text import LABEL_LANGUAGE, label_caption
from supclap_jax.errors import DataError


@dataclasses.dataclass(frozen=True)
class Clip:
    """One captioned audio file.

    Attributes:
      audio: the file, or the bytes of a FLAC file.
      captions: language -> captions.
      labels: names of its classes, or of its only sound event.
    """

    audio: Path | bytes
    captions: dict[str, tuple[str, ...]]
    labels: tuple[str, ...]

    @property
    def texts(self) -> dict[str, tuple[str, ...]]:
        """Language -> captions, where there are some; without any, that of its labels."""
        captions = {language: texts for language, texts in self.captions.items() if texts}
        return captions or {LABEL_LANGUAGE: (label_caption(self.labels),)}


@dataclasses.dataclass(frozen=True)
class Clips:
    """Captioned audio files of one split, all texts in memory.

    Attributes:
      paths: one audio file for each clip, or the bytes of a FLAC file.
      captions: language -> for each clip, its captions.
      labels: for each clip, as of `Clip`.
      ids: names of the clips; of a prepared set.
      folds: of cross-validation, from 1, else 0; of a prepared set.
      digest: of a prepared set's content.
      seconds: the length of each clip; () where it is not known.
      events: how many sound events each clip has; () where it is not known.
      contents: a digest of each clip's file, or of its samples; () where it is not known.
      classes: all that the set's list names, also those of no clip; of a prepared set.
    """

    paths: Sequence[Path | bytes]
    captions: dict[str, tuple[tuple[str, ...], ...]]
    labels: tuple[tuple[str, ...], ...]
    ids: tuple[str, ...] = ()
    folds: tuple[int, ...] = ()
    digest: str = ""
    seconds: Sequence[float] = ()
    events: tuple[int, ...] = ()
    contents: Sequence[bytes] = ()
    classes: tuple[str, ...] = ()
    sixteen_bit: ClassVar[bool] = False  # files may hold anything

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Clip:
        captions = {language: texts[index] for language, texts in self.captions.items()}
        return Clip(self.paths[index], captions, self.labels[index])

    @property
    def names(self) -> tuple[str, ...]:
        """One for each clip, all different: its id, or the name of its file."""
        return self.ids or tuple(path.name for path in self.paths)

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
            seconds=pick(self.seconds),
            events=pick(self.events),
            contents=pick(self.contents),
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

    def audio_fingerprint(self) -> str:
        """A digest of all sounds; "" where their contents are not known."""
        if len(self.contents) != len(self):
            return ""
        return hashlib.sha256(b"".join(self.contents)).hexdigest()


@dataclasses.dataclass(frozen=True)
class Selection(Sequence):
    """The elements of `whole` at `indices`, looked up when asked for."""

    whole: Sequence
    indices: Sequence[int]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int):
        return self.whole[self.indices[index]]


def without_bad_clips(clips: Clips, on_bad_clip: str, progress) -> tuple[Clips, dict[Path, str]]:
    """Decodes every file once; the clips that can be used, with lengths, and the others' problems.

    Args:
      clips: what to look at.
      on_bad_clip: "error" to refuse any bad file, "skip" to leave bad files out.
      progress: called with the number of files looked at so far.

    Raises:
      DataError: there are bad files and they are not to be skipped, or no good ones.
    """
    found = survey_all(clips.paths, progress)
    bad = {
        path: str(fault)
        for path, fault in zip(clips.paths, found, strict=True)
        if isinstance(fault, BadAudio)
    }
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
    told = {
        "seconds": tuple(found[index].seconds for index in good),
        "contents": tuple(found[index].digest for index in good),
    }
    return dataclasses.replace(clips.select(good) if bad else clips, **told), bad
