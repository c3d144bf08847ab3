"""The dual encoder: one for audio, one for text, a projection each, and the temperature."""

import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import Sharding
from ml_collections import ConfigDict

from supclap_jax.config.base_loss import takes_bias
from supclap_jax.errors import ConfigError
from supclap_jax.models.encoder import as_float
from supclap_jax.models.registry import audio_encoder, text_encoder
from supclap_jax.models.transformer import place

TOWERS = ("audio", "text")
FROZEN = "frozen"  # the name of frozen encoders' embeddings in policies of `jax.checkpoint`


class Projection(nn.Module):
    """`Linear -> ReLU -> Linear`, then L2 normalisation; `[batch, any] -> [batch, dim]` float32."""

    dim: int
    dtype: jnp.dtype
    sharding: Sharding | None

    @nn.compact
    def __call__(self, embedding: jax.Array) -> jax.Array:
        hidden = place(nn.Dense(self.dim, dtype=self.dtype)(embedding), self.sharding)
        projected = nn.Dense(self.dim, dtype=self.dtype)(nn.relu(hidden)).astype(jnp.float32)
        projected = place(projected, self.sharding)
        return projected * jax.lax.rsqrt(jnp.sum(projected**2, axis=-1, keepdims=True) + 1e-12)


class DualEncoder(nn.Module):
    """Audio and text in one space.

    Attributes:
      audio: module of an `AudioEncoder`.
      text: module of a `TextEncoder`.
      frontend: of the `AudioEncoder`.
      projection_dim: size of the common space.
      temperature: initial temperature tau; logits are similarity / tau.
      learn_temperature: whether tau is trained (as log(1/tau)).
      bias: initial bias of the logits, or None for a loss without one. The bias is learned.
      frozen: which of "audio" and "text" are encoders that do not learn: they run as in inference,
        without dropout and on running statistics, and no gradient enters them.
      dtype: of the encoders' and projections' computation; parameters are float32.
      sharding: of the rows of a batch, for the projections; see `transformer.Block`.
    """

    audio: nn.Module
    text: nn.Module
    frontend: Callable[[jax.Array, jax.Array | None], tuple[jax.Array, jax.Array | None]]
    projection_dim: int
    temperature: float = 0.07
    learn_temperature: bool = True
    bias: float | None = None
    frozen: tuple[str, ...] = ()
    dtype: jnp.dtype = jnp.float32
    sharding: Sharding | None = None

    def setup(self):
        self.audio_projection = Projection(self.projection_dim, self.dtype, self.sharding)
        self.text_projection = Projection(self.projection_dim, self.dtype, self.sharding)
        if self.learn_temperature:
            initial = nn.initializers.constant(-math.log(self.temperature))
            self.log_logit_scale = self.param("log_logit_scale", initial, ())
        if self.bias is not None:
            self.logit_bias = self.param("logit_bias", nn.initializers.constant(self.bias), ())

    def encode_audio(
        self, waveform: jax.Array, lengths: jax.Array | None = None, train: bool = False
    ) -> jax.Array:
        """Unit embeddings `[batch, projection_dim]` of `waveform [batch, samples]` at 16 kHz.

        It is float32, or int16 in units of 2^-15. `lengths [batch]` are those of the clips in
        samples, at least 2,400 (`data.audio.MIN_SAMPLES`); what follows is padding and changes
        nothing. None if there is none.
        """
        features, lengths = self.frontend(as_float(waveform), lengths)
        learns = train and "audio" not in self.frozen
        embedding = self.audio(features, lengths, train=learns)
        return self.audio_projection(self._freeze("audio", embedding))

    def encode_text(self, tokens: jax.Array, train: bool = False) -> jax.Array:
        """Unit embeddings `[batch, projection_dim]` of `tokens [batch, length]`."""
        embedding = self.text(tokens, train=train and "text" not in self.frozen)
        return self.text_projection(self._freeze("text", embedding))

    def _freeze(self, tower: str, embedding: jax.Array) -> jax.Array:
        if tower not in self.frozen:
            return embedding
        return checkpoint_name(jax.lax.stop_gradient(embedding), FROZEN)

    def logit_scale(self) -> jax.Array:
        """1 / tau, a float32 scalar."""
        if not self.learn_temperature:
            return jnp.float32(1 / self.temperature)
        return jnp.exp(self.log_logit_scale)

    def __call__(
        self,
        waveform: jax.Array,
        tokens: jax.Array,
        lengths: jax.Array | None = None,
        train: bool = False,
    ):
        """Returns audio and text embeddings, 1 / tau, and the bias (None without one)."""
        audio = self.encode_audio(waveform, lengths, train)
        text = self.encode_text(tokens, train)
        return audio, text, self.logit_scale(), None if self.bias is None else self.logit_bias


def make_model(config: ConfigDict, sharding: Sharding | None = None) -> DualEncoder:
    """The dual encoder that a config describes.

    Args:
      config: of the run.
      sharding: of the batches that it is to take; None leaves activations to the compiler.

    Raises:
      ConfigError: it names encoders that there are not, or asks for kernels that this machine does
        not have.
    """
    if config.attention == "cudnn" and jax.default_backend() != "gpu":
        raise ConfigError(
            f"attention = 'cudnn' needs an NVIDIA GPU, but JAX runs on {jax.default_backend()}; "
            "set it to 'xla'"
        )
    dtype = jnp.dtype(config.compute_dtype)
    options = {name: config[name] for name in ("attention", "scan_layers", "remat")}
    options |= {"dtype": dtype, "sharding": sharding}
    audio = audio_encoder(config)
    return DualEncoder(
        audio=audio.module(config, **options),
        text=text_encoder(config).module(config, **options),
        frontend=audio.frontend,
        projection_dim=config.projection_dim,
        temperature=config.temperature.initial,
        learn_temperature=config.temperature.learned,
        bias=config.temperature.initial_bias if takes_bias(config) else None,
        frozen=frozen_towers(config),
        dtype=dtype,
        sharding=sharding,
    )


def frozen_towers(config: ConfigDict) -> tuple[str, ...]:
    """The encoders that a config keeps as they are (their projections learn)."""
    return tuple(tower for tower in TOWERS if config[tower].frozen)


def clip_temperature(params: dict, minimum: float) -> dict:
    """Parameters with a learned temperature raised to `minimum` where it is lower (as in CLIP).

    To be applied after each update: a limit inside the model would stop the gradient, and a
    temperature that once reached it could never leave it.
    """
    if "log_logit_scale" not in params:
        return params
    clipped = jnp.minimum(params["log_logit_scale"], -math.log(minimum))
    return {**params, "log_logit_scale": clipped}
