"""What any loss may gather beside itself: in-batch recall and summaries of the similarities."""

import abc
import dataclasses

import jax
import jax.numpy as jnp
from jax import lax

from .base import Side, Tile, add_exponentials
from .similarity import HARDEST


class Statistic(abc.ABC):
    """Gathered tile by tile for each row and each column; subclasses are frozen dataclasses.

    All statistics of a row or column share one side with the loss, so their names are their own.
    """

    @abc.abstractmethod
    def start(self, batch: int, dtype: jnp.dtype, summed: bool) -> Side:
        """The statistics `[batch, ...]` of no pairs at all.

        `summed` says that the loss of this side has "others", see `BaseLoss.sums_all_negatives`.
        """

    @abc.abstractmethod
    def gather(self, tile: Tile, side: Side) -> Side:
        """This statistic's part of `side`, with one more tile taken in."""

    @abc.abstractmethod
    def outcomes(
        self, side: Side, own: jax.Array, scale: jax.Array, total: int | jax.Array
    ) -> Side:
        """What it amounts to, from a finished side and a batch of `total` pairs on all devices.

        With padded pairs, which do not count, `total` is an array.
        """


@dataclasses.dataclass(frozen=True)
class Recall(Statistic):
    """ "hit" `[pairs]`: 1 where the best positive lies above every negative, else 0."""

    def start(self, batch, dtype, summed):
        none = jnp.full(batch, -jnp.inf, dtype)
        return {"best_positive": none, "best_negative": none}

    def gather(self, tile, side):
        positive = tile.own | tile.same
        best = jnp.max(jnp.where(positive, tile.scores, -jnp.inf), tile.axis)
        negative = tile.present & ~positive
        other = jnp.max(jnp.where(negative, tile.scores, -jnp.inf), tile.axis)
        return {
            "best_positive": jnp.maximum(side["best_positive"], best),
            "best_negative": jnp.maximum(side["best_negative"], other),
        }

    def outcomes(self, side, own, scale, total):
        return {"hit": (side["best_positive"] > side["best_negative"]).astype(own.dtype)}


@dataclasses.dataclass(frozen=True)
class Summary(Statistic):
    """ "summary" `[pairs, 8]`: the columns of `similarity_summary` of the scaled similarities."""

    def start(self, batch, dtype, summed):
        side = {name: jnp.zeros(batch, dtype) for name in ("seen", "mean", "scatter")}
        side["hardest"] = jnp.full((batch, HARDEST), -jnp.inf, dtype)
        if not summed:
            side["soft_peak"] = jnp.full(batch, jnp.finfo(dtype).min, dtype)
            side["soft_total"] = jnp.zeros(batch, dtype)
        return side

    def gather(self, tile, side):
        """Mean and scatter are merged with those so far as by Chan et al. (1979)."""
        axis, logits, negative = tile.axis, tile.scores * tile.scale, tile.present & ~tile.own
        masked = jnp.where(negative, logits, -jnp.inf)
        rows = masked if axis == 1 else masked.T
        hardest = lax.top_k(rows, min(HARDEST, rows.shape[1]))[0]
        hardest = lax.top_k(jnp.concatenate([side["hardest"], hardest], axis=1), HARDEST)[0]

        count = jnp.sum(negative, axis, dtype=logits.dtype)
        mean = jnp.sum(jnp.where(negative, logits, 0), axis) / jnp.maximum(count, 1)
        deviation = jnp.where(negative, logits - tile.spread(mean), 0)
        seen, step = side["seen"] + count, mean - side["mean"]
        share = count / jnp.maximum(seen, 1)
        gathered = {
            "hardest": hardest,
            "seen": seen,
            "mean": side["mean"] + step * share,
            "scatter": side["scatter"]
            + jnp.sum(deviation * deviation, axis)
            + step * step * side["seen"] * share,
        }
        if "soft_peak" in side:
            gathered["soft_peak"], gathered["soft_total"] = add_exponentials(
                side["soft_peak"], side["soft_total"], masked, axis
            )
        return gathered

    def outcomes(self, side, own, scale, total):
        own, hardest = own * scale, side["hardest"]
        alone = jnp.stack([own] * 7 + [jnp.zeros_like(own)], axis=1)
        is_masked = isinstance(total, jax.Array)
        if not is_masked and total == 1:
            return {"summary": alone}
        if is_masked:
            easiest = jnp.min(hardest, axis=1, where=hardest > -jnp.inf, initial=jnp.inf)
            hardest = jnp.where(hardest > -jnp.inf, hardest, easiest[:, None])
        else:
            hardest = hardest[:, : min(HARDEST, total - 1)]
            hardest = jnp.pad(hardest, ((0, 0), (0, HARDEST - hardest.shape[1])), mode="edge")
        others = jnp.maximum(total - 1, 1) if is_masked else total - 1
        if "soft_peak" in side:
            soft_maximum = side["soft_peak"] + jnp.log(side["soft_total"] / others)
        else:
            soft_maximum = side["others"] + own - jnp.log(others)
        spread = jnp.sqrt(side["scatter"] / others)
        summary = jnp.column_stack([own, hardest, soft_maximum, side["mean"], spread])
        return {"summary": jnp.where(total > 1, summary, alone) if is_masked else summary}
