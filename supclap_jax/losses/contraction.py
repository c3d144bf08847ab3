"""A gradient contracted across the pull direction, for any loss and without moved queries."""

from functools import partial

import jax
import jax.numpy as jnp

from .similarity import distance


def contract(anchor: jax.Array, positive: jax.Array, factor: float) -> jax.Array:
    """The anchor as it is; of its gradient, what is across the pull direction is scaled.

    With `u = (positive - anchor) / |positive - anchor|`, a gradient g of the result becomes
    `(g.u) u + factor (g - (g.u) u)` for the anchor, and nothing for the positive: what the Jacobian
    of a support vector does, `factor` being 1 - R/d, but where the anchor stands. 1 changes
    nothing, 0 leaves the part along u alone. Where both coincide, all of it is scaled.

    Args:
      anchor: float `[batch, dim]`, any rows.
      positive: float `[batch, dim]`.
      factor: a number, compiled in.

    Returns:
      `anchor`.

    Raises:
      ValueError: shapes that do not fit.

    >>> import jax, jax.numpy as jnp
    >>> anchor, positive = jnp.array([[0.0, 0.0]]), jnp.array([[1.0, 0.0]])
    >>> loss = lambda x: jnp.sum(contract(x, positive, 0.5) * jnp.array([[3.0, 4.0]]))
    >>> jax.grad(loss)(anchor)
    Array([[3., 2.]], dtype=float32)
    """
    if anchor.ndim != 2 or anchor.shape != positive.shape:
        raise ValueError(
            f"anchor and positive have shapes {anchor.shape} and {positive.shape}; expected the "
            "same [batch, dim] for both"
        )
    return _contract(anchor, jax.lax.stop_gradient(positive), factor)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _contract(anchor: jax.Array, positive: jax.Array, factor: float) -> jax.Array:
    return anchor


def _forward(anchor, positive, factor):
    return anchor, (anchor, positive)


def _backward(factor, kept, gradient):
    anchor, positive = kept
    apart = distance(anchor, positive)[:, None]
    wide = gradient.astype(apart.dtype)
    way = positive.astype(apart.dtype) - anchor.astype(apart.dtype)
    pull = jnp.where(apart > 0, way / jnp.where(apart > 0, apart, 1), 0)
    along = jnp.sum(wide * pull, axis=1, keepdims=True) * pull
    contracted = along + factor * (wide - along)
    return contracted.astype(gradient.dtype), jnp.zeros_like(positive)


_contract.defvjp(_forward, _backward)
