"""InfoNCE: each query's cross entropy against all keys of the batch."""

import jax
import jax.numpy as jnp

from .base import Softmax
from .inputs import check_pairs, scalar
from .similarity import other_pair_of_same_clip, same_clip, similarity
from .tile_sweep import mean_loss, sweep
from .tiles import make_plan


def info_nce(
    query: jax.Array,
    key: jax.Array,
    logit_scale: jax.Array | float,
    *,
    ids: jax.Array | None = None,
    same_id: str = "positive",
    axis_name: str | tuple[str, ...] | None = None,
    block_size: int | str | None = None,
) -> jax.Array:
    """One direction of InfoNCE: the mean over queries of the cross entropy against all keys.

    `loss = mean_i [ log sum_j exp(s q_i.k_j) - s q_i.k_i ]`, s = `logit_scale`
    (van den Oord et al. 2018, arXiv 1807.03748).

    Args:
      query: float `[batch, dim]`; L2-normalised, except support vectors.
      key: float `[batch, dim]`, L2-normalised; `key[i]` is the positive of `query[i]`.
      logit_scale: scalar or `[1]`, 1 / temperature.
      ids: int `[batch]`; pairs with the same id show the same clip.
      same_id: what keys of the same clip are to a query. "positive": they share the target mass
        uniformly. "ignore": they leave the sum, only the own pair stays.
      axis_name: one or several mesh axes, inside `jax.shard_map`: the arguments are this device's
        share of the batch, the loss is the mean over all devices, gradients are those of it. In
        `jax.pmap` and with `check_vma=False` too, but of what all devices share, such as the scale
        and the parameters of towers, each has its part: sum these with `lax.psum`.
      block_size: rows and columns of a tile. The loss and its gradients then need memory linear
        in the batch and four products of `2 batch^2 dim` operations, one of them forward. None:
        the whole matrix at once (on a mesh: one device's share against another's), three
        products. "auto": the whole matrix, kept, up to a batch of 4,096; tiles of 1,024 beyond.
        Tiles need `sharded` (or `axis_name`) where the batch is divided: a plain `jax.jit` would
        have every device go through all of them.

    Returns:
      float32 scalar (float64 for float64 inputs), whatever the tiles and devices.

    Raises:
      ValueError: shapes that do not fit, no pairs, or an unknown `same_id`, `axis_name` or
        `block_size`.
      TypeError: embeddings that are no float arrays, or ids that are no int array.

    >>> import jax.numpy as jnp
    >>> x = jnp.eye(4)
    >>> round(float(info_nce(x, x, 10.0)), 6)  # log(1 + 3 exp(-10))
    0.000136
    """
    check_pairs(query, key, ids, same_id, axis_name, block_size)
    logit_scale = scalar("logit_scale", logit_scale)
    if block_size is None and not axis_name:
        return jnp.mean(_cross_entropy(similarity(query, key), logit_scale, ids, same_id))
    plan = make_plan(Softmax(), query.shape[0], ids, same_id, axis_name, block_size)
    return mean_loss(sweep(plan, query, key, logit_scale, ids=ids), axis_name)


def symmetric_info_nce(
    audio: jax.Array,
    text: jax.Array,
    logit_scale: jax.Array | float,
    *,
    ids: jax.Array | None = None,
    same_id: str = "positive",
    axis_name: str | tuple[str, ...] | None = None,
    block_size: int | str | None = None,
) -> jax.Array:
    """The mean of `info_nce` in both directions, from one sweep over the similarities.

    The loss of CLIP (Radford et al. 2021, arXiv 2103.00020). Arguments, result, errors and cost
    are those of `info_nce`; audio and text may be exchanged.

    >>> import jax.numpy as jnp
    >>> audio, text = jnp.eye(3), jnp.eye(3)[:, ::-1]
    >>> both = info_nce(audio, text, 5.0) + info_nce(text, audio, 5.0)
    >>> bool(jnp.isclose(symmetric_info_nce(audio, text, 5.0), both / 2))
    True
    """
    check_pairs(audio, text, ids, same_id, axis_name, block_size)
    logit_scale = scalar("logit_scale", logit_scale)
    if block_size is None and not axis_name:
        scores = similarity(audio, text)
        audio_to_text = jnp.mean(_cross_entropy(scores, logit_scale, ids, same_id))
        text_to_audio = jnp.mean(_cross_entropy(scores.T, logit_scale, ids, same_id))
        return (audio_to_text + text_to_audio) / 2
    plan = make_plan(Softmax(), audio.shape[0], ids, same_id, axis_name, block_size)
    return mean_loss(sweep(plan, audio, text, logit_scale, ids=ids, both=True), axis_name)


def _cross_entropy(
    scores: jax.Array, logit_scale: jax.Array | float, ids: jax.Array | None, same_id: str
) -> jax.Array:
    """Cross entropy `[batch]` of each row of `scores [batch, batch]`.

    The target is subtracted before scaling: near convergence the loss and its gradient with
    respect to the scale are small differences of large numbers otherwise.
    """
    target = jnp.diagonal(scores)
    if ids is not None and same_id == "positive":
        same = same_clip(ids)
        target = jnp.sum(jnp.where(same, scores, 0), axis=1) / jnp.sum(
            same, axis=1, dtype=scores.dtype
        )
    margin = (scores - target[:, None]) * logit_scale
    if ids is not None and same_id == "ignore":
        margin = jnp.where(other_pair_of_same_clip(ids), -jnp.inf, margin)
    return jax.nn.logsumexp(margin, axis=1)
