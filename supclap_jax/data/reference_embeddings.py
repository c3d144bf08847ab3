"""Embeddings of training clips and captions by a frozen reference model, in a folder of arrays.

`audio.npy` float16 `[clips, dim]` and `text.npy` float16 `[captions, dim]`, unit rows; `first.npy`
int64 `[clips, languages]`, the row of each clip's first caption in each language, -1 without any;
`reference.json`, the languages, digests of the clips and of the arrays, and what made it.
"""

import functools
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from supclap_jax.data.clips import Clips
from supclap_jax.data.prepared import Mixture
from supclap_jax.errors import DataError
from supclap_jax.files import replacing, write_whole

FILE = "reference.json"


class Reference(NamedTuple):
    """An open folder, its arrays mapped to memory.

    Attributes:
      audio: float16 `[clips, dim]`.
      text: float16 `[captions, dim]`.
      first: int64 `[clips, languages]`.
      languages: of the columns of `first`.
      asked: languages of the captions that were asked for.
      clips: digest of the clips.
      digest: of the arrays.
    """

    audio: np.ndarray
    text: np.ndarray
    first: np.ndarray
    languages: tuple[str, ...]
    asked: tuple[str, ...]
    clips: str
    digest: str

    def rows(self, clip: int, language: str, caption: int) -> tuple[np.ndarray, np.ndarray]:
        """Float32 `[dim]` of a clip and of one of its captions in a language."""
        row = self.first[clip, self.languages.index(language)] + caption
        return self.audio[clip].astype(np.float32), self.text[row].astype(np.float32)


@functools.lru_cache(maxsize=1)  # once a process
def open_reference(folder: str) -> Reference:
    """Opens a folder that `write_reference` wrote.

    Raises:
      DataError: there is none, or it is damaged.
    """
    path = Path(folder)
    try:
        facts = json.loads((path / FILE).read_text())
        arrays = [
            np.load(path / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            for name in ("audio", "text", "first")
        ]
        languages, asked = (tuple(facts[name]) for name in ("languages", "asked"))
        found = Reference(*arrays, languages, asked, facts["clips"], facts["digest"])
        captions, clips = len(found.text), len(found.audio)
        is_whole = (
            found.audio.dtype == found.text.dtype == np.float16
            and found.audio.shape[1:] == found.text.shape[1:]
            and found.first.shape == (clips, len(found.languages))
            and found.first.max(initial=-1) < captions
            and (found.first.max(axis=1, initial=-1) >= 0).all()  # no clip without a caption
        )
        if not is_whole:
            raise ValueError("its arrays do not fit together")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{folder!r} holds no reference embeddings ({error}); write them with "
            "'supclap embed-reference', and set loss.svr.reference"
        ) from error
    return found


def check_reference(folder: str, clips: Clips | Mixture, languages: Sequence[str]) -> None:
    """Raises DataError where the embeddings are damaged, or not of these clips and captions."""
    found = open_reference(folder)
    if _digest(found.audio, found.text, found.first) != found.digest:
        raise DataError(
            f"the reference embeddings in {folder!r} are not as they were written; write them again"
        )
    if found.clips != clips.fingerprint() or set(found.asked) != set(languages):
        raise DataError(
            f"the reference embeddings in {folder!r} are of other clips or captions than are "
            "trained on; write them for this data with 'supclap embed-reference'"
        )


def write_reference(
    folder: Path, audio: np.ndarray, text: np.ndarray, first: np.ndarray, facts: dict
) -> None:
    """Writes the arrays, and last `reference.json` with `facts` and their digest.

    Args:
      folder: made if need be.
      audio: `[clips, dim]`.
      text: `[captions, dim]`.
      first: int64 `[clips, languages]`.
      facts: "languages", "asked" and "clips", as of `Reference`, and others.

    Raises:
      OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {"audio": audio.astype(np.float16), "text": text.astype(np.float16), "first": first}
    for name, array in arrays.items():
        with replacing(folder / f"{name}.npy") as unfinished, open(unfinished, "wb") as file:
            np.save(file, array, allow_pickle=False)
    facts = facts | {"digest": _digest(*arrays.values())}
    write_whole(folder / FILE, json.dumps(facts, indent=2) + "\n")


def _digest(*arrays: np.ndarray) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()
