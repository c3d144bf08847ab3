"""Batches as a pure function of (seed, step): a random-access map, sliced at step and host."""

import dataclasses
from collections.abc import Iterator

import grain
import numpy as np
from ml_collections import ConfigDict

from supclap_jax.data import augment
from supclap_jax.data.audio import read_clip
from supclap_jax.data.datasets import Clips
from supclap_jax.data.processes import live_with_parent
from supclap_jax.data.text import Tokenizer

Batch = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class LoadPair(grain.transforms.RandomMap):
    """Clip index -> audio at a random position with a random caption in a random language.

    With the augmentations of `config.data`. A mixed pair has the audio of two clips and the
    captions of both, one after the other, but the id of the first alone.
    """

    clips: Clips
    tokenizer: Tokenizer
    config: ConfigDict

    def random_map(self, index: int, rng: np.random.Generator) -> Batch:
        data = self.config.data
        languages = list(self.clips.captions)
        language = languages[rng.integers(len(languages))]
        audio, samples, caption = self._draw(index, language, rng)
        if data.mixup and rng.random() < data.mixup:
            other = self._draw(rng.integers(len(self.clips)), language, rng)
            audio = augment.mix(audio, other[0], rng)
            samples = max(samples, other[1])
            caption = f"{caption} {other[2]}"
        if data.time_shift:
            audio = augment.time_shift(audio, samples, rng)
        if data.gain_db:
            audio = augment.gain(audio, data.gain_db, rng)
        return {
            "audio": audio,
            "samples": np.int32(samples),
            "tokens": self.tokenizer.encode(caption, language, self.config.text.max_tokens),
            "ids": np.int32(index),
        }

    def _draw(self, index: int, language: str, rng: np.random.Generator):
        """A crop of a clip, its number of samples, and one of its captions."""
        captions = self.clips.captions[language][index]
        caption = captions[rng.integers(len(captions))]
        position = rng.random()
        return *read_clip(self.clips.paths[index], self.config.audio.seconds, position), caption


def training_batches(
    clips: Clips,
    tokenizer: Tokenizer,
    config: ConfigDict,
    start_step: int = 0,
    host: int = 0,
    hosts: int = 1,
) -> Iterator[Batch]:
    """Endless training batches from `start_step` on, this host's share of each.

    Global batch k is the same set of examples, crops and captions for any number of hosts and
    workers and wherever the stream starts: randomness is drawn by position before the slicing.

    Yields:
      "audio" float32 `[batch, samples]`, "samples" int32 `[batch]`, how many of them are the
      clip's own, "tokens" int32 `[batch, max_tokens]` and "ids" int32 `[batch]`, the clip's number;
      batch is `config.batch_size / hosts`.
    """
    per_host = config.batch_size // hosts
    load = LoadPair(clips, tokenizer, config)
    stream = grain.MapDataset.range(len(clips)).seed(config.seed).shuffle().repeat()
    stream = stream.random_map(load)[host::hosts][start_step * per_host :].batch(per_host)
    if config.data.workers == 0:
        options = grain.ReadOptions(num_threads=2, prefetch_buffer_size=config.data.prefetch)
        return iter(stream.to_iter_dataset(options))
    batches = stream.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=2))
    workers = grain.MultiprocessingOptions(
        num_workers=config.data.workers, per_worker_buffer_size=config.data.prefetch
    )
    return iter(batches.mp_prefetch(workers, worker_init_fn=live_with_parent))


def audio_batches(clips: Clips, seconds: float, batch_size: int) -> Iterator[Batch]:
    """The beginning of each clip in order: "audio" and "samples" as for training, <= batch_size."""

    def load(path):
        audio, samples = read_clip(path, seconds)
        return {"audio": audio, "samples": np.int32(samples)}

    stream = grain.MapDataset.source(clips.paths).map(load)
    options = grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)
    yield from stream.batch(batch_size, drop_remainder=False).to_iter_dataset(options)
