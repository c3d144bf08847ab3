"""What any loss may gather beside itself: in-batch recall and summaries of the similarities."""

import abc
import dataclasses

import jax
import jax.numpy as jnp
from jax import lax

from .base import Side, Tile, add_exponentials, sum_exponentials
from .similarity import HARDEST


class Statistic(abc.ABC):
    """Gathered tile by tile for each row and each column; subclasses are frozen dataclasses.

    In the end all statistics of a row or column share one side with the loss, so their names are
    their own.
    """

    @abc.abstractmethod
    def start(self, batch: int, dtype: jnp.dtype) -> Side:
        """The statistics `[batch, ...]` of no pairs at all."""

    @abc.abstractmethod
    def gather(self, tile: Tile) -> Side:
        """The statistics `[pairs, ...]` of one tile."""

    @abc.abstractmethod
    def merge(self, one: Side, other: Side) -> Side:
        """The statistics of two sets of pairs together."""

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

    def start(self, batch, dtype):
        none = jnp.full(batch, -jnp.inf, dtype)
        return {"best_positive": none, "best_negative": none}

    def gather(self, tile):
        positive = tile.own | tile.same
        kinds = {"best_positive": positive, "best_negative": tile.present & ~positive}
        return {
            name: jnp.max(jnp.where(pairs, tile.scores, -jnp.inf), tile.axis)
            for name, pairs in kinds.items()
        }

    def merge(self, one, other):
        return {name: jnp.maximum(one[name], other[name]) for name in one}

    def outcomes(self, side, own, scale, total):
        return {"hit": (side["best_positive"] > side["best_negative"]).astype(own.dtype)}


@dataclasses.dataclass(frozen=True)
class Summary(Statistic):
    """ "summary" `[pairs, 8]`: the columns of `similarity_summary` of the scaled similarities.

    Attributes:
      others_known: the loss of these rows and columns has "others" in its finished sides, see
        `BaseLoss.sums_all_negatives`, so that the soft maximum need not be gathered again.
    """

    others_known: bool = False

    def start(self, batch, dtype):
        side = {name: jnp.zeros(batch, dtype) for name in ("seen", "mean", "scatter")}
        side["hardest"] = jnp.full((batch, HARDEST), -jnp.inf, dtype)
        if not self.others_known:
            side["soft_peak"] = jnp.full(batch, jnp.finfo(dtype).min, dtype)
            side["soft_total"] = jnp.zeros(batch, dtype)
        return side

    def gather(self, tile):
        axis, logits, negative = tile.axis, tile.scores * tile.scale, tile.present & ~tile.own
        masked = jnp.where(negative, logits, -jnp.inf)
        rows = masked if axis == 1 else masked.T
        hardest = lax.top_k(rows, min(HARDEST, rows.shape[1]))[0]
        missing = ((0, 0), (0, HARDEST - hardest.shape[1]))
        count = jnp.sum(negative, axis, dtype=logits.dtype)
        mean = jnp.sum(jnp.where(negative, logits, 0), axis) / jnp.maximum(count, 1)
        deviation = jnp.where(negative, logits - tile.spread(mean), 0)
        gathered = {
            "hardest": jnp.pad(hardest, missing, constant_values=-jnp.inf),
            "seen": count,
            "mean": mean,
            "scatter": jnp.sum(deviation * deviation, axis),
        }
        if not self.others_known:
            gathered["soft_peak"], gathered["soft_total"] = sum_exponentials(masked, axis)
        return gathered

    def merge(self, one, other):
        """Mean and scatter as by Chan et al. (1979)."""
        both = jnp.concatenate([one["hardest"], other["hardest"]], axis=1)
        seen, step = one["seen"] + other["seen"], other["mean"] - one["mean"]
        share = other["seen"] / jnp.maximum(seen, 1)
        merged = {
            "hardest": lax.top_k(both, HARDEST)[0],
            "seen": seen,
            "mean": one["mean"] + step * share,
            "scatter": one["scatter"] + other["scatter"] + step * step * one["seen"] * share,
        }
        if not self.others_known:
            merged["soft_peak"], merged["soft_total"] = add_exponentials(
                *(side[name] for side in (one, other) for name in ("soft_peak", "soft_total"))
            )
        return merged

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
        if self.others_known:
            soft_maximum = side["others"] + own - jnp.log(others)
        else:
            soft_maximum = side["soft_peak"] + jnp.log(side["soft_total"] / others)
        spread = jnp.sqrt(side["scatter"] / others)
        summary = jnp.column_stack([own, hardest, soft_maximum, side["mean"], spread])
        return {"summary": jnp.where(total > 1, summary, alone) if is_masked else summary}
