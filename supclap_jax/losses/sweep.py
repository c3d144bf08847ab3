"""Every pair of a batch in one sweep of small tiles: the engine below the contrastive losses.

A sweep visits each similarity `s_ij = q_i . k_j` once and keeps one statistic per row and, where
asked, one per column; no batch-by-batch matrix exists. The backward pass visits the tiles again,
computes them anew and turns each into its share of the gradients: four products of
`2 batch^2 dim` operations in all (one forward; recompute, query gradient, key gradient backward),
memory linear in the batch.

On several devices each holds the rows and keys of its own pairs. The key blocks travel once round
the ring, with all that belongs to them: forward their columns' statistics, backward their
gradients. The next block's transfer is issued before the present block's products. Several sweeps
share the trip.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from supclap_jax.losses.tiles import (
    Plan,
    Side,
    axis_names,
    finish,
    gather,
    outcomes,
    pair_masks,
    saved,
    slopes,
    start,
)

Tree = Any


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
      "loss" `[batch]`, differentiable, and without gradient "pull" `[batch]`, by how much each
      loss falls as its own pair's similarity grows, and, where planned, "hit" `[batch]` (1 or 0)
      and "summary" `[batch, 8]`.
    """
    return sweeps([(plan, query, key)], logit_scale, logit_bias, ids)[0]


def sweeps(
    jobs: Sequence[tuple[Plan, jax.Array, jax.Array]],
    logit_scale: jax.Array | float,
    logit_bias: jax.Array | float = 0.0,
    ids: jax.Array | None = None,
) -> list[tuple[Side, Side]]:
    """`sweep` for each `(plan, query, key)` of the same pairs, on one trip round the ring.

    Keys that are the same object travel once, and so do the sums of their gradients. All plans
    have the same `axis_name` and `same_id`.
    """
    plans, queries, keys = zip(*jobs, strict=True)
    distinct = list({id(key): key for key in keys}.values())
    which = [next(i for i, known in enumerate(distinct) if known is key) for key in keys]
    plans = tuple(dataclasses.replace(plan, key=i) for plan, i in zip(plans, which, strict=True))
    batch, axes = queries[0].shape[0], plans[0].axis_name
    narrow = jnp.result_type(*queries, *keys)
    wide = jnp.promote_types(narrow, jnp.float32)
    queries = [x.astype(narrow) for x in queries]
    distinct = [x.astype(narrow) for x in distinct]
    scale, bias = jnp.asarray(logit_scale, wide), jnp.asarray(logit_bias, wide)
    ids = ids if plans[0].same_id else None
    arguments = (queries, distinct, scale, bias, ids)
    varying = set(axes).union(*map(_varying, jax.tree.leaves(arguments)))
    queries, distinct, scale, bias, ids = _vary(arguments, varying)
    owns = [
        jnp.sum(query.astype(wide) * distinct[i].astype(wide), axis=1)
        for query, i in zip(queries, which, strict=True)
    ]
    first = batch * lax.axis_index(axes) if axes else 0
    pairs = {"index": _vary(first + jnp.arange(batch), varying)}
    if ids is not None:
        pairs["ids"] = ids
    sides = _sweeps(plans, queries, distinct, lax.stop_gradient(owns), pairs, scale, bias)
    total = batch * _devices(axes)
    return [
        tuple(
            outcomes(plan, axis, side, own, scale, bias, total)
            for axis, side in zip((1, 0), both, strict=True)
        )
        for plan, own, both in zip(plans, owns, sides, strict=True)
    ]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _sweeps(plans: tuple[Plan, ...], queries, keys, owns, pairs: Side, scale, bias):
    """The finished statistics of rows and columns; differentiable in all but `owns`, `pairs`."""
    return _forward(plans, queries, keys, owns, pairs, scale, bias)[0]


def _forward(plans, queries, keys, owns, pairs, scale, bias):
    rows, blocks = _rows_and_blocks(plans, queries, keys, [{"own": own} for own in owns], pairs)

    def visit(blocks, column_states, row_states):
        visited = [
            _gather_block(plan, row, _columns(plan, blocks, n), scale, bias, *states)
            for n, (plan, row, *states) in enumerate(
                zip(plans, rows, column_states, row_states, strict=True)
            )
        ]
        return [list(states) for states in zip(*visited, strict=True)]

    batch, varying = queries[0].shape[0], _varying(queries[0])
    column_states = [start(plan, 0, batch, scale.dtype) for plan in plans]
    row_states = [(start(plan, 1, batch, scale.dtype), None) for plan in plans]
    states = _ring(plans[0].axis_name, visit, blocks, *_vary((column_states, row_states), varying))
    column_states, row_states = states
    row_states, kept = zip(*row_states, strict=True)
    sides = [
        tuple(finish(plan, axis, state, scale) for axis, state in ((1, row), (0, column)))
        for plan, row, column in zip(plans, row_states, column_states, strict=True)
    ]
    return sides, (queries, keys, owns, pairs, scale, bias, kept, sides)


def _backward(plans, residuals, cotangents):
    queries, keys, owns, pairs, scale, bias, kept, sides = residuals
    row_sides, column_sides = (
        [
            {"own": own, **saved(plan, side[i], cotangent[i])}
            for plan, own, side, cotangent in zip(plans, owns, sides, cotangents, strict=True)
        ]
        for i in (0, 1)
    )
    rows, blocks = _rows_and_blocks(plans, queries, keys, row_sides, pairs, column_sides)

    def visit(blocks, key_gradients, home):
        key_gradients, home = list(key_gradients), list(home)
        for n, plan in enumerate(plans):
            key_gradients[plan.key], home[n] = _differentiate_block(
                plan,
                rows[n],
                _columns(plan, blocks, n),
                scale,
                bias,
                kept[n],
                key_gradients[plan.key],
                home[n],
            )
        return key_gradients, home

    zeros, zero = jnp.zeros(queries[0].shape, scale.dtype), jnp.zeros_like(bias)
    nothing = ([zeros for _ in keys], [(zeros, zero) for _ in plans])
    nothing = _vary(nothing, _varying(queries[0]))
    key_gradients, home = _ring(plans[0].axis_name, visit, blocks, *nothing)
    query_gradients, bias_gradients = zip(*home, strict=True)
    scale_gradient = sum(
        _scale_gradient(plan, row, column, gradient)
        for plan, row, column, gradient in zip(
            plans, rows, column_sides, query_gradients, strict=True
        )
    )
    # Rounded here and now: fused into later sums, the wider accumulators would stay alive.
    query_gradients, key_gradients = lax.optimization_barrier(
        jax.tree.map(
            lambda x: (scale * x).astype(queries[0].dtype), (list(query_gradients), key_gradients)
        )
    )
    return query_gradients, key_gradients, None, None, scale_gradient, sum(bias_gradients)


_sweeps.defvjp(_forward, _backward)


def _rows_and_blocks(plans, queries, keys, row_sides, pairs, column_sides=None):
    """The rows of every sweep, and what travels: all that their columns are made of."""
    rows = [{"vector": q, **pairs, **side} for q, side in zip(queries, row_sides, strict=True)]
    return rows, {"keys": keys, "sides": column_sides or row_sides, "pairs": pairs}


def _columns(plan: Plan, blocks: Tree, n: int) -> Side:
    """The columns of the sweep number `n`."""
    return {"vector": blocks["keys"][plan.key], **blocks["pairs"], **blocks["sides"][n]}


def _scale_gradient(plan: Plan, rows: Side, columns: Side, query_gradient) -> jax.Array:
    """The logits are scale (q . k - own): the sum of slope times similarity is q . (slope k)."""
    gradient = jnp.sum(rows["vector"].astype(query_gradient.dtype) * query_gradient)
    if plan.loss == "softmax":
        for side in (rows, columns) if plan.both else (rows,):
            weight = side["slope"]
            if plan.same_id == "positive":
                weight += side["target_slope"] * side["count"]
            gradient -= jnp.sum(weight * side["own"])
    return gradient


# --- all tiles of two blocks, and all blocks of the ring ---


def _gather_block(plan: Plan, rows, columns, scale, bias, column_state, row_state):
    """The states of a block of columns and of the rows, with their tiles taken in."""

    def tile(i, m, j, n, states):
        row, column = _take(rows, i, m), _take(columns, j, n)
        scores, masks = _product(row["vector"], column["vector"].T), pair_masks(plan, row, column)
        column_state, (row_state, _) = states
        column_part, row_part = _take(column_state, j, n), _take(row_state, i, m)
        column_part = gather(plan, 0, scores, masks, column, scale, bias, column_part)
        row_part = gather(plan, 1, scores, masks, row, scale, bias, row_part)
        kept = scores if plan.keep else None
        return _put(column_state, column_part, j), (_put(row_state, row_part, i), kept)

    return _over_tiles(plan, tile, rows["vector"].shape[0], (column_state, row_state))


def _differentiate_block(plan: Plan, rows, columns, scale, bias, kept, key_gradient, home):
    """The gradients of a block of keys, of the queries and of the bias, with their tiles' share."""

    def tile(i, m, j, n, gradients):
        row, column = _take(rows, i, m), _take(columns, j, n)
        scores = kept if plan.keep else _product(row["vector"], column["vector"].T)
        masks = pair_masks(plan, row, column)
        slope = slopes(plan, 1, scores, masks, row, scale, bias)
        if plan.both:
            slope += slopes(plan, 0, scores, masks, column, scale, bias)
        key_gradient, (query_gradient, bias_gradient) = gradients
        if plan.loss == "sigmoid":
            bias_gradient += jnp.sum(slope)
        slope = slope.astype(row["vector"].dtype)
        key_gradient = _add(key_gradient, _product(slope.T, row["vector"]), j)
        query_gradient = _add(query_gradient, _product(slope, column["vector"]), i)
        return key_gradient, (query_gradient, bias_gradient)

    return _over_tiles(plan, tile, rows["vector"].shape[0], (key_gradient, home))


def _ring(
    axes: tuple[str, ...], visit: Callable, blocks: Tree, cargo: Tree, home: Tree
) -> tuple[Tree, Tree]:
    """`cargo, home = visit(blocks, cargo, home)` for every device's blocks and their cargo.

    Blocks and cargo move one device on after each visit; after the last the cargo is home.
    """
    devices = _devices(axes)
    if devices == 1:
        return visit(blocks, cargo, home)
    route = [(i, (i + 1) % devices) for i in range(devices)]

    def send(tree):
        return jax.tree.map(lambda x: lax.ppermute(x, axes, route), tree)

    def step(_, carry):
        blocks, cargo, home = carry
        upcoming = send(blocks)  # needs nothing of the visit: the transfer hides behind it
        cargo, home = visit(blocks, cargo, home)
        return upcoming, send(cargo), home

    return lax.fori_loop(0, devices, step, (blocks, cargo, home))[1:]


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


def _devices(axes: tuple[str, ...]) -> int:
    return lax.axis_size(axes) if axes else 1


def _varying(x: jax.Array) -> frozenset[str]:
    """Mesh axes on whose devices `x` may differ; empty outside of `jax.shard_map`."""
    return jax.typeof(x).manual_axis_type.varying


def _vary(tree: Tree, axes: Iterable[str]) -> Tree:
    """The same arrays, typed as different on the devices of `axes` (inside `jax.shard_map`)."""

    def vary(x):
        missing = tuple(set(axes) - _varying(x))
        return lax.pcast(x, missing, to="varying") if missing else x

    return jax.tree.map(vary, tree)
