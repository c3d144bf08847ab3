"""InfoNCE: each query's cross entropy against all keys of the batch."""

import jax
import jax.numpy as jnp

from .base import Softmax
from .inputs import check_pairs, scalar, wide
from .pairs import Pairs, targets, whole_matrix
from .reduction import make_reduction
from .similarity import similarity
from .tile_sweep import losses_of, sweep
from .tiles import make_plan


def info_nce(
    query: jax.Array,
    key: jax.Array,
    logit_scale: jax.Array | float,
    *,
    target: jax.Array | None = None,
    ids: jax.Array | None = None,
    key_ids: jax.Array | None = None,
    same_id: str = "positive",
    mask: jax.Array | None = None,
    key_mask: jax.Array | None = None,
    weights: jax.Array | None = None,
    reduction: str = "mean",
    margin: float = 0.0,
    label_smoothing: float = 0.0,
    axis_name: str | tuple[str, ...] | None = None,
    block_size: int | str | None = None,
) -> jax.Array:
    """One direction of InfoNCE: the mean over queries of the cross entropy against all keys.

    `loss = mean_i [ log sum_j exp(s q_i.k_j) - s q_i.k_i ]`, s = `logit_scale`
    (van den Oord et al. 2018, arXiv 1807.03748).

    Args:
      query: float `[batch, dim]`; L2-normalised, except support vectors.
      key: float `[batch, dim]`, L2-normalised; `key[i]` is the positive of `query[i]`. With
        `target` any number of keys `[keys, dim]`.
      logit_scale: scalar or `[1]`, 1 / temperature.
      target: int `[batch]`: `key[target[i]]` is the positive of `query[i]`, all other keys are its
        negatives. On a mesh every device has its own keys, and their rows are counted over all
        devices, in order. The loss of a query whose target is no key, or a padded one, is nan.
      ids: int `[batch]`; pairs with the same id show the same clip.
      key_ids: int `[keys]`, those of the keys, where `target` and `ids` are given.
      same_id: what keys of the same clip are to a query. "positive": they share the target mass
        uniformly. "ignore": they leave the sum, only the own pair stays.
      mask: bool `[batch]`, False for padded pairs: they have no loss, are no one's key, and no
        part of the mean, whatever is in their rows. With `target` it is of the queries alone.
      key_mask: bool `[keys]`, False for padded keys, where `target` is given.
      weights: float `[batch]`, of each pair in the mean; None: all alike.
      reduction: "mean", or "none" for the loss `[batch]` of each query, zero where padded.
      margin, label_smoothing: numbers that are compiled in, see `Softmax`.
      axis_name: one or several mesh axes, inside `jax.shard_map`: the arguments are this device's
        share of the batch, the loss is the mean over all devices, gradients are those of it. In
        `jax.pmap` and with `check_vma=False` take gradients inside: of what all devices share, such
        as the scale and the parameters of towers, each has its part, so sum these with `lax.psum`.
        Taken from outside of these two, gradients are divided by the number of devices.
      block_size: rows and columns of a tile. The loss and its gradients then need memory linear
        in the batch and four products of `2 batch^2 dim` operations, one of them forward. None:
        the whole matrix at once (on a mesh: one device's share against another's), three
        products. "auto": the whole matrix, kept, up to 4,096^2 pairs a device; tiles of 1,024
        beyond. On a mesh a number or None sends keys round a ring; "auto" gathers them at once
        where a device has fewer than 4,096 queries and 512 MiB are enough (docs/method.md).
        Tiles need `sharded` (or `axis_name`) where the batch is divided: a plain `jax.jit` would
        have every device go through all of them.

    Returns:
      float32 scalar (float64 for float64 inputs), whatever the tiles and devices; or `[batch]`.

    Raises:
      ValueError: shapes that do not fit, no pairs, an option out of its range, or an unknown
        `same_id`, `reduction`, `axis_name` or `block_size`.
      TypeError: embeddings that are no float arrays, or ids that are no int array.

    >>> import jax.numpy as jnp
    >>> x = jnp.eye(4)
    >>> round(float(info_nce(x, x, 10.0)), 6)  # log(1 + 3 exp(-10))
    0.000136
    """
    pairs = Pairs(ids, mask, target, key_ids, key_mask)
    check_pairs(query, key, pairs, same_id, axis_name, block_size)
    logit_scale = scalar("logit_scale", logit_scale, wide(query, key))
    reduce = make_reduction(query.shape[0], mask, weights, reduction, axis_name)
    query, key = pairs.without_padding(query, key)
    base = Softmax(margin, label_smoothing)
    if base == Softmax() and block_size is None and not axis_name:
        scores = similarity(query, key)
        positive, left_out = whole_matrix(pairs, same_id, *scores.shape)
        losses = _cross_entropy(scores, logit_scale, pairs, same_id, positive, left_out)
        if target is not None:
            losses = jnp.where(jnp.any(positive, axis=1), losses, jnp.nan)
        return reduce(losses)
    plan = make_plan(base, query, [key], ids, same_id, axis_name, block_size)
    return reduce(losses_of(sweep(plan, query, key, logit_scale, pairs)))


def symmetric_info_nce(
    audio: jax.Array,
    text: jax.Array,
    logit_scale: jax.Array | float,
    *,
    ids: jax.Array | None = None,
    same_id: str = "positive",
    mask: jax.Array | None = None,
    weights: jax.Array | None = None,
    reduction: str = "mean",
    margin: float = 0.0,
    label_smoothing: float = 0.0,
    axis_name: str | tuple[str, ...] | None = None,
    block_size: int | str | None = None,
) -> jax.Array:
    """The mean of `info_nce` in both directions, from one sweep over the similarities.

    The loss of CLIP (Radford et al. 2021, arXiv 2103.00020). Arguments, result, errors and cost
    are those of `info_nce`; audio and text, any two modalities, may be exchanged.

    >>> import jax.numpy as jnp
    >>> audio, text = jnp.eye(3), jnp.eye(3)[:, ::-1]
    >>> both = info_nce(audio, text, 5.0) + info_nce(text, audio, 5.0)
    >>> bool(jnp.isclose(symmetric_info_nce(audio, text, 5.0), both / 2))
    True
    """
    pairs = Pairs(ids, mask)
    check_pairs(audio, text, pairs, same_id, axis_name, block_size)
    logit_scale = scalar("logit_scale", logit_scale, wide(audio, text))
    reduce = make_reduction(audio.shape[0], mask, weights, reduction, axis_name)
    audio, text = pairs.without_padding(audio, text)
    base = Softmax(margin, label_smoothing)
    if base == Softmax() and block_size is None and not axis_name:
        scores = similarity(audio, text)
        positive, left_out = whole_matrix(pairs, same_id, *scores.shape)
        audio_to_text = _cross_entropy(scores, logit_scale, pairs, same_id, positive, left_out)
        turned = (positive.T, left_out if left_out is None else left_out.T)
        text_to_audio = _cross_entropy(scores.T, logit_scale, pairs, same_id, *turned)
        return reduce((audio_to_text + text_to_audio) / 2)
    plan = make_plan(base, audio, [text], ids, same_id, axis_name, block_size)
    sides = sweep(plan, audio, text, logit_scale, pairs, both=True)
    return reduce(losses_of(sides))


def _cross_entropy(
    scores: jax.Array,
    logit_scale: jax.Array,
    pairs: Pairs,
    same_id: str,
    positive: jax.Array,
    left_out: jax.Array | None,
) -> jax.Array:
    """Cross entropy `[queries]` of each row of `scores [queries, keys]`, bool masks alike.

    The target is subtracted before scaling: near convergence the loss and its gradient with
    respect to the scale are small differences of large numbers otherwise.
    """
    if pairs.ids is not None and same_id == "positive":
        count = jnp.sum(positive, axis=1, dtype=scores.dtype)
        target = jnp.sum(jnp.where(positive, scores, 0), axis=1) / jnp.maximum(count, 1)
    else:
        own = targets(pairs, 0, scores.shape[0])
        target = jnp.take_along_axis(scores, own[:, None], axis=1, mode="clip")[:, 0]
    margin = (scores - target[:, None]) * logit_scale
    return jax.nn.logsumexp(margin, axis=1, where=None if left_out is None else ~left_out)
