"""SONAR text encoder: the multilingual sentence encoder on top of NLLB."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

PAD_ID = 1
FIRST_POSITION = 2

SONAR = dict(vocab_size=256_206, dim=1024, depth=24, heads=16, ffn_dim=8192)

_Dense = partial(nn.Dense, kernel_init=nn.initializers.xavier_uniform())
_LayerNorm = partial(nn.LayerNorm, epsilon=1e-5)


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
      dtype: type of the computation.
    """

    vocab_size: int
    dim: int
    depth: int
    heads: int
    ffn_dim: int
    dropout: float = 0.1
    max_length: int = 514
    dtype: jnp.dtype = jnp.float32

    def setup(self):
        if self.dim % self.heads:
            raise ValueError(f"dim {self.dim} is not a multiple of heads {self.heads}")
        self.embed = nn.Embed(
            self.vocab_size, self.dim, embedding_init=nn.initializers.normal(self.dim**-0.5)
        )
        self.embed_dropout = nn.Dropout(self.dropout)
        self.blocks = [
            Block(self.heads, self.ffn_dim, self.dropout, dtype=self.dtype)
            for _ in range(self.depth)
        ]
        self.norm = _LayerNorm()

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
        x = self.embed(tokens) * self.dim**0.5 + jnp.asarray(table)[position]
        x = self.embed_dropout(x.astype(self.dtype), deterministic=not train)
        for block in self.blocks:
            x = block(x, valid, train=train)
        return self.norm(x.astype(jnp.float32))


class Block(nn.Module):
    """Pre-norm transformer block: x + attention(norm(x)), then x + ffn(norm(x))."""

    heads: int
    ffn_dim: int
    dropout: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, valid: jax.Array, *, train: bool) -> jax.Array:
        """Maps tokens [batch, length, dim]; only those `valid` [batch, length] are attended to."""
        dim = x.shape[-1]
        dense = partial(_Dense, dtype=self.dtype)
        norm = partial(_LayerNorm, dtype=self.dtype)
        dropout = nn.Dropout(self.dropout, deterministic=not train)

        qkv = dense(3 * dim, name="qkv")(norm(name="norm1")(x))
        qkv = qkv.reshape(*x.shape[:2], 3, self.heads, dim // self.heads)
        attended = jax.nn.dot_product_attention(
            qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2], mask=valid[:, None, None, :]
        )
        x = x + dropout(dense(dim, name="proj")(attended.reshape(x.shape)))

        hidden = nn.relu(dense(self.ffn_dim, name="fc1")(norm(name="norm2")(x)))
        return x + dropout(dense(dim, name="fc2")(hidden))


def sinusoids(positions: int, dim: int) -> np.ndarray:
    """Sinusoidal positions [sin | cos](position * 10000^(-k / (dim / 2 - 1))), k = 0..dim / 2 - 1.

    Returns:
      float32, [positions, dim], rows in order from position 0.
    """
    half = dim // 2
    frequency = 10_000.0 ** (-np.arange(half) / (half - 1))
    angle = np.arange(positions)[:, None] * frequency
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=1).astype(np.float32)
