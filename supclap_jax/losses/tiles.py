"""One tile of the similarities: what its rows and columns keep of it, and the slopes it sends back.

A tile is `scores [rows, columns]` with `s_ij = q_i . k_j`; axis 1 makes statistics of rows, axis 0
of columns. `sweep.py` visits all tiles of all devices with these functions.

Own pairs (the diagonal) never enter a tile's sums: `own_i = q_i . k_i` is a row-wise dot outside.
With `z_i = log sum_{j != i} exp(scale (s_ij - own_i))` the cross entropy of row i is
`log(1 + exp z_i)`, which keeps its digits when the loss is nearly zero.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax import lax

from supclap_jax.losses.similarity import HARDEST

TILE = 1024  # rows and columns of an automatic tile
DENSE_UP_TO = 4096  # batch up to which "auto" takes one tile and keeps it: three products

Side = dict[str, jax.Array]  # arrays [pairs, ...] of the rows or of the columns


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a sweep gathers, and how; hashable, fixed at compile time.

    Attributes:
      loss: "softmax" (InfoNCE) or "sigmoid" (SigLIP).
      tile: rows and columns of a tile; the last ones may be smaller.
      axis_name: mesh axes of the ring; empty on one device.
      both: the loss of columns as well as of rows (softmax only).
      same_id: role of other pairs with the same id: "positive", "ignore"; None without ids.
      recall: whether the best positive lies above every negative, of rows and columns.
      summary: the statistics of `similarity_summary`, of rows and columns.
      keep: save the similarities of the only tile for the backward pass: three products in all.
      key: which of a trip's key arrays; set by `sweeps`.
    """

    loss: str
    tile: int
    axis_name: tuple[str, ...] = ()
    both: bool = False
    same_id: str | None = None
    recall: bool = False
    summary: bool = False
    keep: bool = False
    key: int = 0

    def has_loss(self, axis: int) -> bool:
        return axis == 1 or self.both

    def has_soft_maximum(self, axis: int) -> bool:
        """Whether the loss's own sum of exponentials is over all negatives, as a summary's is."""
        return self.loss == "softmax" and self.has_loss(axis) and self.same_id != "ignore"


def make_plan(
    loss: str,
    batch: int,
    ids: jax.Array | None,
    same_id: str,
    axis_name: str | tuple[str, ...] | None,
    block_size: int | str | None,
) -> Plan | None:
    """The plan of a one-directional loss with these options, or None for the dense form.

    Raises:
      TypeError: `block_size` is neither None, an int nor a string.
      ValueError: it is below 1, or a string other than "auto".
    """
    size = _block_size(block_size)
    if size is None and not axis_name:
        return None
    tile = min({None: batch, "auto": TILE}.get(size, size), batch)
    keep = size == "auto" and batch <= DENSE_UP_TO and not axis_name
    return Plan(
        loss,
        tile=batch if keep else tile,
        axis_name=axis_names(axis_name),
        same_id=None if ids is None else same_id,
        keep=keep,
    )


def _block_size(block_size: int | str | None) -> int | str | None:
    """The same, checked."""
    if block_size is None or block_size == "auto":
        return block_size
    if isinstance(block_size, bool) or not isinstance(block_size, int | str):
        raise TypeError(f"block_size is {block_size!r}; expected None, an int or 'auto'")
    if isinstance(block_size, str) or block_size < 1:
        raise ValueError(f"block_size is {block_size!r}; expected at least 1, or 'auto'")
    return block_size


def axis_names(axis_name: str | tuple[str, ...] | None) -> tuple[str, ...]:
    """The axes as a tuple; empty for None."""
    return (axis_name,) if isinstance(axis_name, str) else tuple(axis_name or ())


def pair_masks(plan: Plan, rows: Side, columns: Side) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Which pairs of a tile are own pairs, other pairs of the same clip, and in the sums."""
    own = rows["index"][:, None] == columns["index"][None, :]
    if plan.same_id is None:
        return own, jnp.zeros_like(own), ~own
    same = (rows["ids"][:, None] == columns["ids"][None, :]) & ~own
    return own, same, ~(own | same) if plan.same_id == "ignore" else ~own


def start(plan: Plan, axis: int, batch: int, dtype) -> Side:
    """The statistics of no pairs at all."""
    names = {}
    if plan.loss == "softmax" and plan.has_loss(axis):
        names |= {"peak": jnp.finfo(dtype).min, "total": 0}
        if plan.same_id == "positive":
            names |= {"same": 0, "count": 0}
    elif plan.has_loss(axis):
        names |= {"softplus": 0}
    if plan.recall:
        names |= {"best_positive": -jnp.inf, "best_negative": -jnp.inf}
    if plan.summary:
        names |= {"seen": 0, "mean": 0, "scatter": 0}
        if not plan.has_soft_maximum(axis):
            names |= {"soft_peak": jnp.finfo(dtype).min, "soft_total": 0}
    start = {name: jnp.full(batch, value, dtype) for name, value in names.items()}
    if plan.summary:
        start["hardest"] = jnp.full((batch, HARDEST), -jnp.inf, dtype)
    return start


def gather(plan, axis, scores, masks, pairs: Side, scale, bias, side: Side) -> Side:
    """`side` with one more tile taken in."""
    own, same, used = masks
    side = dict(side)
    if plan.loss == "softmax" and plan.has_loss(axis):
        margin = scores - jnp.expand_dims(pairs["own"], axis)
        side["peak"], side["total"] = _add_exponentials(
            side["peak"], side["total"], jnp.where(used, margin * scale, -jnp.inf), axis
        )
        if plan.same_id == "positive":
            side["same"] += jnp.sum(jnp.where(same, margin, 0), axis)
            side["count"] += jnp.sum(same, axis)
    elif plan.has_loss(axis):
        logits = scores * scale + bias
        if plan.same_id == "positive":
            logits = jnp.where(same, -logits, logits)
        losses = jnp.maximum(logits, 0) + jnp.log1p(jnp.exp(-jnp.abs(logits)))
        side["softplus"] += jnp.sum(jnp.where(used, losses, 0), axis)
    if plan.recall:
        best = jnp.max(jnp.where(own | same, scores, -jnp.inf), axis)
        other = jnp.max(jnp.where(own | same, -jnp.inf, scores), axis)
        side["best_positive"] = jnp.maximum(side["best_positive"], best)
        side["best_negative"] = jnp.maximum(side["best_negative"], other)
    if plan.summary:
        logits = scores * scale
        side |= _gather_summary(axis, logits, ~own, side)
        if not plan.has_soft_maximum(axis):
            side["soft_peak"], side["soft_total"] = _add_exponentials(
                side["soft_peak"], side["soft_total"], jnp.where(own, -jnp.inf, logits), axis
            )
    return side


def _gather_summary(axis: int, logits: jax.Array, negative: jax.Array, side: Side) -> Side:
    """Hardest negatives, and mean and scatter, merged with those so far as by Chan et al."""
    masked = jnp.where(negative, logits, -jnp.inf)
    rows = masked if axis == 1 else masked.T
    hardest = lax.top_k(rows, min(HARDEST, rows.shape[1]))[0]
    hardest = lax.top_k(jnp.concatenate([side["hardest"], hardest], axis=1), HARDEST)[0]

    count = jnp.sum(negative, axis, dtype=logits.dtype)
    mean = jnp.sum(jnp.where(negative, logits, 0), axis) / jnp.maximum(count, 1)
    deviation = jnp.where(negative, logits - jnp.expand_dims(mean, axis), 0)
    seen, step = side["seen"] + count, mean - side["mean"]
    share = count / jnp.maximum(seen, 1)
    return {
        "hardest": hardest,
        "seen": seen,
        "mean": side["mean"] + step * share,
        "scatter": side["scatter"]
        + jnp.sum(deviation * deviation, axis)
        + step * step * side["seen"] * share,
    }


def _add_exponentials(peak, total, logits, axis) -> tuple[jax.Array, jax.Array]:
    """`total exp(peak)` plus the sum of `exp(logits)`, in the same form, with the new peak."""
    highest = jnp.maximum(peak, jnp.max(logits, axis))
    added = jnp.sum(jnp.exp(logits - jnp.expand_dims(highest, axis)), axis)
    return highest, total * jnp.exp(peak - highest) + added


def finish(plan: Plan, axis: int, side: Side, scale: jax.Array) -> Side:
    """What all tiles' statistics amount to."""
    side = dict(side)
    if plan.loss == "softmax" and plan.has_loss(axis):
        side["others"] = side.pop("peak") + jnp.log(side.pop("total"))
        if plan.same_id == "positive":
            side["target"] = scale * side.pop("same") / (side["count"] + 1)
    return side


def slopes(plan, axis, scores, masks, pairs: Side, scale, bias) -> jax.Array:
    """The gradient of one side's losses with respect to a tile's logits."""
    _, same, used = masks
    wide = functools.partial(jnp.expand_dims, axis=axis)
    if plan.loss == "sigmoid":
        logits = scores * scale + bias
        slope = wide(pairs["slope"])
        if plan.same_id == "positive":
            logits, slope = jnp.where(same, -logits, logits), jnp.where(same, -slope, slope)
        return jnp.where(used, slope * jax.nn.sigmoid(logits), 0)
    margin = (scores - wide(pairs["own"])) * scale - wide(pairs["others"])
    slope = jnp.where(used, wide(pairs["slope"]) * jnp.exp(margin), 0)
    if plan.same_id == "positive":
        slope += jnp.where(same, wide(pairs["target_slope"]), 0)
    return slope


def saved(plan: Plan, side: Side, cotangent: Side) -> Side:
    """What the backward tiles need to know of a row or column; empty if it has no loss."""
    if "softplus" in side:
        return {"slope": cotangent["softplus"]}
    if "others" not in side:
        return {}
    saved = {"slope": cotangent["others"], "others": side["others"]}
    if plan.same_id == "positive":
        saved["count"] = side["count"]
        saved["target_slope"] = cotangent["target"] / (side["count"] + 1)
    return saved


def outcomes(plan: Plan, axis: int, side: Side, own, scale, bias, total: int) -> Side:
    """Losses, pulls, hits and summaries, from what a sweep gathered and the own similarities."""
    found = {}
    if plan.loss == "sigmoid" and plan.has_loss(axis):
        logits = own * scale + bias
        found["loss"] = side["softplus"] + jax.nn.softplus(-logits)
        found["pull"] = scale * jax.nn.sigmoid(-logits)
    elif plan.has_loss(axis):
        # Zero in value: the sweep held `own` fixed, its gradient enters here.
        moved = scale * (lax.stop_gradient(own) - own)
        found["loss"] = jax.nn.softplus(side["others"] + moved)
        found["pull"] = scale * jax.nn.sigmoid(side["others"])
        if plan.same_id == "positive":
            share = side["count"] / (side["count"] + 1)
            found["loss"] -= side["target"] + moved * share
            found["pull"] -= scale * share
    if plan.recall:
        found["hit"] = (side["best_positive"] > side["best_negative"]).astype(own.dtype)
    if plan.summary:
        found["summary"] = _summary(plan, axis, side, own * scale, total)
    return {name: x if name == "loss" else lax.stop_gradient(x) for name, x in found.items()}


def _summary(plan: Plan, axis: int, side: Side, own: jax.Array, total: int) -> jax.Array:
    """The columns of `similarity_summary`, `[batch, 8]`, from a sweep's statistics."""
    if total == 1:
        return jnp.stack([own] * 7 + [jnp.zeros_like(own)], axis=1)
    hardest = side["hardest"][:, : total - 1]
    hardest = jnp.pad(hardest, ((0, 0), (0, HARDEST - hardest.shape[1])), mode="edge")
    if plan.has_soft_maximum(axis):
        soft_maximum = side["others"] + own - jnp.log(total - 1)
    else:
        soft_maximum = side["soft_peak"] + jnp.log(side["soft_total"] / (total - 1))
    spread = jnp.sqrt(side["scatter"] / (total - 1))
    return jnp.column_stack([own, hardest, soft_maximum, side["mean"], spread])
