"""Embeds clips and captions in batches of one fixed shape."""

from collections.abc import Iterable, Iterator, Sequence

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from supclap_jax.data.batches import audio_batches, beginnings, covering
from supclap_jax.data.clips import Clips
from supclap_jax.data.text import Tokenizer


class Embedder:
    """The two towers, compiled once; parameters are passed to each call.

    Every batch is filled up to the same shape, so one compiled program serves all, and an
    embedding does not depend on what else is embedded.

    Args:
      model: the dual encoder.
      tokenizer: of the captions.
      config: of the run.
      sharding: of a batch; divides its first axis among the devices. Where they belong to several
        processes, all call this with the same clips and captions, and get all embeddings.
    """

    def __init__(
        self, model: nn.Module, tokenizer: Tokenizer, config: ConfigDict, sharding: NamedSharding
    ):
        devices = sharding.num_devices
        self.batch_size = -(-config.evaluate.batch_size // devices) * devices
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
        if len(embedded) == len(clips):
            return embedded
        total = np.zeros((len(clips), embedded.shape[1]))
        np.add.at(total, windows.clip, embedded)
        mean = (total / np.linalg.norm(total, axis=1, keepdims=True)).astype(embedded.dtype)
        is_alone = np.bincount(windows.clip) == 1
        mean[is_alone] = embedded[is_alone[windows.clip]]
        return mean

    def text(self, variables: dict, captions: Sequence[str], language: str) -> np.ndarray:
        """Unit embeddings `[captions, dim]`."""
        return self._embed(self._encode_text, variables, self._token_batches(captions, language))

    def logit_scale(self, variables: dict) -> float:
        """1 / temperature of the model's logits."""
        return float(self._model.apply(variables, method="logit_scale"))

    def _token_batches(self, captions: Sequence[str], language: str) -> Iterator[np.ndarray]:
        for start in range(0, len(captions), self.batch_size):
            batch = captions[start : start + self.batch_size]
            yield np.stack(
                [self._tokenizer.encode(text, language, self._max_tokens) for text in batch]
            )

    def _embed(self, encode, variables: dict, batches: Iterable) -> np.ndarray:
        def fill(array):
            return np.concatenate([array, np.repeat(array[-1:], self.batch_size - rows, axis=0)])

        embedded = []
        for batch in batches:
            rows = len(jax.tree.leaves(batch)[0])
            full = jax.device_put(jax.tree.map(fill, batch), self._sharding)
            embedded.append(np.asarray(encode(variables, full))[:rows])
        return np.concatenate(embedded)
