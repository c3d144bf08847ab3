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

What a tile contributes is the affair of the base loss (`base.py`) and of the statistics beside it
(`batch_statistics.py`).
"""

import functools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from .base import Side, Tile
from .batch_statistics import Statistic
from .inputs import wide
from .ring import device_count, ring, vary, varying
from .tiles import Plan, Tree, add, over_tiles, pair_masks, product, put, take


class Job(NamedTuple):
    """One sweep of a trip: queries against one of the trip's arrays of keys.

    Attributes:
      query: float `[batch, dim]`; on several devices, this one's share.
      key: name of the keys.
      both: the loss of columns as well as of rows.
      statistics: gathered for rows and for columns.
    """

    query: jax.Array
    key: str
    both: bool = False
    statistics: tuple[Statistic, ...] = ()


class Sides(NamedTuple):
    """What a sweep knows of its rows, the queries, and of its columns, the keys."""

    rows: Side
    columns: Side


def losses_of(sides: Iterable[Side]) -> jax.Array:
    """The losses `[batch]` of a sweep, the mean of its sides that have one."""
    losses = [side["loss"] for side in sides if "loss" in side]
    return sum(losses) / len(losses)


def sweep(
    plan: Plan,
    query: jax.Array,
    key: jax.Array,
    logit_scale: jax.Array | float,
    logit_bias: jax.Array | float = 0.0,
    ids: jax.Array | None = None,
    mask: jax.Array | None = None,
    **options,
) -> Sides:
    """`sweeps` of a single job, `Job(query, key, **options)`."""
    job = Job(query, "key", **options)
    return sweeps(plan, [job], {"key": key}, logit_scale, logit_bias, ids, mask)[0]


def sweeps(
    plan: Plan,
    jobs: Sequence[Job],
    keys: dict[str, jax.Array],
    logit_scale: jax.Array | float,
    logit_bias: jax.Array | float = 0.0,
    ids: jax.Array | None = None,
    mask: jax.Array | None = None,
) -> list[Sides]:
    """The losses and statistics of every row and column, in one pass over all pairs for each job.

    All jobs share one trip round the ring. Keys that several of them name travel once, as do the
    sums of their gradients; keys that none names stay where they are.

    Cost of a job: `2 batch^2 dim` operations forward and three times that backward; beside the
    arguments and their gradients only tiles of `plan.tile^2` and vectors of `[batch]` are in
    memory.

    Args:
      plan: the loss, tiles and devices.
      jobs: sweeps over the same pairs.
      keys: float `[batch, dim]` by name; row i is the positive of every job's `query[i]`.
      logit_scale: scalar.
      logit_bias: scalar, of losses that take one.
      ids: int `[batch]`, where `plan.same_id` is set.
      mask: bool `[batch]`, False for padded pairs, whose vectors are zero; None: there are none.

    Returns:
      For rows and columns of each job a dict of float32 arrays (float64 for float64 inputs):
      "loss" `[batch]`, differentiable, and without gradient "pull" `[batch]`, by how much each
      loss falls as its own pair's similarity grows, and the outcomes of the job's statistics.
    """
    keys = {name: keys[name] for name in dict.fromkeys(job.key for job in jobs)}
    queries = [job.query for job in jobs]
    batch, axes = queries[0].shape[0], plan.axis_name
    vectors = [*queries, *keys.values()]
    dtype, narrow = wide(*vectors), vectors[0].dtype
    if any(x.dtype != narrow for x in vectors):
        narrow = dtype
    queries, keys = jax.tree.map(lambda x: x.astype(narrow), (queries, keys))
    scale, bias = jnp.asarray(logit_scale, dtype), jnp.asarray(logit_bias, dtype)
    arguments = (queries, keys, scale, bias, ids if plan.same_id else None, mask)
    differing = set(axes).union(*map(varying, jax.tree.leaves(arguments)))
    queries, keys, scale, bias, ids, mask = vary(arguments, differing)
    owns = [
        jnp.sum(query.astype(dtype) * keys[job.key].astype(dtype), axis=1)
        for query, job in zip(queries, jobs, strict=True)
    ]
    first = batch * lax.axis_index(axes) if axes else 0
    pairs = {"index": vary(first + jnp.arange(batch), differing)}
    if ids is not None:
        pairs["ids"] = ids
    if mask is not None:
        pairs["mask"] = mask
    without_arrays = tuple(job._replace(query=None) for job in jobs)
    sides = _sweeps(
        plan, without_arrays, queries, keys, lax.stop_gradient(owns), pairs, scale, bias
    )
    total = batch * device_count(axes) if mask is None else lax.psum(jnp.sum(mask), axes)
    return [
        Sides(
            _outcomes(plan, job, 1, rows, own, scale, bias, total),
            _outcomes(plan, job, 0, columns, own, scale, bias, total),
        )
        for job, own, (rows, columns) in zip(jobs, owns, sides, strict=True)
    ]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _sweeps(plan: Plan, jobs: tuple[Job, ...], queries, keys, owns, pairs: Side, scale, bias):
    """The finished statistics of rows and columns; differentiable in all but `owns`, `pairs`."""
    return _forward(plan, jobs, queries, keys, owns, pairs, scale, bias)[0]


def _forward(plan, jobs, queries, keys, owns, pairs, scale, bias):
    rows, blocks = _rows_and_blocks(queries, keys, [{"own": own} for own in owns], pairs)

    def visit(blocks, column_states, row_states):
        visited = [
            _gather_block(plan, job, row, _columns(job, n, blocks), scale, bias, *states)
            for n, (job, row, *states) in enumerate(
                zip(jobs, rows, column_states, row_states, strict=True)
            )
        ]
        return [list(states) for states in zip(*visited, strict=True)]

    batch, differing = queries[0].shape[0], varying(queries[0])
    column_states = [_start(plan, job, 0, batch, scale.dtype) for job in jobs]
    row_states = [(_start(plan, job, 1, batch, scale.dtype), None) for job in jobs]
    states = vary((column_states, row_states), differing)
    column_states, row_states = ring(plan.axis_name, visit, blocks, *states)
    row_states, kept = zip(*row_states, strict=True)
    sides = [
        Sides(_finish(plan, job, 1, row, scale), _finish(plan, job, 0, column, scale))
        for job, row, column in zip(jobs, row_states, column_states, strict=True)
    ]
    return sides, (queries, keys, owns, pairs, scale, bias, kept, sides)


def _backward(plan, jobs, residuals, cotangents):
    queries, keys, owns, pairs, scale, bias, kept, sides = residuals
    row_sides, column_sides = [], []
    for job, own, side, cotangent in zip(jobs, owns, sides, cotangents, strict=True):
        row_sides.append({"own": own} | plan.base.saved(side.rows, cotangent.rows))
        column_sides.append({"own": own})
        if plan.base.has_loss(0, job.both):
            column_sides[-1] |= plan.base.saved(side.columns, cotangent.columns)
    rows, blocks = _rows_and_blocks(queries, keys, row_sides, pairs, column_sides)

    def visit(blocks, key_gradients, home):
        key_gradients, home = dict(key_gradients), list(home)
        for n, job in enumerate(jobs):
            key_gradients[job.key], home[n] = _differentiate_block(
                plan,
                job,
                rows[n],
                _columns(job, n, blocks),
                scale,
                bias,
                kept[n],
                key_gradients[job.key],
                home[n],
            )
        return key_gradients, home

    zeros, zero = jnp.zeros(queries[0].shape, scale.dtype), jnp.zeros_like(bias)
    nothing = (dict.fromkeys(keys, zeros), [(zeros, zero) for _ in jobs])
    nothing = vary(nothing, varying(queries[0]))
    key_gradients, home = ring(plan.axis_name, visit, blocks, *nothing)
    query_gradients, bias_gradients = zip(*home, strict=True)
    scale_gradient = sum(
        _scale_gradient(plan, job, row, column, gradient)
        for job, row, column, gradient in zip(
            jobs, rows, column_sides, query_gradients, strict=True
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


def _rows_and_blocks(queries, keys, row_sides, pairs, column_sides=None):
    """The rows of every sweep, and what travels: all that their columns are made of."""
    rows = [{"vector": q, **pairs, **side} for q, side in zip(queries, row_sides, strict=True)]
    return rows, {"keys": keys, "sides": column_sides or row_sides, "pairs": pairs}


def _columns(job: Job, n: int, blocks: Tree) -> Side:
    """The columns of the job number `n`."""
    return {"vector": blocks["keys"][job.key], **blocks["pairs"], **blocks["sides"][n]}


def _scale_gradient(plan: Plan, job: Job, rows: Side, columns: Side, query_gradient) -> jax.Array:
    """The sum of slope times similarity is q . (slope k); the loss may correct it."""
    gradient = jnp.sum(rows["vector"].astype(query_gradient.dtype) * query_gradient)
    for axis, side in ((1, rows), (0, columns)):
        if plan.base.has_loss(axis, job.both):
            gradient += plan.base.scale_correction(side)
    return gradient


# --- all tiles of two blocks ---


def _gather_block(plan: Plan, job: Job, rows, columns, scale, bias, column_state, row_state):
    """The states of a block of columns and of the rows, with their tiles taken in."""

    def tile(i, m, j, n, states):
        row, column = take(rows, i, m), take(columns, j, n)
        scores, masks = (
            product(row["vector"], column["vector"].T),
            pair_masks(plan.same_id, row, column),
        )
        column_state, (row_state, _) = states
        column_part, row_part = take(column_state, j, n), take(row_state, i, m)
        of_columns, of_rows = (
            Tile(scores, *masks, plan.same_id, axis, pairs, scale, bias)
            for axis, pairs in ((0, column), (1, row))
        )
        column_part = _gather(plan, job, of_columns, column_part)
        row_part = _gather(plan, job, of_rows, row_part)
        kept = scores if plan.keep else None
        return put(column_state, column_part, j), (put(row_state, row_part, i), kept)

    return over_tiles(plan.tile, tile, rows["vector"].shape[0], (column_state, row_state))


def _differentiate_block(plan: Plan, job: Job, rows, columns, scale, bias, kept, of_keys, home):
    """The gradients of a block of keys, of the queries and of the bias, with their tiles' share."""
    base = plan.base

    def tile(i, m, j, n, gradients):
        row, column = take(rows, i, m), take(columns, j, n)
        scores = kept if plan.keep else product(row["vector"], column["vector"].T)
        masks = pair_masks(plan.same_id, row, column)
        slope = base.slopes(Tile(scores, *masks, plan.same_id, 1, row, scale, bias))
        if base.has_loss(0, job.both):
            slope += base.slopes(Tile(scores, *masks, plan.same_id, 0, column, scale, bias))
        key_gradient, (query_gradient, bias_gradient) = gradients
        if base.takes_bias:
            bias_gradient += jnp.sum(slope)
        slope = slope.astype(row["vector"].dtype)
        key_gradient = add(key_gradient, product(slope.T, row["vector"]), j)
        query_gradient = add(query_gradient, product(slope, column["vector"]), i)
        return key_gradient, (query_gradient, bias_gradient)

    return over_tiles(plan.tile, tile, rows["vector"].shape[0], (of_keys, home))


# --- one side: the loss, where it has one, and the statistics beside it ---


def _start(plan: Plan, job: Job, axis: int, batch: int, dtype) -> Side:
    side, summed = {}, False
    if plan.base.has_loss(axis, job.both):
        side = plan.base.start(plan.same_id, batch, dtype)
        summed = plan.base.sums_all_negatives(plan.same_id)
    for statistic in job.statistics:
        side |= statistic.start(batch, dtype, summed)
    return side


def _gather(plan: Plan, job: Job, tile: Tile, side: Side) -> Side:
    has_loss = plan.base.has_loss(tile.axis, job.both)
    gathered = plan.base.gather(tile, side) if has_loss else {}
    for statistic in job.statistics:
        gathered |= statistic.gather(tile, side)
    return gathered


def _finish(plan: Plan, job: Job, axis: int, side: Side, scale) -> Side:
    return plan.base.finish(side, scale) if plan.base.has_loss(axis, job.both) else side


def _outcomes(plan: Plan, job: Job, axis: int, side: Side, own, scale, bias, total) -> Side:
    has_loss = plan.base.has_loss(axis, job.both)
    found = plan.base.outcomes(side, own, scale, bias) if has_loss else {}
    for statistic in job.statistics:
        found |= statistic.outcomes(side, own, scale, total)
    return {name: x if name == "loss" else lax.stop_gradient(x) for name, x in found.items()}
