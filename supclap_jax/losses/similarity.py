"""What the losses share: dot products, their summaries, distances."""

import jax
import jax.numpy as jnp

from .inputs import wide

HARDEST = 4  # hardest negatives in a summary


def similarity(query: jax.Array, key: jax.Array) -> jax.Array:
    """Dot products `[batch, batch]` of `query` with every `key`, both `[batch, dim]`.

    Accumulated in float32, or in float64 where both inputs are, and computed in the inputs' own
    precision: accelerators would otherwise round float32 inputs. Pass bfloat16 for speed.
    """
    highest, dtype = jax.lax.Precision.HIGHEST, wide(query, key)
    return jnp.matmul(query, key.T, precision=highest, preferred_element_type=dtype)


def distance(audio: jax.Array, text: jax.Array) -> jax.Array:
    """Euclidean distance `[batch]` of each pair, in float32; its gradient is zero where it is."""
    dtype = wide(audio, text)
    difference = audio.astype(dtype) - text.astype(dtype)
    squared = jnp.sum(difference * difference, axis=-1)
    apart = squared > 0
    return jnp.where(apart, jnp.sqrt(jnp.where(apart, squared, 1)), 0)


def similarity_row(similarity: jax.Array) -> jax.Array:
    """The paper's input: each row of `[batch, batch]`, its positive first, negatives in order.

    >>> similarity_row(jnp.arange(9.0).reshape(3, 3))
    Array([[0., 1., 2.],
           [4., 3., 5.],
           [8., 6., 7.]], dtype=float32)
    """
    batch = similarity.shape[0]
    row, column = jnp.arange(batch)[:, None], jnp.arange(batch)[None, :]
    source = jnp.where(column == 0, row, jnp.where(column <= row, column - 1, column))
    return jnp.take_along_axis(similarity, source, axis=1)


def similarity_summary(similarity: jax.Array) -> jax.Array:
    """Statistics `[batch, 8]` of each row that know neither the order of the batch nor its size.

    In order: the own similarity, the four hardest negatives, the soft maximum (log mean exp),
    mean and standard deviation of the negatives. Fewer than four negatives are filled up with the
    easiest one; a single pair counts as its own negative.

    >>> similarity_summary(jnp.array([[3.0, 1.0], [0.0, 2.0]]))[0].tolist()
    [3.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0]
    """
    batch = similarity.shape[0]
    own = jnp.diagonal(similarity)
    negatives = similarity_row(similarity)[:, 1:] if batch > 1 else similarity
    hardest = jax.lax.top_k(negatives, min(HARDEST, negatives.shape[1]))[0]
    missing = HARDEST - hardest.shape[1]
    hardest = jnp.pad(hardest, ((0, 0), (0, missing)), mode="edge")
    count = negatives.shape[1]
    soft_maximum = jax.nn.logsumexp(negatives, axis=1) - jnp.log(count)
    mean, variance = jnp.mean(negatives, axis=1), jnp.var(negatives, axis=1)
    varied = variance > 0
    spread = jnp.where(varied, jnp.sqrt(jnp.where(varied, variance, 1)), 0)
    return jnp.column_stack([own, hardest, soft_maximum, mean, spread])
