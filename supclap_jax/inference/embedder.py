"""Embeds clips, windows of sounds, and captions, in batches of few shapes."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import NamedTuple

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from supclap_jax.data.audio import MIN_SAMPLES, SAMPLE_RATE
from supclap_jax.data.batches import audio_batches, beginnings, covering
from supclap_jax.data.clips import Clips
from supclap_jax.data.text import Tokenizer
from supclap_jax.models.tokens import PAD_ID


class Shapes(NamedTuple):
    """What programs are compiled for: a batch is filled up to the smallest sizes that hold it.

    Attributes:
      rows: clips or captions in a batch, times the number of devices.
      samples: of a window of sound.
      tokens: of a caption.
    """

    rows: tuple[int, ...]
    samples: tuple[int, ...]
    tokens: tuple[int, ...]


def one_shape(config: ConfigDict, devices: int) -> Shapes:
    """The same for every batch, so that a clip has the same bits in any company."""
    return Shapes(
        (-(-config.evaluate.batch_size // devices),),
        (round(config.audio.seconds * SAMPLE_RATE),),
        (config.text.max_tokens,),
    )


def few_shapes(config: ConfigDict, devices: int) -> Shapes:
    """The largest sizes and their halves: a lone short caption does not take a whole batch's time.

    What is filled up is masked, so that embeddings differ by rounding alone.
    """
    largest = one_shape(config, devices)
    return Shapes(
        _halves(largest.rows[0], 1),
        _halves(largest.samples[0], 8_000),
        _halves(largest.tokens[0], 8),
    )


def _halves(largest: int, least: int) -> tuple[int, ...]:
    sizes = [largest]
    while sizes[0] // 2 >= least:
        sizes.insert(0, -(-sizes[0] // 2))
    return tuple(sizes)


class Embedder:
    """The two towers, compiled once for each shape; parameters are passed to each call.

    Args:
      model: the dual encoder.
      tokenizer: of the captions.
      config: of the run.
      sharding: of a batch; divides its first axis among the devices. Where they belong to several
        processes, all call this with the same clips and captions, and get all embeddings.
      shapes_of: what batches are filled up to, given the config and the number of devices.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Tokenizer,
        config: ConfigDict,
        sharding: NamedSharding,
        shapes_of: Callable[[ConfigDict, int], Shapes] = one_shape,
    ):
        devices = sharding.num_devices
        shapes = shapes_of(config, devices)
        self._shapes = shapes._replace(rows=tuple(devices * rows for rows in shapes.rows))
        self.batch_size = self._shapes.rows[-1]
        self._model, self._tokenizer = model, tokenizer
        self._seconds = config.audio.seconds
        self._long_audio = config.evaluate.long_audio
        self._max_tokens = config.text.max_tokens
        self._sharding = sharding
        everywhere = NamedSharding(sharding.mesh, PartitionSpec())
        self._encode_audio = jax.jit(
            lambda variables, batch: model.apply(
                variables, batch["audio"], batch["audio_lengths"], method="encode_audio"
            ),
            out_shardings=everywhere,
        )
        self._encode_text = jax.jit(
            lambda variables, tokens: model.apply(variables, tokens, method="encode_text"),
            out_shardings=everywhere,
        )

    def audio(self, variables: dict, clips: Clips) -> np.ndarray:
        """Unit embeddings `[clips, dim]`: of each clip's beginning, or the mean of its windows.

        As `config.evaluate.long_audio` says; the mean of unit embeddings is normalised again.
        """
        is_whole = self._long_audio == "windows"
        windows = covering(clips, self._seconds) if is_whole else beginnings(clips)
        batches = audio_batches(clips, self._seconds, self.batch_size, windows)
        embedded = self._embed(self._encode_audio, variables, batches)
        return mean_of_windows(embedded, windows.clip)

    def windows(self, variables: dict, windows: Iterable[np.ndarray]) -> np.ndarray:
        """Unit embeddings `[windows, dim]` of sounds at 16 kHz, at most `audio.seconds` long."""
        return self._embed(self._encode_audio, variables, self._window_batches(iter(windows)))

    def text(self, variables: dict, captions: Sequence[str], language: str) -> np.ndarray:
        """Unit embeddings `[captions, dim]`."""
        return self._embed(self._encode_text, variables, self._token_batches(captions, language))

    def logit_scale(self, variables: dict) -> float:
        """1 / temperature of the model's logits."""
        return float(self._model.apply(variables, method="logit_scale"))

    def _token_batches(self, captions: Sequence[str], language: str) -> Iterator[np.ndarray]:
        for start in range(0, len(captions), self.batch_size):
            batch = captions[start : start + self.batch_size]
            tokens = np.stack(
                [self._tokenizer.encode(text, language, self._max_tokens) for text in batch]
            )
            longest = int((tokens != PAD_ID).sum(axis=1).max())
            yield tokens[:, : _least(self._shapes.tokens, longest)]

    def _window_batches(self, windows: Iterator[np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
        while batch := list(islice(windows, self.batch_size)):
            lengths = [len(window) for window in batch]
            size = _least(self._shapes.samples, max(lengths))
            audio = np.stack([np.pad(window, (0, size - len(window))) for window in batch])
            yield {
                "audio": audio,
                "audio_lengths": np.maximum(lengths, MIN_SAMPLES).astype(np.int32),
            }

    def _embed(self, encode, variables: dict, batches: Iterable) -> np.ndarray:
        embedded = []
        for batch in batches:
            rows = len(jax.tree.leaves(batch)[0])
            missing = _least(self._shapes.rows, rows) - rows
            fill = partial(_repeat_last, times=missing)
            full = jax.device_put(jax.tree.map(fill, batch), self._sharding)
            embedded.append(np.asarray(encode(variables, full))[:rows])
        return np.concatenate(embedded)


def mean_of_windows(embedded: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """The normalised mean of each sound's windows.

    Args:
      embedded: unit rows `[windows, dim]`.
      owner: int `[windows]`, the sound of each; every sound has some.

    Returns:
      `[sounds, dim]`, unit rows; a lone window's is its own, bit for bit.
    """
    count = np.bincount(owner)
    total = np.zeros((len(count), embedded.shape[1]))
    np.add.at(total, owner, embedded)
    mean = (total / np.linalg.norm(total, axis=1, keepdims=True)).astype(embedded.dtype)
    is_alone = count == 1
    mean[is_alone] = embedded[is_alone[owner]]
    return mean


def _least(sizes: tuple[int, ...], needed: int) -> int:
    return next(size for size in sizes if size >= needed)


def _repeat_last(array: np.ndarray, times: int) -> np.ndarray:
    return np.concatenate([array, np.repeat(array[-1:], times, axis=0)])
