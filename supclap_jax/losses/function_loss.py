"""A base loss that is a function of the user's: whole matrices on one device, by composition."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax

from .base import Side, Tile
from .blocks import Job, Sides
from .pairs import pair_masks
from .similarity import similarity

Function = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


def function_sides(
    function: Function,
    jobs: Sequence[Job],
    keys: dict[str, jax.Array],
    logit_scale: jax.Array | float,
    ids: jax.Array | None = None,
    pulls: bool = False,
) -> list[Sides]:
    """What `sweeps` gives for a loss object, for a function of one direction.

    Args:
      function: `function(query, key, logit_scale) -> [batch]`, the loss of each query, or a scalar,
        their mean. For the pulls it must depend on the embeddings through their dot products
        `query @ key.T` alone (no normalising, no weights of a fixed width).
      jobs: contrasts of the same pairs; where `both` is set the columns have the loss of the keys
        as queries.
      keys: float `[batch, dim]` by name.
      logit_scale: scalar.
      ids: int `[batch]`, for the statistics; the function does not see them.
      pulls: also give "pull" `[batch]`.

    Returns:
      For rows and columns of each job a dict: "loss", `[batch]` or scalar, and without gradient
      "pull" and the outcomes of the job's statistics.

    Raises:
      ValueError: the function gives another shape.
    """
    found = []
    for job in jobs:
        key = keys[job.key]
        scores = lax.stop_gradient(similarity(job.query, key))
        scale = jnp.asarray(logit_scale, scores.dtype)
        rows = _loss(function, job.query, key, scale, pulls)
        columns = _loss(function, key, job.query, scale, pulls) if job.both else {}
        rows |= _statistics(job, scores, ids, scale, axis=1)
        columns |= _statistics(job, scores, ids, scale, axis=0)
        found.append(Sides(rows, columns))
    return found


def _loss(function: Function, query, key, scale, pulls: bool) -> Side:
    loss, batch = function(query, key, scale), query.shape[0]
    if jnp.shape(loss) not in ((), (batch,)):
        raise ValueError(
            f"the base loss gives the shape {jnp.shape(loss)}; expected a scalar or ({batch},)"
        )
    side = {"loss": jnp.asarray(loss, scale.dtype)}
    return side | {"pull": _pull(function, query, key, scale)} if pulls else side


def _pull(function: Function, query, key, scale) -> jax.Array:
    """By how much the summed loss falls as each own similarity grows, `-dL / ds_ii`.

    The queries get `eps_i e_i` appended, the keys `e_i`: that adds `eps_i` to `s_ii` and nothing to
    the other similarities. The gradient at `eps = 0` is exact for any function of dot products.
    """
    query, key, scale = lax.stop_gradient((query, key, scale))
    batch = query.shape[0]
    key = jnp.concatenate([key, jnp.eye(batch)], axis=1, dtype=scale.dtype)

    def total(eps):
        moved = jnp.concatenate([query, jnp.diag(eps)], axis=1, dtype=scale.dtype)
        return batch * jnp.mean(function(moved, key, scale))

    return -jax.grad(total)(jnp.zeros(batch, scale.dtype))


def _statistics(job: Job, scores, ids, scale, axis: int) -> Side:
    """The outcomes of a job's statistics, from one tile that holds all pairs."""
    batch = scores.shape[0]
    same_id = None if ids is None else "positive"
    known = {"index": jnp.arange(batch)} | ({} if ids is None else {"ids": ids})
    masks = pair_masks(same_id, known, known)
    pairs, bias = {"own": jnp.diagonal(scores)}, jnp.zeros_like(scale)
    tile = Tile(scores, *masks, same_id, axis, pairs, scale, bias)
    found = {}
    for statistic in job.statistics:
        found |= statistic.outcomes(statistic.gather(tile), pairs["own"], scale, batch)
    return lax.stop_gradient(found)
