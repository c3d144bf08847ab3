"""How a loss moves embeddings: pull towards the positive, push along that line and across it."""

import jax
import jax.numpy as jnp

from .inputs import wide


def forces(
    embedding: jax.Array, positive: jax.Array, gradient: jax.Array, pull: jax.Array
) -> dict[str, jax.Array]:
    """Splits the negative gradient of each example's embedding into pull and push.

    The push is all of the negative gradient that is not pull: the forces of negatives and, where a
    radius leaves its range, of the constraint. `u = (positive - embedding) / d` is the direction
    in which the push splits (SupCLAP, arXiv 2509.21033); its perpendicular part is what SVR
    contracts. Costs `O(batch dim)`: the gradient is the one that training needs anyway.

    Args:
      embedding: float `[batch, dim]`, text or audio, all pairs of the batch.
      positive: float `[batch, dim]`, the other side of each pair.
      gradient: `[batch, dim]`, of `supclap`'s loss with respect to `embedding`: of its mean, with
        neither mask nor weights.
      pull: `[batch, dim]`, "text" or "audio" of the pulls that `supclap(..., pulls=True)` gives.

    Returns:
      float32 `[batch]` each, times the batch size, so as to be forces of one example's own loss:
      "pull", its length; "push_parallel", along u, below zero where negatives push away from the
      positive; "push_perpendicular", the length of the rest; "drift_cosine", in [-1, 1], between
      the negative gradient and u: the higher, the less drift; 0 where either vanishes.

    >>> import jax.numpy as jnp
    >>> text, audio = jnp.array([[1.0, 0.0]]), jnp.array([[0.0, 1.0]])
    >>> found = forces(text, audio, gradient=-audio, pull=audio)
    >>> {name: round(float(x[0]), 3) for name, x in found.items()}
    {'pull': 1.0, 'push_parallel': 0.0, 'push_perpendicular': 0.0, 'drift_cosine': 0.707}
    """
    dtype = wide(embedding)
    embedding, positive, gradient, pull = (
        x.astype(dtype) for x in (embedding, positive, gradient, pull)
    )
    batch = embedding.shape[0]
    pull, force = batch * pull, -batch * gradient
    direction = _unit(positive - embedding)
    push = force - pull
    parallel = jnp.sum(push * direction, axis=1)
    return {
        "pull": _length(pull),
        "push_parallel": parallel,
        "push_perpendicular": _length(push - parallel[:, None] * direction),
        "drift_cosine": jnp.sum(_unit(force) * direction, axis=1),
    }


def _length(x: jax.Array) -> jax.Array:
    return jnp.linalg.norm(x, axis=1)


def _unit(x: jax.Array) -> jax.Array:
    length = _length(x)[:, None]
    return jnp.where(length > 0, x / jnp.where(length > 0, length, 1), 0)
