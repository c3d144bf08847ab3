"""What the rest of the program asks of an encoder, and so what one of your own is made of.

`audio.encoder` and `text.encoder` name a subclass of `AudioEncoder` or `TextEncoder`: one that
`registry` knows, or `my_encoders:Conv`, from a module on the path or beside the recipe. Only
`module` has to be written; everything else has a default that works.

Stacked layers, such as those of `flax.linen.scan`, belong under the name "blocks" in the tree of
parameters, each leaf [depth, ...]: a mesh then divides the axes of one layer and not the layers.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from supclap_jax.models.key_maps import Layout

SAMPLE_RATE = 16_000  # of all waveforms


def as_float(waveform: jax.Array) -> jax.Array:
    """Samples as float32; int16 ones are in units of 2^-15."""
    if waveform.dtype == jnp.int16:
        return waveform.astype(jnp.float32) * 2**-15
    return waveform


@dataclass(frozen=True)
class Work:
    """Floating-point operations of a part of an encoder, on the whole batch of one step.

    Attributes:
      forward: of one forward pass; a multiplication with an addition counts as two.
      again: of what the backward pass computes again.
      learns: whether a gradient goes through it, as through no front end.
      held: bytes that it leaves on the devices for the backward pass.
    """

    forward: int
    again: int = 0
    learns: bool = True
    held: int = 0


class Encoder:
    """What audio and text encoders have in common.

    An object without state: all that is learned lies in the variables of its module, all that can
    be chosen in the config.

    Attributes:
      tower: "audio" or "text": its section of the config, and its name among the parameters.
      common: keys of that section that every such encoder has.
      fields: further ones that this encoder reads. Others are refused where they are set.
      layouts: where published weights lie in their files, by the names of `export-weights --names`.
        Without any, files have the names of the module's own parameters.
      layers_above: how many layers lie between a parameter and the output, for
        `optimizer.layer_decay`: a function of its path (names below the tower), itself and the
        config, to an int, or to an array that broadcasts against stacked layers. None if that is
        not known: then a `layer_decay` other than 1 is refused.
      momentum: share of the old in the running statistics of the module's batch norm, if
        `moments` and `pooled` find those of a batch in microbatches. None without batch norm;
        with one, `microbatch_size` is refused then.
    """

    tower: str
    common: tuple[str, ...] = ("encoder", "frozen", "pretrained")
    fields: tuple[str, ...] = ()
    layouts: Mapping[str, Layout] = MappingProxyType({})
    layers_above: Callable[[tuple[str, ...], jax.Array, ConfigDict], int | jax.Array] | None = None
    momentum: float | None = None

    def check(self, config: ConfigDict) -> None:
        """Raises ConfigError for values that this encoder cannot have."""

    def module(self, config: ConfigDict, **options) -> nn.Module:
        """The network, whose variables are "params" and, with a batch norm, "batch_stats".

        Args:
          config: of the run.
          **options: what an encoder may heed: `attention`, `scan_layers` and `remat` of the config,
            `dtype`, of the computation, and `sharding`, of the rows of a batch or None.
        """
        raise NotImplementedError

    def flops(self, config: ConfigDict) -> dict[str, Work]:
        """Operations on the batch of a step, by part; of audio and text encoders what XLA counts.

        XLA counts the body of a loop once, however often it runs, so an encoder that scans over
        its layers has to count for itself. What `remat` repeats is not counted, either.
        """
        raise NotImplementedError


class AudioEncoder(Encoder):
    """From waveforms at 16 kHz to embeddings."""

    tower = "audio"
    common = (*Encoder.common, "seconds")

    def module(self, config: ConfigDict, **options) -> nn.Module:
        """As `Encoder.module`, called as `module(features, lengths, train=False)`.

        `features` and `lengths` are those of `frontend`. With `train` it drops out (rng "dropout")
        and a batch norm normalises by the statistics of the batch and moves the running ones;
        where "batch_stats" is not mutable it takes those as they are, also with `train`. Returns
        embeddings, float32, [batch, dim]; padding changes none of them.
        """
        raise NotImplementedError

    def frontend(
        self, waveform: jax.Array, lengths: jax.Array | None
    ) -> tuple[jax.Array, jax.Array | None]:
        """What of the encoder has no parameters; no gradient goes through it.

        Args:
          waveform: float32, [batch, samples].
          lengths: of the clips in samples, int, [batch]; what follows is padding. None if there is
            none.

        Returns:
          Features, [batch, ...], and their lengths, [batch] or None. By default what was given.
        """
        return waveform, lengths

    def moments(self, features: jax.Array, lengths: jax.Array | None):
        """Statistics of a microbatch for the batch norm of the module: arrays of any shape.

        They may depend on no parameter, so the batch norm has to act on the features.
        """
        raise NotImplementedError

    def pooled(self, moments) -> dict:
        """ "batch_stats" of the module for a batch, from `moments` [microbatches, ...]."""
        raise NotImplementedError

    def flops(self, config: ConfigDict) -> dict[str, Work]:
        rows, samples = config.batch_size, round(config.audio.seconds * SAMPLE_RATE)
        waveform = jax.ShapeDtypeStruct((rows, samples), jnp.float32)
        lengths = jax.ShapeDtypeStruct((rows,), jnp.int32)
        features = jax.eval_shape(self.frontend, waveform, lengths)
        return {
            "front end": Work(_counted(self.frontend, waveform, lengths), learns=False),
            "audio encoder": Work(_counted_module(self.module(config), *features)),
        }


class TextEncoder(Encoder):
    """From token ids, as `tokens` numbers them, to embeddings."""

    tower = "text"
    common = (*Encoder.common, "tokenizer", "vocab_size", "max_tokens")

    def module(self, config: ConfigDict, **options) -> nn.Module:
        """As `Encoder.module`, called as `module(tokens, train=False)`.

        `tokens` are int32, [batch, length], from 0 to `tokens.table_rows(config.text.vocab_size)`
        exclusive, padded with `tokens.PAD_ID`. With `train` it drops out (rng "dropout"). Returns
        embeddings, float32, [batch, dim]; padding changes none of them.
        """
        raise NotImplementedError

    def flops(self, config: ConfigDict) -> dict[str, Work]:
        tokens = jax.ShapeDtypeStruct((config.batch_size, config.text.max_tokens), jnp.int32)
        return {"text encoder": Work(_counted_module(self.module(config), tokens))}


def _counted(function: Callable, *arguments) -> int:
    """XLA's own count, of the program for accelerators before it is simplified."""
    traced = jax.jit(function).trace(*arguments)
    return int(traced.lower(lowering_platforms=("tpu",)).cost_analysis().get("flops", 0))


def _counted_module(module: nn.Module, *inputs) -> int:
    variables = jax.eval_shape(module.init, jax.random.key(0), *inputs)
    return _counted(module.apply, variables, *inputs)
