"""SONAR text encoder: the multilingual sentence encoder on top of NLLB."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from supclap_jax.models import transformer
from supclap_jax.models.tokens import PAD_ID, SONAR_ROWS

FIRST_POSITION = 2

SONAR = dict(vocab_size=SONAR_ROWS, dim=1024, depth=24, heads=16, ffn_dim=8192)

_EPSILON = 1e-5


class SonarTextEncoder(nn.Module):
    """SONAR sentence encoder (Duquenne et al., 2023, arXiv:2308.11466).

    Token embeddings times sqrt(dim) plus sinusoidal positions, pre-norm transformer blocks with a
    ReLU, a final norm, and the mean over all tokens but padding, language tag and end included.
    Token ids follow the Hugging Face layout: <s> 0, <pad> 1, </s> 2, <unk> 3.

    Parameters are float32; `dtype` is the type of the computation. Layer norms compute their
    statistics, and attention its softmax, in float32 whatever the dtype.

    Attributes:
      vocab_size: number of token ids.
      dim: width of the hidden states and of the embedding; even.
      depth: number of transformer blocks.
      heads: number of attention heads; divides `dim`.
      ffn_dim: hidden width of the feed-forward layers.
      dropout: rate on the embedded tokens and on what each layer adds to them; with train only.
      max_length: most tokens in a row.
      attention: implementation on accelerators; see `transformer.attention`.
      scan_layers: compile one block as a loop rather than each.
      remat, saved, offloaded: what a block keeps for its gradient; see `transformer.blocks`.
      dtype: type of the computation.
      sharding: of the rows of a batch, over all axes of a mesh; tables may be divided over the last
        one. See `transformer.Block`.
    """

    vocab_size: int
    dim: int
    depth: int
    heads: int
    ffn_dim: int
    dropout: float = 0.1
    max_length: int = 514
    attention: str = "xla"
    scan_layers: bool = True
    remat: str = "none"
    saved: tuple[str, ...] = ()
    offloaded: tuple[str, ...] = ()
    dtype: jnp.dtype = jnp.float32
    sharding: NamedSharding | None = None

    def setup(self):
        self.embed = nn.Embed(
            self.vocab_size, self.dim, embedding_init=nn.initializers.normal(self.dim**-0.5)
        )
        self.embed_dropout = nn.Dropout(self.dropout)
        self.blocks = transformer.blocks(
            self.depth,
            scan_layers=self.scan_layers,
            remat=self.remat,
            saved=self.saved,
            offloaded=self.offloaded,
            heads=self.heads,
            hidden=self.ffn_dim,
            activation=nn.relu,
            epsilon=_EPSILON,
            kernel_init=nn.initializers.xavier_uniform(),
            attention=self.attention,
            dropout=self.dropout,
            dtype=self.dtype,
            sharding=self.sharding,
        )
        self.norm = nn.LayerNorm(epsilon=_EPSILON)

    def __call__(self, tokens: jax.Array, *, train: bool = False) -> jax.Array:
        """Embeds sentences: the mean of the hidden states of their tokens, not normalised.

        Args:
          tokens: ids, int32, [batch, length]; PAD_ID marks padding.
          train: apply dropout, which needs a `dropout` rng unless its rate is 0.

        Returns:
          Embeddings, float32, [batch, dim]; zero for a row that is all padding.
        """
        valid = tokens != PAD_ID
        total = self.hidden_states(tokens, train=train).sum(axis=1, where=valid[..., None])
        return total / jnp.maximum(valid.sum(axis=1, keepdims=True), 1)

    def hidden_states(self, tokens: jax.Array, *, train: bool = False) -> jax.Array:
        """Hidden states after the final norm; those of padding have no meaning.

        Args:
          tokens: ids, int32, [batch, length]; PAD_ID marks padding.
          train: as for an embedding.

        Returns:
          Hidden states, float32, [batch, length, dim].

        Raises:
          ValueError: if there are more than `max_length` tokens in a row.
        """
        if tokens.shape[1] > self.max_length:
            raise ValueError(f"{tokens.shape[1]} tokens exceed the maximum of {self.max_length}")
        valid = tokens != PAD_ID
        position = jnp.cumsum(valid, axis=1) - 1 + FIRST_POSITION
        table = sinusoids(FIRST_POSITION + self.max_length, self.dim)
        x = self._look_up(tokens) * self.dim**0.5 + jnp.asarray(table)[position]
        x = self.embed_dropout(x.astype(self.dtype), deterministic=not train)
        x, _ = self.blocks(x, valid, train)
        return self.norm(x.astype(jnp.float32))

    def _look_up(self, tokens: jax.Array) -> jax.Array:
        """Embeds tokens; devices that share a table divided by columns exchange what they find."""
        x = self.embed(tokens)
        if self.sharding is None:
            return x
        *rows, columns = self.sharding.spec[0]
        if self.dim % self.sharding.mesh.shape[columns] == 0:
            x = transformer.place(x, self.sharding.update(spec=PartitionSpec(rows, None, columns)))
        return transformer.place(x, self.sharding)


def sinusoids(positions: int, dim: int) -> np.ndarray:
    """Sinusoidal positions [sin | cos](position * 10000^(-k / (dim / 2 - 1))), k = 0..dim / 2 - 1.

    Returns:
      float32, [positions, dim], rows in order from position 0.
    """
    half = dim // 2
    frequency = 10_000.0 ** (-np.arange(half) / (half - 1))
    angle = np.arange(positions)[:, None] * frequency
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=1).astype(np.float32)
