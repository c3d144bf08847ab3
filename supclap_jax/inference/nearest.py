"""Exact search: the rows of an index that are nearest to a query."""

from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from supclap_jax.errors import ConfigError, RunError, UserError
from supclap_jax.inference import load
from supclap_jax.inference.loaded_model import LoadedModel, Sound
from supclap_jax.inference.sound_index import SoundIndex

BLOCK = 8_192  # rows that are made float32 at a time, few enough for a cache
FEW = 32  # for so many it is quicker to count than to sort


class Hit(NamedTuple):
    """A sound that was found, or a window of one.

    Attributes:
      path: in the index's source.
      start, end: in the sound, in seconds.
      cosine: to the query.
      percentile: share of the index that is less similar to the query, in percent.
    """

    path: str
    start: float
    end: float
    cosine: float
    percentile: float


def model_of(index: SoundIndex, path: Path | None = None) -> LoadedModel:
    """The model that an index was made with; or another of its space, such as an export.

    Raises:
      ConfigError: the model is of another space.
      RunError: it cannot be read.
    """
    made_with = index.description
    try:
        model = load(path or made_with["model"], made_with["step"])
    except UserError as error:
        if path is None:
            raise RunError(
                f"the model of {index.folder} cannot be read: {error}. Give where it is as --model"
            ) from error
        model = load(path)  # of another step, it seems
    if model.space != made_with["space"]:
        raise ConfigError(
            f"{index.folder} holds vectors of space {made_with['space']} ({made_with['model']}), "
            f"and {model.name} is of space {model.space}: they cannot be compared"
        )
    return model


def query_vector(
    model: LoadedModel,
    text: str | None = None,
    audio: Sound | None = None,
    language: str | None = None,
    text_weight: float = 0.5,
) -> np.ndarray:
    """Unit vector `[dim]` of words, of a sound, or of both.

    Args:
      model: whose space it is.
      text, audio: at least one of them.
      language: of the text.
      text_weight: of the text beside the sound, 0 to 1.

    Raises:
      ConfigError: there is neither, or no such weight; or as `encode_text`.
      DataError: as `encode_text` and `encode_audio`.
    """
    if text is None and audio is None:
        raise ConfigError("a search needs words or a sound; give a query, or --audio=FILE")
    if not 0 <= text_weight <= 1:
        raise ConfigError(f"the weight of the text is {text_weight}; expected 0 to 1")
    vector = np.zeros(model.dim)
    if text is not None:
        vector += (1 if audio is None else text_weight) * model.encode_text([text], language)[0]
    if audio is not None:
        vector += (1 if text is None else 1 - text_weight) * model.encode_audio([audio])[0]
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def search(index: SoundIndex, query: np.ndarray, count: int) -> list[Hit]:
    """The `count` nearest rows, the nearest first; of equal ones the first in the index.

    Args:
      index: of the model that made the query.
      query: unit vector `[dim]`.
      count: at least 1.

    Raises:
      DataError: as `SoundIndex.vectors`.
    """
    cosines = similarities(index.vectors(), query)
    count = min(count, len(cosines))
    least = np.partition(cosines, -count)[-count]
    numbers = np.flatnonzero(cosines >= least)
    numbers = numbers[np.argsort(-cosines[numbers], kind="stable")][:count]
    return hits(index, numbers, cosines[numbers], cosines)


def hits(
    index: SoundIndex, numbers: np.ndarray, cosines: np.ndarray, others: np.ndarray
) -> list[Hit]:
    """Rows of the index by number, with their cosines; `others` are those of all, or a sample."""
    return [
        Hit(row["path"], row["start"], row["end"], float(cosine), 100 * float(share))
        for row, cosine, share in zip(
            index.rows(numbers), cosines, shares_below(cosines, others), strict=True
        )
    ]


def shares_below(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Share of `others` `[rows]` that is less than each of a few, or many, `values` `[count]`."""
    if len(values) <= FEW:
        return np.array([np.count_nonzero(others < value) for value in values]) / len(others)
    return np.searchsorted(np.sort(others), values, side="left") / len(others)


def similarities(vectors: np.ndarray, query: np.ndarray) -> np.ndarray:
    """float32 `[rows]`, of mapped vectors `[rows, dim]`, by blocks, on the CPU where it can be."""
    cosines = np.empty(len(vectors), np.float32)
    with jax.default_device(_cpu()):
        for begin in range(0, len(vectors), BLOCK):
            block = vectors[begin : begin + BLOCK]
            cosines[begin : begin + len(block)] = _products(block, query)
    return cosines


def _cpu() -> jax.Device | None:
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:  # where JAX_PLATFORMS names others alone
        return None


@jax.jit
def _products(block: jax.Array, query: jax.Array) -> jax.Array:
    """XLA makes float16 wide several times as fast as NumPy."""
    return block.astype(jnp.float32) @ query
