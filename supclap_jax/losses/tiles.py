"""Every pair of a batch in one sweep of small tiles: the engine below the contrastive losses.

A sweep visits each similarity `s_ij = q_i . k_j` once and keeps one statistic per row and, where
asked, one per column; no batch-by-batch matrix exists. The backward pass visits the tiles again,
computes them anew and turns each into its share of the gradients: four products of
`2 batch^2 dim` operations in all (one forward; recompute, query gradient, key gradient backward),
memory linear in the batch.

Own pairs (the diagonal) never enter a tile's sums: `own_i = q_i . k_i` is a row-wise dot outside.
With `z_i = log sum_{j != i} exp(scale (s_ij - own_i))` the cross entropy of row i is
`log(1 + exp z_i)`, which keeps its digits when the loss is nearly zero.

On several devices each holds the rows and keys of its own pairs. The key blocks travel once round
the ring, with all that belongs to them: forward their columns' statistics, backward their
gradients. The next block's transfer is issued before the present block's products.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from supclap_jax.losses.similarity import HARDEST

TILE = 1024  # rows and columns of an automatic tile
DENSE_UP_TO = 4096  # batch up to which "auto" takes one tile and keeps it: three products

Tree = Any
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
    """

    loss: str
    tile: int
    axis_name: tuple[str, ...] = ()
    both: bool = False
    same_id: str | None = None
    recall: bool = False
    summary: bool = False
    keep: bool = False

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


def global_mean(x: jax.Array, axis_name: str | tuple[str, ...] | None) -> jax.Array:
    """The mean of all entries on all devices of `axis_name`, the same on each of them."""
    mean = jnp.mean(x)
    return lax.pmean(mean, axis_names(axis_name)) if axis_name else mean


def mean_loss(sides: Iterable[Side], axis_name: str | tuple[str, ...] | None) -> jax.Array:
    """The mean of a sweep's losses, over its sides that have one and over all pairs."""
    losses = [side["loss"] for side in sides if "loss" in side]
    return global_mean(sum(losses) / len(losses), axis_name)


def sweep(
    plan: Plan,
    query: jax.Array,
    key: jax.Array,
    logit_scale: jax.Array | float,
    logit_bias: jax.Array | float = 0.0,
    ids: jax.Array | None = None,
) -> tuple[Side, Side]:
    """The losses and statistics of every row and column, in one pass over all pairs.

    Cost: `2 batch^2 dim` operations forward and three times that backward; beside the arguments
    and their gradients only tiles of `plan.tile^2` and vectors of `[batch]` are in memory.

    Args:
      plan: what to gather.
      query: float `[batch, dim]`; on several devices, this one's share.
      key: float `[batch, dim]`; `key[i]` is the positive of `query[i]`.
      logit_scale: scalar.
      logit_bias: scalar, of "sigmoid" alone.
      ids: int `[batch]`, where `plan.same_id` is set.

    Returns:
      For rows and for columns a dict of float32 arrays (float64 for float64 inputs):
      "loss" `[batch]`, differentiable, and without gradient "hit" `[batch]` (1 or 0) and
      "summary" `[batch, 8]` where planned.
    """
    batch = query.shape[0]
    dtype = jnp.promote_types(jnp.promote_types(query.dtype, key.dtype), jnp.float32)
    query, key = (x.astype(jnp.promote_types(query.dtype, key.dtype)) for x in (query, key))
    scale, bias = jnp.asarray(logit_scale, dtype), jnp.asarray(logit_bias, dtype)
    arguments = (query, key, scale, bias, ids)
    varying = set(plan.axis_name).union(*map(_varying, jax.tree.leaves(arguments)))
    query, key, scale, bias, ids = _vary(arguments, varying)
    own = jnp.sum(query.astype(dtype) * key.astype(dtype), axis=1)
    first = batch * lax.axis_index(plan.axis_name) if plan.axis_name else 0
    pairs = {"index": first + jnp.arange(batch), "own": lax.stop_gradient(own)}
    if plan.same_id:
        pairs["ids"] = ids
    sides = _sweep(plan, query, key, _vary(pairs, varying), scale, bias)
    total = batch * _devices(plan)
    return tuple(
        _outcome(plan, axis, side, own, scale, bias, total)
        for axis, side in zip((1, 0), sides, strict=True)
    )


def _outcome(plan, axis, side: Side, own, scale, bias, total) -> Side:
    """Losses, hits and summaries from what a sweep gathered; adds what own pairs contribute."""
    outcome = {}
    if plan.loss == "sigmoid" and plan.has_loss(axis):
        outcome["loss"] = side["softplus"] + jax.nn.softplus(-(own * scale + bias))
    elif plan.has_loss(axis):
        # Zero in value: the sweep held `own` fixed, its gradient enters here.
        moved = scale * (lax.stop_gradient(own) - own)
        outcome["loss"] = jax.nn.softplus(side["others"] + moved)
        if plan.same_id == "positive":
            share = side["count"] / (side["count"] + 1)
            outcome["loss"] -= side["target"] + moved * share
    if plan.recall:
        outcome["hit"] = (side["best_positive"] > side["best_negative"]).astype(own.dtype)
    if plan.summary:
        outcome["summary"] = lax.stop_gradient(_summary(plan, axis, side, own * scale, total))
    return outcome


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


# --- one tile: scores [rows, columns]; axis 1 makes statistics of rows, axis 0 of columns ---


def _masks(plan: Plan, rows: Side, columns: Side) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Which pairs of a tile are own pairs, other pairs of the same clip, and in the sums."""
    own = rows["index"][:, None] == columns["index"][None, :]
    if plan.same_id is None:
        return own, jnp.zeros_like(own), ~own
    same = (rows["ids"][:, None] == columns["ids"][None, :]) & ~own
    return own, same, ~(own | same) if plan.same_id == "ignore" else ~own


def _start(plan: Plan, axis: int, batch: int, dtype) -> Side:
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


def _gather(plan, axis, scores, masks, pairs: Side, scale, bias, side: Side) -> Side:
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


def _finish(plan: Plan, axis: int, side: Side, scale: jax.Array) -> Side:
    """What all tiles' statistics amount to."""
    side = dict(side)
    if plan.loss == "softmax" and plan.has_loss(axis):
        side["others"] = side.pop("peak") + jnp.log(side.pop("total"))
        if plan.same_id == "positive":
            side["target"] = scale * side.pop("same") / (side["count"] + 1)
    return side


def _slope(plan, axis, scores, masks, pairs: Side, scale, bias) -> jax.Array:
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


# --- all tiles of two blocks, and all blocks of the ring ---


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _sweep(plan: Plan, query, key, pairs: Side, scale, bias) -> tuple[Side, Side]:
    """The finished statistics of rows and columns; differentiable in all but `pairs`."""
    return _forward(plan, query, key, pairs, scale, bias)[0]


def _forward(plan: Plan, query, key, pairs, scale, bias):
    rows, columns = {"vector": query, **pairs}, {"vector": key, **pairs}

    def visit(columns, column_state, home):
        def tile(i, m, j, n, states):
            row, column = _take(rows, i, m), _take(columns, j, n)
            scores, masks = _product(row["vector"], column["vector"].T), _masks(plan, row, column)
            column_state, (row_state, _) = states
            column_part, row_part = _take(column_state, j, n), _take(row_state, i, m)
            column_part = _gather(plan, 0, scores, masks, column, scale, bias, column_part)
            row_part = _gather(plan, 1, scores, masks, row, scale, bias, row_part)
            kept = scores if plan.keep else None
            return _put(column_state, column_part, j), (_put(row_state, row_part, i), kept)

        return _over_tiles(plan, tile, query.shape[0], (column_state, home))

    row_start, column_start = _vary(
        tuple(_start(plan, axis, query.shape[0], scale.dtype) for axis in (1, 0)), _varying(query)
    )
    column_state, (row_state, kept) = _ring(plan, visit, columns, column_start, (row_start, None))
    row_side, column_side = (
        _finish(plan, axis, state, scale) for axis, state in ((1, row_state), (0, column_state))
    )
    return (row_side, column_side), (query, key, pairs, scale, bias, kept, row_side, column_side)


def _backward(plan: Plan, residuals, cotangents):
    query, key, pairs, scale, bias, kept, *sides = residuals
    rows, columns = (
        {"vector": vector, **pairs, **_saved(plan, side, cotangent)}
        for vector, side, cotangent in zip((query, key), sides, cotangents, strict=True)
    )

    def visit(columns, key_gradient, home):
        def tile(i, m, j, n, gradients):
            row, column = _take(rows, i, m), _take(columns, j, n)
            scores = kept if plan.keep else _product(row["vector"], column["vector"].T)
            masks = _masks(plan, row, column)
            slope = _slope(plan, 1, scores, masks, row, scale, bias)
            if plan.both:
                slope += _slope(plan, 0, scores, masks, column, scale, bias)
            key_gradient, (query_gradient, bias_gradient) = gradients
            if plan.loss == "sigmoid":
                bias_gradient += jnp.sum(slope)
            slope = slope.astype(query.dtype)
            key_gradient = _add(key_gradient, _product(slope.T, row["vector"]), j)
            query_gradient = _add(query_gradient, _product(slope, column["vector"]), i)
            return key_gradient, (query_gradient, bias_gradient)

        return _over_tiles(plan, tile, query.shape[0], (key_gradient, home))

    zeros = jnp.zeros(query.shape, scale.dtype)
    zeros = _vary((zeros, (zeros, jnp.zeros_like(bias))), _varying(query))
    key_gradient, (query_gradient, bias_gradient) = _ring(plan, visit, columns, *zeros)
    # The logits are scale (q . k - own): the sum of slope times similarity is q . (slope k).
    scale_gradient = jnp.sum(query.astype(scale.dtype) * query_gradient)
    if plan.loss == "softmax":
        for side in (rows, columns) if plan.both else (rows,):
            weight = side["slope"]
            if plan.same_id == "positive":
                weight += side["target_slope"] * side["count"]
            scale_gradient -= jnp.sum(weight * pairs["own"])
    # Rounded here and now: fused into later sums, the wider accumulators would stay alive.
    query_gradient, key_gradient = lax.optimization_barrier(
        tuple((scale * x).astype(query.dtype) for x in (query_gradient, key_gradient))
    )
    return query_gradient, key_gradient, None, scale_gradient, bias_gradient


_sweep.defvjp(_forward, _backward)


def _saved(plan: Plan, side: Side, cotangent: Side) -> Side:
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


def _ring(plan: Plan, visit: Callable, columns: Tree, cargo: Tree, home: Tree) -> tuple[Tree, Tree]:
    """`cargo, home = visit(columns, cargo, home)` for every device's columns and their cargo.

    Columns and cargo move one device on after each visit; after the last the cargo is home.
    """
    devices = _devices(plan)
    if devices == 1:
        return visit(columns, cargo, home)
    route = [(i, (i + 1) % devices) for i in range(devices)]

    def send(tree):
        return jax.tree.map(lambda x: lax.ppermute(x, plan.axis_name, route), tree)

    def step(_, carry):
        columns, cargo, home = carry
        upcoming = send(columns)  # needs nothing of the visit: the transfer hides behind it
        cargo, home = visit(columns, cargo, home)
        return upcoming, send(cargo), home

    return lax.fori_loop(0, devices, step, (columns, cargo, home))[1:]


def _over_tiles(plan: Plan, tile: Callable, batch: int, carry: Tree) -> Tree:
    """`carry = tile(i, m, j, n, carry)` for the rows i to i+m and columns j to j+n of each tile."""

    def column_block(j, n, carry):
        return _over_blocks(lambda i, m, carry: tile(i, m, j, n, carry), batch, plan.tile, carry)

    return _over_blocks(column_block, batch, plan.tile, carry)


def _over_blocks(body: Callable, length: int, size: int, carry: Tree) -> Tree:
    """`carry = body(start, size, carry)` for consecutive blocks; the last one may be smaller."""
    whole, rest = divmod(length, size)
    if whole == 1:
        carry = body(0, size, carry)
    elif whole:
        carry = lax.fori_loop(0, whole, lambda k, carry: body(k * size, size, carry), carry)
    return body(whole * size, rest, carry) if rest else carry


def _product(x: jax.Array, y: jax.Array) -> jax.Array:
    """`x @ y` in the inputs' own precision, accumulated in float32 (float64 for float64 inputs)."""
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    return jnp.matmul(x, y, precision=lax.Precision.HIGHEST, preferred_element_type=dtype)


def _take(tree: Tree, start: Any, size: int) -> Tree:
    return jax.tree.map(lambda x: lax.dynamic_slice_in_dim(x, start, size), tree)


def _put(tree: Tree, part: Tree, start: Any) -> Tree:
    return jax.tree.map(
        lambda x, part: lax.dynamic_update_slice_in_dim(x, part, start, 0), tree, part
    )


def _add(x: jax.Array, part: jax.Array, start: Any) -> jax.Array:
    return _put(x, _take(x, start, part.shape[0]) + part, start)


def _devices(plan: Plan) -> int:
    return lax.axis_size(plan.axis_name) if plan.axis_name else 1


def _varying(x: jax.Array) -> frozenset[str]:
    """Mesh axes on whose devices `x` may differ; empty outside of `jax.shard_map`."""
    return jax.typeof(x).manual_axis_type.varying


def _vary(tree: Tree, axes: Iterable[str]) -> Tree:
    """The same arrays, typed as different on the devices of `axes` (inside `jax.shard_map`)."""

    def vary(x):
        missing = tuple(set(axes) - _varying(x))
        return lax.pcast(x, missing, to="varying") if missing else x

    return jax.tree.map(vary, tree)
