"""A block of rows against a block of columns: all of their tiles, forward and backward."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from .base import Side, Tile
from .batch_statistics import Statistic
from .pairs import pair_masks
from .tiles import Plan, add, over_tiles, product, put, take


class Job(NamedTuple):
    """One sweep of an exchange: queries against one of its arrays of keys.

    Attributes:
      query: float `[queries, dim]`; on several devices, this one's share.
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


def gather_block(plan: Plan, job: Job, rows, columns, scale, bias, column_state, row_state):
    """The states of a block of columns and of the rows, with their tiles taken in."""

    def tile(i, m, j, n, states):
        row, column = take(rows, i, m), take(columns, j, n)
        scores = product(row["vector"], column["vector"].T)
        masks = pair_masks(plan.same_id, row, column)
        column_state, (row_state, _) = states
        of_columns, of_rows = (
            gather_tile(plan, job, Tile(scores, *masks, plan.same_id, axis, pairs, scale, bias))
            for axis, pairs in ((0, column), (1, row))
        )
        column_state = put(
            column_state, merge_states(plan, job, take(column_state, j, n), of_columns), j
        )
        row_state = put(row_state, merge_states(plan, job, take(row_state, i, m), of_rows), i)
        return column_state, (row_state, scores if plan.keep else None)

    sizes = rows["vector"].shape[0], columns["vector"].shape[0]
    return over_tiles(plan.tile, tile, *sizes, (column_state, row_state))


def differentiate_block(plan: Plan, job: Job, rows, columns, scale, bias, kept, of_keys, home):
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

    sizes = rows["vector"].shape[0], columns["vector"].shape[0]
    return over_tiles(plan.tile, tile, *sizes, (of_keys, home))


# --- one side: the statistics of the loss, where it has one, and those beside it ---


def start_state(plan: Plan, job: Job, axis: int, pairs: int, dtype) -> list[Side]:
    has_loss = plan.base.has_loss(axis, job.both)
    of_loss = plan.base.start(plan.same_id, pairs, dtype) if has_loss else {}
    return [of_loss, *(statistic.start(pairs, dtype) for statistic in job.statistics)]


def gather_tile(plan: Plan, job: Job, tile: Tile) -> list[Side]:
    of_loss = plan.base.gather(tile) if plan.base.has_loss(tile.axis, job.both) else {}
    return [of_loss, *(statistic.gather(tile) for statistic in job.statistics)]


def merge_states(plan: Plan, job: Job, one: list[Side], other: list[Side]) -> list[Side]:
    of_loss = plan.base.merge(one[0], other[0]) if one[0] else {}
    beside = zip(job.statistics, one[1:], other[1:], strict=True)
    return [of_loss, *(statistic.merge(*sides) for statistic, *sides in beside)]


def finish_state(plan: Plan, job: Job, axis: int, state: list[Side], scale) -> Side:
    of_loss, *beside = state
    if plan.base.has_loss(axis, job.both):
        of_loss = plan.base.finish(of_loss, scale)
    return {name: x for side in (of_loss, *beside) for name, x in side.items()}


def outcomes_of(plan: Plan, job: Job, axis: int, side: Side, own, scale, bias, total) -> Side:
    has_loss = plan.base.has_loss(axis, job.both)
    found = plan.base.outcomes(side, own, scale, bias) if has_loss else {}
    for statistic in job.statistics:
        found |= statistic.outcomes(side, own, scale, total)
    return {name: x if name == "loss" else lax.stop_gradient(x) for name, x in found.items()}
