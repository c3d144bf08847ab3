"""Every pair of a batch in one sweep of small tiles: the engine below the contrastive losses.

A sweep visits each similarity `s_ij = q_i . k_j` once and keeps one statistic per row and, where
asked, one per column; no batch-by-batch matrix exists. The backward pass visits the tiles again,
computes them anew and turns each into its share of the gradients: four products of
`2 batch^2 dim` operations in all (one forward; recompute, query gradient, key gradient backward),
memory linear in the batch.

On several devices each holds its share of the rows and of the keys. What is gathered for columns is
an exchange's contribution (`exchange.py`), forward their statistics, backward their gradients; what
is gathered for rows stays at home. Several sweeps share one exchange.

What a tile contributes is the affair of the base loss (`base.py`) and of the statistics beside it
(`batch_statistics.py`).
"""

import functools
from collections.abc import Iterable, Sequence

import jax
import jax.numpy as jnp
from jax import lax

from .base import Side
from .blocks import (
    Job,
    Sides,
    differentiate_block,
    finish_state,
    gather_block,
    merge_states,
    outcomes_of,
    start_state,
)
from .devices import device_count, vary, varying
from .exchange import exchange, fetch
from .inputs import wide
from .pairs import Pairs, numbered, targets
from .tiles import Plan, Tree


def losses_of(sides: Iterable[Side]) -> jax.Array:
    """The losses `[batch]` of a sweep, the mean of its sides that have one."""
    losses = [side["loss"] for side in sides if "loss" in side]
    return sum(losses) / len(losses)


def sweep(
    plan: Plan,
    query: jax.Array,
    key: jax.Array,
    logit_scale: jax.Array | float,
    pairs: Pairs,
    logit_bias: jax.Array | float = 0.0,
    **options,
) -> Sides:
    """`sweeps` of a single job, `Job(query, key, **options)`."""
    job = Job(query, "key", **options)
    return sweeps(plan, [job], {"key": key}, logit_scale, pairs, logit_bias)[0]


def sweeps(
    plan: Plan,
    jobs: Sequence[Job],
    keys: dict[str, jax.Array],
    logit_scale: jax.Array | float,
    pairs: Pairs,
    logit_bias: jax.Array | float = 0.0,
) -> list[Sides]:
    """The losses and statistics of every row and column, in one pass over all pairs for each job.

    All jobs share one exchange. Keys that several of them name travel once, as do the sums of their
    gradients; keys that none names stay where they are.

    Cost of a job: `2 queries keys dim` operations forward and three times that backward; beside the
    arguments and their gradients only tiles of `plan.tile^2` and vectors of `[queries]` and
    `[keys]` are in memory.

    Args:
      plan: the loss, tiles and devices.
      jobs: sweeps over the same pairs.
      keys: float `[keys, dim]` by name; on several devices, this one's share.
      logit_scale: scalar.
      pairs: ids, where `plan.same_id` is set, padding, and targets, with which no job is of both
        sides. Vectors of padded rows are zero.
      logit_bias: scalar, of losses that take one.

    Returns:
      For rows and columns of each job a dict of float32 arrays (float64 for float64 inputs):
      "loss" `[queries]`, differentiable, and without gradient "pull" `[queries]`, by how much each
      loss falls as its own pair's similarity grows, and the outcomes of the job's statistics. What
      has neither loss nor statistics is empty. The loss of a query whose target is no key is nan.
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
    if plan.same_id is None:
        pairs = pairs._replace(ids=None, key_ids=None)
    arguments = (queries, keys, scale, bias, pairs)
    differing = set(axes).union(*map(varying, jax.tree.leaves(arguments)))
    queries, keys, scale, bias, pairs = vary(arguments, differing)
    first = batch * lax.axis_index(axes) if axes else 0
    target = vary(targets(pairs, first, batch), differing)
    of_rows = {"index": target} | pairs.of_queries()
    owns = [
        _own(plan, query, keys[job.key], pairs, target)
        for query, job in zip(queries, jobs, strict=True)
    ]
    without_arrays = tuple(job._replace(query=None) for job in jobs)
    fixed = (lax.stop_gradient(owns), of_rows, pairs.of_keys())
    sides = _sweeps(plan, without_arrays, queries, keys, fixed, scale, bias)
    total = batch * device_count(axes)
    if pairs.mask is not None:
        total = lax.psum(jnp.sum(pairs.mask), axes)
    return [
        Sides(
            outcomes_of(plan, job, 1, rows, own, scale, bias, total),
            outcomes_of(plan, job, 0, columns, own, scale, bias, total),
        )
        for job, own, (rows, columns) in zip(jobs, owns, sides, strict=True)
    ]


def _own(plan: Plan, query, key, pairs: Pairs, target) -> jax.Array:
    """The similarity `[queries]` of each query and its positive; nan where it has none."""
    dtype = wide(query, key)
    if pairs.target is None:
        return jnp.sum(query.astype(dtype) * key.astype(dtype), axis=1)
    present = pairs.of_keys().get("mask")
    positive, is_known = fetch(plan.axis_name, plan.gathered, key, present, target)
    own = jnp.sum(query.astype(dtype) * positive, axis=1)
    if pairs.mask is not None:
        is_known |= ~pairs.mask
    return jnp.where(is_known, own, jnp.nan)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _sweeps(plan: Plan, jobs: tuple[Job, ...], queries, keys, fixed, scale, bias):
    """The finished statistics of rows and columns; differentiable in all but `fixed`."""
    return _forward(plan, jobs, queries, keys, fixed, scale, bias)[0]


def _forward(plan, jobs, queries, keys, fixed, scale, bias):
    owns, of_rows, of_columns = fixed
    rows = _rows(queries, owns, of_rows)
    blocks = _blocks(keys, _column_sides(plan, jobs, owns), of_columns)

    def visit(first, blocks, column_states, row_states):
        visited = [
            gather_block(plan, job, row, _columns(job, n, first, blocks), scale, bias, *states)
            for n, (job, row, *states) in enumerate(
                zip(jobs, rows, column_states, row_states, strict=True)
            )
        ]
        return [list(states) for states in zip(*visited, strict=True)]

    def start(axis, pairs):
        return vary([start_state(plan, job, axis, pairs, scale.dtype) for job in jobs], differing)

    def merge(*states):
        return [merge_states(plan, *of_job) for of_job in zip(jobs, *states, strict=True)]

    columns, differing = keys[jobs[0].key].shape[0], varying(queries[0])
    column_states, row_states = exchange(
        plan.axis_name,
        plan.gathered,
        columns,
        visit,
        blocks,
        functools.partial(start, 0),
        [(state, None) for state in start(1, queries[0].shape[0])],
        merge,
    )
    row_states, kept = zip(*row_states, strict=True)
    sides = [
        Sides(finish_state(plan, job, 1, row, scale), finish_state(plan, job, 0, column, scale))
        for job, row, column in zip(jobs, row_states, column_states, strict=True)
    ]
    return sides, (queries, keys, fixed, scale, bias, kept, sides)


def _backward(plan, jobs, residuals, cotangents):
    queries, keys, (owns, of_rows, of_columns), scale, bias, kept, sides = residuals
    rows, column_sides = _rows(queries, owns, of_rows), _column_sides(plan, jobs, owns)
    for n, (job, side, cotangent) in enumerate(zip(jobs, sides, cotangents, strict=True)):
        rows[n] |= plan.base.saved(side.rows, cotangent.rows)
        if plan.base.has_loss(0, job.both):
            column_sides[n] |= plan.base.saved(side.columns, cotangent.columns)
    blocks = _blocks(keys, column_sides, of_columns)

    def visit(first, blocks, key_gradients, home):
        key_gradients, home = dict(key_gradients), list(home)
        for n, job in enumerate(jobs):
            key_gradients[job.key], home[n] = differentiate_block(
                plan,
                job,
                rows[n],
                _columns(job, n, first, blocks),
                scale,
                bias,
                kept[n],
                key_gradients[job.key],
                home[n],
            )
        return key_gradients, home

    def nothing(columns):
        zeros = jnp.zeros((columns, queries[0].shape[1]), scale.dtype)
        return vary(dict.fromkeys(keys, zeros), varying(queries[0]))

    zeros = vary(jnp.zeros(queries[0].shape, scale.dtype), varying(queries[0]))
    home = [(zeros, jnp.zeros_like(bias)) for _ in jobs]
    columns = keys[jobs[0].key].shape[0]
    key_gradients, home = exchange(
        plan.axis_name, plan.gathered, columns, visit, blocks, nothing, home
    )
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
    return query_gradients, key_gradients, None, scale_gradient, sum(bias_gradients)


_sweeps.defvjp(_forward, _backward)


def _rows(queries, owns, of_rows: Side) -> list[Side]:
    """The rows of every sweep."""
    return [{"vector": q, "own": own} | of_rows for q, own in zip(queries, owns, strict=True)]


def _column_sides(plan: Plan, jobs, owns) -> list[Side]:
    """What the columns of every sweep have of their own, if their loss needs it."""
    has_loss = (plan.base.has_loss(0, job.both) for job in jobs)
    return [{"own": own} if wanted else {} for wanted, own in zip(has_loss, owns, strict=True)]


def _blocks(keys, column_sides, of_columns: Side) -> Tree:
    """What travels: all that the columns of every sweep are made of."""
    return {"keys": keys, "sides": column_sides, "pairs": of_columns}


def _columns(job: Job, n: int, first, blocks: Tree) -> Side:
    """The columns of the job number `n`, from the key number `first` on."""
    key = blocks["keys"][job.key]
    index = numbered(first, key.shape[0])
    return {"vector": key, "index": index, **blocks["pairs"], **blocks["sides"][n]}


def _scale_gradient(plan: Plan, job: Job, rows: Side, columns: Side, query_gradient) -> jax.Array:
    """The sum of slope times similarity is q . (slope k); the loss may correct it."""
    gradient = jnp.sum(rows["vector"].astype(query_gradient.dtype) * query_gradient)
    for axis, side in ((1, rows), (0, columns)):
        if plan.base.has_loss(axis, job.both):
            gradient += plan.base.scale_correction(side)
    return gradient
