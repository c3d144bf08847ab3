"""Batches as a pure function of (seed, step): a random-access map, sliced at step and host."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import NamedTuple

import grain
import numpy as np
from ml_collections import ConfigDict

from supclap_jax.config.conditions import OFFLINE
from supclap_jax.data import augment
from supclap_jax.data.audio import LENGTH_TOLERANCE, read_clip
from supclap_jax.data.clips import Clip, Clips
from supclap_jax.data.prepared import Mixture
from supclap_jax.data.reference_embeddings import open_reference
from supclap_jax.data.text import LABEL_LANGUAGE, Tokenizer, label_caption
from supclap_jax.data.workers import born_deaf, live_with_parent

Batch = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class LoadPair(grain.transforms.RandomMap):
    """Clip index -> audio at a random position with a random caption in a random language.

    With the augmentations of `config.data`. A mixed pair has the audio of two clips of one data set
    and the captions of both, one after the other, but the id of the first alone.

    Attributes:
      seconds: length of the audio.
      sixteen_bit: whether the audio is to be int16, which loses nothing of sounds of 16 bit.
    """

    clips: Clips | Mixture
    tokenizer: Tokenizer
    config: ConfigDict
    seconds: float
    sixteen_bit: bool

    def random_map(self, index: int, rng: np.random.Generator) -> Batch:
        data = self.config.data
        clip = self.clips[index]
        spoken = [language for language in data.languages if clip.captions.get(language)]
        language = spoken[rng.integers(len(spoken))] if spoken else LABEL_LANGUAGE
        audio, samples, caption, number = self._draw(clip, language, rng)
        if data.mixup and rng.random() < data.mixup:
            start, stop = next(part[:2] for part in self.clips.parts if index < part[1])
            other = self._draw(self.clips[rng.integers(start, stop)], language, rng)
            audio = augment.mix(audio, other[0], rng)
            samples = max(samples, other[1])
            caption = f"{caption} {other[2]}"
        if data.time_shift:
            audio = augment.time_shift(audio, samples, rng)
        if data.gain_db:
            audio = augment.gain(audio, data.gain_db, rng)
        pair = {
            "audio": (audio * 2**15).astype(np.int16) if self.sixteen_bit else audio,
            "audio_lengths": np.int32(samples),
            "tokens": self.tokenizer.encode(caption, language, self.config.text.max_tokens),
            "group_ids": np.int32(index),
        }
        if OFFLINE.holds(self.config):
            reference = open_reference(self.config.loss.svr.reference)
            rows = reference.rows(index, language, number)
            pair["reference_audio"], pair["reference_text"] = rows
        return pair

    def _draw(self, clip: Clip, language: str, rng: np.random.Generator):
        """A crop of a clip, its number of samples, a caption of it or its labels, and which."""
        captions = clip.captions.get(language) or (label_caption(clip.labels),)
        number = rng.integers(len(captions))
        position = rng.random()
        return *read_clip(clip.audio, self.seconds, position), captions[number], number


def training_batches(
    clips: Clips | Mixture,
    tokenizer: Tokenizer,
    config: ConfigDict,
    start_step: int = 0,
    host: int = 0,
    hosts: int = 1,
) -> Iterator[Batch]:
    """Endless training batches from `start_step` on, this host's share of each.

    Global batch k is the same examples, crops and captions for any number of hosts and workers and
    wherever the stream starts, and in the same order when the hosts' shares are joined: randomness
    is drawn by position before the slicing.
    Sets of a mixture take turns in proportion to their weights, each passing through all of its
    clips before it repeats one. With `data.buckets`, a batch holds clips of one bucket.

    Yields:
      "audio" `[batch, samples]`, float32, or of prepared sets of 16 bit, unless `gain_db` or
      `mixup` change their values, int16 in units of 2^-15; "audio_lengths" int32 `[batch]`, how
      many of them are the clip's own, "tokens" int32 `[batch, max_tokens]` and "group_ids" int32
      `[batch]`, the clip's number; batch is `config.batch_size / hosts`. With offline similarities
      "reference_audio" and "reference_text" float32 `[batch, dim]`, the pair's embeddings by the
      reference model.
    """
    per_host = config.batch_size // hosts
    sixteen_bit = clips.sixteen_bit and not augment.changes_values(config)
    streams, weights = [], []
    for bucket, (seconds, pools) in enumerate(_buckets(clips, config)):
        orders = [
            grain.MapDataset.source(indices).seed(_seed(config, bucket, pool)).shuffle().repeat()
            for pool, (indices, _) in enumerate(pools)
        ]
        shares = [share for _, share in pools]
        order = orders[0] if len(orders) == 1 else grain.MapDataset.mix(orders, weights=shares)
        pairs = order.seed(_seed(config, bucket, 0)).random_map(
            LoadPair(clips, tokenizer, config, seconds, sixteen_bit)
        )
        streams.append(pairs.batch(per_host)[host::hosts])
        weights.append(sum(shares))
    stream = streams[0] if len(streams) == 1 else grain.MapDataset.mix(streams, weights=weights)
    stream = stream[start_step:]
    if config.data.workers == 0:
        options = grain.ReadOptions(num_threads=2, prefetch_buffer_size=config.data.prefetch)
        return iter(stream.to_iter_dataset(options))
    batches = stream.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=2))
    workers = grain.MultiprocessingOptions(
        num_workers=config.data.workers, per_worker_buffer_size=config.data.prefetch
    )
    return _begun_deaf(iter(batches.mp_prefetch(workers, worker_init_fn=live_with_parent)))


def _begun_deaf(stream: Iterator[Batch]) -> Iterator[Batch]:
    """The first batch is asked for, and with it workers are started, where no signal is heard."""
    thread = ThreadPoolExecutor(1)
    with born_deaf():
        first = thread.submit(next, stream)
    thread.shutdown(wait=False)
    with closing(stream):
        batches = [first.result()]
        del first  # which would keep the batch, and its shared memory
        yield batches.pop()
        yield from stream


def _buckets(
    clips: Clips | Mixture, config: ConfigDict
) -> list[tuple[float, list[tuple[Sequence[int], float]]]]:
    """Each bucket's length in seconds, and its clips of each set with their share of the stream."""
    if not config.data.buckets:
        pools = [(range(start, stop), weight) for start, stop, weight in clips.parts]
        return [(config.audio.seconds, pools)]
    lengths = (*config.data.buckets, config.audio.seconds)
    pools_of: list[list] = [[] for _ in lengths]
    for (start, stop, weight), durations in zip(clips.parts, clips.durations(), strict=True):
        bucket_of = np.searchsorted(lengths[:-1], durations)
        for bucket, pools in enumerate(pools_of):
            indices = np.flatnonzero(bucket_of == bucket).astype(np.int32)
            if len(indices):
                pools.append((start + indices, weight * len(indices) / (stop - start)))
    return [(length, pools) for length, pools in zip(lengths, pools_of, strict=True) if pools]


def _seed(config: ConfigDict, bucket: int, pool: int) -> int:
    """One for each pool of clips; that of the first is `config.seed`."""
    if bucket == pool == 0:
        return config.seed
    return int(np.random.SeedSequence((config.seed, bucket, pool)).generate_state(1)[0])


class Windows(NamedTuple):
    """Crops of clips.

    Attributes:
      clip: int `[windows]`, which clip each is of.
      position: float64 `[windows]` in [0, 1), where it begins, as of `read_clip`.
    """

    clip: np.ndarray
    position: np.ndarray


def beginnings(clips: Clips) -> Windows:
    """One crop a clip, its beginning."""
    return Windows(np.arange(len(clips)), np.zeros(len(clips)))


def covering(clips: Clips, seconds: float) -> Windows:
    """As few crops as cover each clip, evenly spaced, the last up to its end.

    Raises:
      ValueError: the clips' lengths are not known.
    """
    if len(clips.seconds) != len(clips):
        raise ValueError("windows need the lengths of all clips, and these have none.")
    ratio = np.asarray(clips.seconds, np.float64) / seconds
    count = np.maximum(np.ceil(ratio * (1 - LENGTH_TOLERANCE)), 1).astype(int)
    clip = np.repeat(np.arange(len(clips)), count)
    place = np.arange(len(clip)) - np.repeat(np.cumsum(count) - count, count)
    position = place / np.maximum(count[clip] - 1, 1)
    return Windows(clip, np.minimum(position, np.nextafter(1.0, 0.0)))


def count_longer(clips: Clips, seconds: float) -> int:
    """The clips, of known lengths, that do not fit into one crop."""
    ratio = np.asarray(clips.seconds, np.float64) / seconds
    return int((ratio > 1 + LENGTH_TOLERANCE).sum())


def audio_batches(
    clips: Clips, seconds: float, batch_size: int, windows: Windows | None = None
) -> Iterator[Batch]:
    """Crops of clips in order, by default their beginnings: "audio" and "audio_lengths"."""
    windows = windows or beginnings(clips)
    audio_of = functools.lru_cache(maxsize=4)(lambda clip: clips.paths[clip])

    def load(index):
        clip, position = int(windows.clip[index]), windows.position[index]
        audio, samples = read_clip(audio_of(clip), seconds, position)
        return {"audio": audio, "audio_lengths": np.int32(samples)}

    stream = grain.MapDataset.source(range(len(windows.clip))).map(load)
    options = grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)
    yield from stream.batch(batch_size, drop_remainder=False).to_iter_dataset(options)
