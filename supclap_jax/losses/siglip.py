"""SigLIP: every pair of the batch as a binary classification of its own."""

import jax
import jax.numpy as jnp

from .base import Sigmoid
from .inputs import check_pairs, scalar, wide
from .pairs import Pairs, whole_matrix
from .reduction import make_reduction
from .similarity import similarity
from .tile_sweep import losses_of, sweep
from .tiles import make_plan


def siglip(
    query: jax.Array,
    key: jax.Array,
    logit_scale: jax.Array | float,
    logit_bias: jax.Array | float,
    *,
    target: jax.Array | None = None,
    ids: jax.Array | None = None,
    key_ids: jax.Array | None = None,
    same_id: str = "positive",
    mask: jax.Array | None = None,
    key_mask: jax.Array | None = None,
    weights: jax.Array | None = None,
    reduction: str = "mean",
    axis_name: str | tuple[str, ...] | None = None,
    block_size: int | str | None = None,
) -> jax.Array:
    """Sigmoid loss over all pairs of the batch (Zhai et al. 2023, arXiv 2303.15343).

    `loss = -(1/batch) sum_ij log sigmoid( z_ij (s q_i.k_j + b) )`, z = +1 for positives and -1
    for all others, s = `logit_scale`, b = `logit_bias`.

    Args:
      query: float `[batch, dim]`; L2-normalised, except support vectors.
      key: float `[batch, dim]`, L2-normalised; `key[i]` is the positive of `query[i]`. With
        `target` any number of keys `[keys, dim]`.
      logit_scale: scalar or `[1]`, 1 / temperature.
      logit_bias: scalar or `[1]`; usually starts at -10, since nearly all pairs are negatives.
      target: int `[batch]`, the positive of each query among the keys, see `info_nce`.
      ids: int `[batch]`; pairs with the same id show the same clip.
      key_ids: int `[keys]`, those of the keys, where `target` and `ids` are given.
      same_id: "positive": all pairs of one clip are positives. "ignore": their terms are dropped,
        only the own pair stays; the sum is still divided by the batch.
      mask: bool `[batch]`, False for padded pairs, see `info_nce`.
      key_mask: bool `[keys]`, False for padded keys, where `target` is given.
      weights: float `[batch]`, of each query in the mean; None: all alike.
      reduction: "mean", or "none" for the sum `[batch]` over the keys of each query.
      axis_name: mesh axes inside `jax.shard_map`, see `info_nce`.
      block_size: rows and columns of a tile, None or "auto", see `info_nce`.

    Returns:
      float32 scalar (float64 for float64 inputs), or `[batch]`.

    Raises:
      ValueError, TypeError: as `info_nce`.

    >>> import jax.numpy as jnp
    >>> x = jnp.eye(2)
    >>> round(float(siglip(x, x, 10.0, -5.0)), 6)  # 2 log(1 + exp(-5)), both kinds of pair alike
    0.013431
    """
    pairs = Pairs(ids, mask, target, key_ids, key_mask)
    check_pairs(query, key, pairs, same_id, axis_name, block_size)
    dtype = wide(query, key)
    logit_scale = scalar("logit_scale", logit_scale, dtype)
    logit_bias = scalar("logit_bias", logit_bias, dtype)
    reduce = make_reduction(query.shape[0], mask, weights, reduction, axis_name)
    query, key = pairs.without_padding(query, key)
    if block_size is not None or axis_name:
        plan = make_plan(Sigmoid(), query, [key], ids, same_id, axis_name, block_size)
        return reduce(losses_of(sweep(plan, query, key, logit_scale, pairs, logit_bias)))
    logits = similarity(query, key) * logit_scale + logit_bias
    positive, left_out = whole_matrix(pairs, same_id, *logits.shape)
    losses = jax.nn.softplus(jnp.where(positive, -logits, logits))
    if left_out is not None:
        losses = jnp.where(left_out, 0, losses)
    losses = jnp.sum(losses, axis=1)
    if target is not None:
        losses = jnp.where(jnp.any(positive, axis=1), losses, jnp.nan)
    return reduce(losses)
