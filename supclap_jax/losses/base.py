"""The base losses: all that a sweep asks of one, in one object each.

A tile holds `scores [rows, columns]` with `s_ij = q_i . k_j`. The own pairs (the diagonal) never
enter a tile's sums: `own_i = q_i . k_i` is a row-wise dot outside. What a sweep keeps of each row
or column is a side: a dict of arrays `[pairs, ...]`.
"""

import abc
import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Side = dict[str, jax.Array]  # arrays [pairs, ...] of the rows or of the columns


class Tile(NamedTuple):
    """One tile of the similarities, as its rows or its columns see it.

    Attributes:
      scores: `[rows, columns]`, the dot products.
      own: bool `[rows, columns]`, own pairs.
      same: bool `[rows, columns]`, other pairs of the same clip.
      used: bool `[rows, columns]`, the pairs in a loss's sums: not own pairs, not padded ones and,
        with `same_id` "ignore", not those of the same clip.
      present: bool `[rows, columns]`, pairs of which neither row nor column is padded.
      same_id: what other pairs of the same clip are: "positive", "ignore"; None without ids.
      axis: which axis a statistic reduces: 1 for one of rows, 0 for one of columns.
      pairs: what is known of the rows or columns: "own" `[pairs]`, their own similarity; backward
        also what `BaseLoss.saved` gave.
      scale: scalar; logits are `scale * scores + bias`.
      bias: scalar, zero unless the loss takes one.
    """

    scores: jax.Array
    own: jax.Array
    same: jax.Array
    used: jax.Array
    present: jax.Array
    same_id: str | None
    axis: int
    pairs: Side
    scale: jax.Array
    bias: jax.Array

    def spread(self, of_pairs: jax.Array) -> jax.Array:
        """One value a row or column `[pairs]`, in a shape that broadcasts over the tile."""
        return jnp.expand_dims(of_pairs, self.axis)


class BaseLoss(abc.ABC):
    """A contrastive loss as a sweep over tiles computes it; subclasses are frozen dataclasses.

    For each row, and where wanted for each column, `gather` takes the statistics of a tile, `merge`
    joins those of several, `finish` sums them up and `outcomes` gives the loss. The sweep's
    gradient is that of the finished statistics: `saved` says what the backward tiles need, `slopes`
    their gradient. The gradient through the own similarities is that of `outcomes`, which JAX
    differentiates.

    Attributes:
      takes_bias: whether the logits have a bias, which learns.
      symmetric: whether the loss of rows is that of columns as well: one sum over all pairs.
    """

    takes_bias = False
    symmetric = False

    def has_loss(self, axis: int, both: bool) -> bool:
        """Whether rows (axis 1) or columns (axis 0) have a loss, in one direction or in both."""
        return axis == 1 or (both and not self.symmetric)

    def sums_all_negatives(self, same_id: str | None) -> bool:
        """Whether a finished side has "others" `[pairs]`, which a summary then makes use of.

        That is `log sum_j exp(scale (s_ij - own_i))` over all j but i, those of the same clip too.
        """
        return False

    @abc.abstractmethod
    def start(self, same_id: str | None, batch: int, dtype: jnp.dtype) -> Side:
        """The statistics `[batch]` of no pairs at all."""

    @abc.abstractmethod
    def gather(self, tile: Tile) -> Side:
        """The statistics `[pairs]` of one tile."""

    def merge(self, one: Side, other: Side) -> Side:
        """The statistics of two sets of pairs together: sums, unless a loss keeps others."""
        return {name: one[name] + other[name] for name in one}

    def finish(self, side: Side, scale: jax.Array) -> Side:
        """`side`, with what all tiles' statistics amount to; what is not this loss's own stays."""
        return side

    @abc.abstractmethod
    def saved(self, side: Side, cotangent: Side) -> Side:
        """What the backward tiles need of each row or column, from a finished side."""

    @abc.abstractmethod
    def slopes(self, tile: Tile) -> jax.Array:
        """The gradient of one side's losses with respect to a tile's logits."""

    def scale_correction(self, pairs: Side) -> jax.Array | float:
        """What the gradient of `scale` lacks after the sum of each slope times its similarity."""
        return 0.0

    @abc.abstractmethod
    def outcomes(self, side: Side, own: jax.Array, scale: jax.Array, bias: jax.Array) -> Side:
        """From a finished side "loss" and "pull", `[pairs]` each.

        The pull is by how much the loss falls as the own similarity grows.
        """


@dataclasses.dataclass(frozen=True)
class Softmax(BaseLoss):
    """InfoNCE: cross entropy over all keys.

    With `z_i = log sum_{j != i} exp(scale (s_ij - own_i))`, which is "others", the cross entropy of
    row i is `log(1 + exp z_i)`, which keeps its digits when the loss is nearly zero. "target" is
    the mean logit of the positives above the own one, there only with `same_id` "positive", and
    "smooth" that of all keys, only with label smoothing.

    Attributes:
      margin: taken from the own similarity (Wang et al. 2018, arXiv 1801.05599).
      label_smoothing: share of the target, 0 to 1, that is spread over all keys.
    """

    margin: float = 0.0
    label_smoothing: float = 0.0

    def __post_init__(self):
        for name in ("margin", "label_smoothing"):
            if not isinstance(getattr(self, name), int | float | np.floating):
                raise TypeError(
                    f"{name} is {getattr(self, name)}; expected a number that is compiled in, with "
                    "sharded by functools.partial"
                )
        if not -math.inf < self.margin < math.inf:
            raise ValueError(f"margin is {self.margin!r}; expected a finite number")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing is {self.label_smoothing!r}; expected 0 to below 1")

    def denominator(self, z: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The logarithm of the sum over keys, above the own logit, and its slope in `z`."""
        return jax.nn.softplus(z), jax.nn.sigmoid(z)

    def sums_all_negatives(self, same_id):
        return same_id != "ignore"

    def start(self, same_id, batch, dtype):
        nothing, lowest = jnp.zeros(batch, dtype), jnp.full(batch, jnp.finfo(dtype).min, dtype)
        side = {"peak": lowest, "total": nothing}
        if same_id == "positive":
            side |= {"same": nothing, "count": nothing}
        if self.label_smoothing:
            side |= {"all": nothing, "keys": nothing}
        return side

    def gather(self, tile):
        margin = tile.scores - tile.spread(tile.pairs["own"])
        logits = jnp.where(tile.used, margin * tile.scale, -jnp.inf)
        peak, total = sum_exponentials(logits, tile.axis)
        gathered = {"peak": peak, "total": total}
        if tile.same_id == "positive":
            gathered["same"] = jnp.sum(jnp.where(tile.same, margin, 0), tile.axis)
            gathered["count"] = jnp.sum(tile.same, tile.axis, dtype=margin.dtype)
        if self.label_smoothing:
            gathered["all"] = jnp.sum(jnp.where(tile.used, margin, 0), tile.axis)
            gathered["keys"] = jnp.sum(tile.used, tile.axis, dtype=margin.dtype)
        return gathered

    def merge(self, one, other):
        peak, total = add_exponentials(one["peak"], one["total"], other["peak"], other["total"])
        return super().merge(one, other) | {"peak": peak, "total": total}

    def finish(self, side, scale):
        side = dict(side)
        side["others"] = side.pop("peak") + jnp.log(side.pop("total"))
        if "same" in side:
            side["target"] = scale * side.pop("same") / (side["count"] + 1)
        if "all" in side:
            side["smooth"] = scale * side.pop("all") / (side["keys"] + 1)
        return side

    def saved(self, side, cotangent):
        saved = {"slope": cotangent["others"], "others": side["others"]}
        if "target" in side:
            saved["count"] = side["count"]
            saved["target_slope"] = cotangent["target"] / (side["count"] + 1)
        if "smooth" in side:
            saved["keys"] = side["keys"]
            saved["smooth_slope"] = cotangent["smooth"] / (side["keys"] + 1)
        return saved

    def slopes(self, tile):
        pairs = tile.pairs
        margin = (tile.scores - tile.spread(pairs["own"])) * tile.scale
        share = jnp.exp(jnp.where(tile.used, margin - tile.spread(pairs["others"]), -jnp.inf))
        slope = tile.spread(pairs["slope"]) * share
        if tile.same_id == "positive":
            slope += jnp.where(tile.same, tile.spread(pairs["target_slope"]), 0)
        if "smooth_slope" in pairs:
            slope += jnp.where(tile.used, tile.spread(pairs["smooth_slope"]), 0)
        return slope

    def scale_correction(self, pairs):
        """Its logits are `scale (s_ij - own_i)`: the slopes times `own_i` go off again."""
        weight = pairs["slope"]
        if "target_slope" in pairs:
            weight += pairs["target_slope"] * pairs["count"]
        if "smooth_slope" in pairs:
            weight += pairs["smooth_slope"] * pairs["keys"]
        return -jnp.sum(weight * pairs["own"])

    def outcomes(self, side, own, scale, bias):
        # Zero in value: the sweep held `own` fixed, its gradient enters here.
        shift = scale * (lax.stop_gradient(own) - own) + scale * self.margin
        loss, slope = self.denominator(side["others"] + shift)
        smooth = self.label_smoothing
        if "target" in side:
            share = side["count"] / (side["count"] + 1)
            loss -= (1 - smooth) * (side["target"] + shift * share)
            slope -= (1 - smooth) * share
        if "smooth" in side:
            share = side["keys"] / (side["keys"] + 1)
            loss -= smooth * (side["smooth"] + shift * share)
            slope -= smooth * share
        return {"loss": loss, "pull": scale * slope}


@dataclasses.dataclass(frozen=True)
class Decoupled(Softmax):
    """InfoNCE whose sum over keys leaves out the own one (Yeh et al. 2022, arXiv 2110.06848)."""

    def denominator(self, z):
        has_negatives = z > -jnp.inf  # or there is nothing to lose
        return jnp.where(has_negatives, z, 0), has_negatives.astype(z.dtype)


@dataclasses.dataclass(frozen=True)
class Sigmoid(BaseLoss):
    """SigLIP: every pair is a binary classification of its own."""

    takes_bias = True
    symmetric = True

    def start(self, same_id, batch, dtype):
        return {"softplus": jnp.zeros(batch, dtype)}

    def gather(self, tile):
        logits = tile.scores * tile.scale + tile.bias
        if tile.same_id == "positive":
            logits = jnp.where(tile.same, -logits, logits)
        losses = jnp.maximum(logits, 0) + jnp.log1p(jnp.exp(-jnp.abs(logits)))
        return {"softplus": jnp.sum(jnp.where(tile.used, losses, 0), tile.axis)}

    def saved(self, side, cotangent):
        return {"slope": cotangent["softplus"]}

    def slopes(self, tile):
        logits, slope = tile.scores * tile.scale + tile.bias, tile.spread(tile.pairs["slope"])
        if tile.same_id == "positive":
            logits = jnp.where(tile.same, -logits, logits)
            slope = jnp.where(tile.same, -slope, slope)
        return jnp.where(tile.used, slope * jax.nn.sigmoid(logits), 0)

    def outcomes(self, side, own, scale, bias):
        logits = own * scale + bias
        return {
            "loss": side["softplus"] + jax.nn.softplus(-logits),
            "pull": scale * jax.nn.sigmoid(-logits),
        }


BASES = {"info_nce": Softmax(), "siglip": Sigmoid(), "decoupled": Decoupled()}


def sum_exponentials(logits: jax.Array, axis: int) -> tuple[jax.Array, jax.Array]:
    """The sum of `exp(logits)` along `axis` as `total exp(peak)`; the peak is finite always."""
    peak = jnp.max(logits, axis, initial=jnp.finfo(logits.dtype).min)
    return peak, jnp.sum(jnp.exp(logits - jnp.expand_dims(peak, axis)), axis)


def add_exponentials(
    peak: jax.Array, total: jax.Array, other_peak: jax.Array, other_total: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The sum of two that are given as `total exp(peak)`, in the same form."""
    highest = jnp.maximum(peak, other_peak)
    scaled = total * jnp.exp(peak - highest), other_total * jnp.exp(other_peak - highest)
    return highest, sum(scaled)
