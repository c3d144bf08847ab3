"""The two towers as functions of arrays alone, to write them as programs for other runtimes."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from supclap_jax.data.audio import MIN_SAMPLES, SAMPLE_RATE
from supclap_jax.errors import ConfigError
from supclap_jax.inference.loaded_model import LoadedModel

LARGEST = 2**31 - 1  # bytes in a file of StableHLO or ONNX


class Tower(NamedTuple):
    """A tower with its weights.

    Attributes:
      name: "audio" or "text".
      encode: arrays to unit rows `[batch, dim]`.
      inputs: name -> shape and dtype of each array, but for the batch.
    """

    name: str
    encode: Callable[..., jax.Array]
    inputs: dict[str, jax.ShapeDtypeStruct]


def towers_of(model: LoadedModel, kind: str) -> tuple[Tower, Tower]:
    """Audio, from samples at 16 kHz and their number, front end included; and text, from tokens.

    Args:
      model: whose towers.
      kind: of the files that are to hold them, for people.

    Raises:
      ConfigError: the weights of one are more than such a file holds.
    """
    variables = jax.device_get(model.variables)
    for tower in ("audio", "text"):
        size = sum(
            leaf.nbytes
            for name in (tower, f"{tower}_projection")
            for leaf in jax.tree.leaves(variables["params"][name])
        )
        if size > LARGEST:
            raise ConfigError(
                f"the {tower} encoder has {size / 2**30:.1f} GiB of weights, and a file of {kind} "
                "holds less than 2; export it with --format=safetensors"
            )

    def audio(waveform: jax.Array, lengths: jax.Array) -> jax.Array:
        lengths = jnp.maximum(lengths, MIN_SAMPLES)  # as `load` fills up what is shorter
        return model.module.apply(variables, waveform, lengths, method="encode_audio")

    def text(tokens: jax.Array) -> jax.Array:
        return model.module.apply(variables, tokens, method="encode_text")

    samples, tokens = round(model.seconds * SAMPLE_RATE), model.config.text.max_tokens
    of_audio = {
        "waveform": jax.ShapeDtypeStruct((samples,), np.float32),
        "lengths": jax.ShapeDtypeStruct((), np.int32),
    }
    of_text = {"tokens": jax.ShapeDtypeStruct((tokens,), np.int32)}
    return Tower("audio", audio, of_audio), Tower("text", text, of_text)
