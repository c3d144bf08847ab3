"""The gradient cache: the exact gradient of a large batch at a microbatch's activation memory.

A contrastive loss couples all pairs of a batch, so its gradient is no sum over microbatches. But it
reaches the towers through their embeddings alone (Gao et al., 2021, arXiv:2101.06983): embed one
microbatch after the other and keep no activations, take the loss and its gradient once, on the
embeddings of all, and then pass each microbatch's share of it back through the towers, computed
again. That is rematerialisation with microbatches as its unit, and written as such below.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

Tree = Any

_checkpoint = partial(jax.checkpoint, prevent_cse=False)


def cached_value_and_grad(
    loss: Callable, towers: Callable, microbatches: int, *, has_aux: bool = False
) -> Callable:
    """`jax.value_and_grad` of `loss(towers(params, batch, key))`, the towers in microbatches.

    The result is that of the whole batch at once, but that what is random draws from a key for each
    microbatch, the same in both passes. Works under `jax.jit`, `lax.scan` and, with a loss that
    takes `axis_name`, inside `jax.shard_map`.

    Args:
      loss: of what the towers give, such as `lambda x: symmetric_info_nce(*x)`.
      towers: `towers(params, batch, key)`: embeddings of each pair, and scalars such as a
        temperature, which no part of the batch may change, in any pytree.
      microbatches: how many; they divide the batch.
      has_aux: whether `loss` gives a pair, as of `jax.value_and_grad`.

    Returns:
      `value_and_grad(params, batch, key=None)`; params and batch are any pytrees.

    Raises:
      ValueError: by the function: the microbatches do not divide the batch.

    >>> import jax.numpy as jnp
    >>> from supclap_jax.losses import symmetric_info_nce
    >>> towers = lambda params, batch, key: (batch @ params, batch, 5.0)
    >>> both = cached_value_and_grad(lambda x: symmetric_info_nce(*x), towers, microbatches=2)
    >>> loss, gradient = both(jnp.eye(4), jnp.eye(4))
    >>> round(float(loss), 4), gradient.shape
    (0.02, (4, 4))
    """

    def value_and_grad(params: Tree, batch: Tree, key: jax.Array | None = None):
        def of_params(params):
            embed = in_microbatches(lambda part, key: towers(params, part, key), microbatches)
            return loss(embed(batch, key))

        return jax.value_and_grad(of_params, has_aux=has_aux)(params)

    return value_and_grad


def in_microbatches(
    towers: Callable,
    microbatches: int,
    *,
    place: Callable[[jax.Array], jax.Array] = lambda x: x,
    remat: Callable[[Callable], Callable] = _checkpoint,
) -> Callable[[Tree, jax.Array | None], Tree]:
    """`towers(batch, key)` of a whole batch, one microbatch after the other.

    Args:
      towers: gives arrays whose rows are those of the batch, and scalars.
      microbatches: how many.
      place: constrains how arrays of rows are laid out.
      remat: `jax.checkpoint` by default; with another policy or none of it, what it leaves of each
        microbatch is kept for the gradient, and not computed again.
    """

    def whole(batch: Tree, key: jax.Array | None) -> Tree:
        part = microbatches_of(batch, microbatches, place)

        def embed(i):
            outputs = towers(part(i), None if key is None else jax.random.fold_in(key, i))
            return jax.tree.map(lambda x: place(x) if jnp.ndim(x) else jnp.asarray(x), outputs)

        def joined(x):
            return place(jnp.moveaxis(x, 1, 0).reshape(-1, *x.shape[2:])) if x.ndim > 1 else x[0]

        return jax.tree.map(joined, lax.map(remat(embed), jnp.arange(microbatches)))

    return whole


def microbatches_of(
    batch: Tree, microbatches: int, place: Callable[[jax.Array], jax.Array] = lambda x: x
) -> Callable[[jax.Array], Tree]:
    """A function of i that gives the rows i, i + n, i + 2n, ... of n microbatches.

    So a device's rows are spread over all microbatches and never leave it, and the choice does not
    depend on the number of devices.

    Raises:
      ValueError: the microbatches do not divide the rows.
    """
    rows = jax.tree.leaves(batch)[0].shape[0]
    if rows % microbatches:
        raise ValueError(f"{microbatches} microbatches do not divide a batch of {rows}")
    parts = jax.tree.map(lambda x: place(x.reshape(-1, microbatches, *x.shape[1:])), batch)

    def part(i):
        take = lambda x: lax.dynamic_index_in_dim(x, i, axis=1, keepdims=False)  # noqa: E731
        return jax.tree.map(lambda x: place(take(x)), parts)

    return part
