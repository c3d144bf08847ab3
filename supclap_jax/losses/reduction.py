"""From the losses of pairs to one number: padded pairs, weights, the mean over all devices."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from .devices import global_mean
from .inputs import check_array

REDUCTIONS = ("mean", "none")


class Reduction(NamedTuple):
    """How the losses of pairs become one, or stay apart.

    Attributes:
      mask: bool `[batch]`, False for padded pairs; None: there are none.
      weights: float `[batch]`, of each pair in the mean; None: all alike.
      kind: "mean", or "none" for the losses themselves.
      axis_name: mesh axes inside `jax.shard_map`: the mean is over all devices.
    """

    mask: jax.Array | None = None
    weights: jax.Array | None = None
    kind: str = "mean"
    axis_name: str | tuple[str, ...] | None = None

    def __call__(self, losses: jax.Array) -> jax.Array:
        """The weighted mean, a scalar; or with "none" `[batch]`, zero for padded pairs.

        Raises:
          ValueError: `losses` is a mean already, and more than that is asked for.
        """
        is_plain = self.mask is None and self.weights is None and self.kind == "mean"
        if not is_plain and not jnp.ndim(losses):
            raise ValueError(
                "the loss is a mean already; mask, weights and reduction 'none' need one [batch]"
            )
        if self.kind == "mean":
            return self.mean(losses)
        return losses if self.mask is None else jnp.where(self.mask, losses, 0)

    def mean(self, x: jax.Array | float) -> jax.Array:
        """The weighted mean of `[batch]` values, or of one that is common to all, over devices.

        Zero without any pair that counts.
        """
        weights = self.weights
        if self.mask is not None:
            weights = jnp.where(self.mask, 1.0 if weights is None else weights, 0)
        if weights is None:
            return global_mean(x, self.axis_name)
        weights = weights.astype(jnp.result_type(x))
        if self.mask is not None:
            x = jnp.where(self.mask, x, 0)
        total = global_mean(weights, self.axis_name)
        return global_mean(weights * x, self.axis_name) / jnp.where(total > 0, total, 1)


def make_reduction(
    batch: int,
    mask: jax.Array | None,
    weights: jax.Array | None,
    reduction: str,
    axis_name: str | tuple[str, ...] | None,
) -> Reduction:
    """Checks the options of a loss.

    Raises:
      ValueError: another reduction, weights without a mean, or shapes that do not fit.
      TypeError: a mask that is not bool, or weights that are not float.
    """
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction is {reduction!r}; expected one of {REDUCTIONS}")
    if reduction == "none" and weights is not None:
        raise ValueError("weights are of the mean; leave them out with reduction 'none'")
    for name, x, kind in (("mask", mask, jnp.bool), ("weights", weights, jnp.floating)):
        if x is None:
            continue
        check_array(name, x)
        if not jnp.issubdtype(x.dtype, kind):
            raise TypeError(f"{name} is {x.dtype}; expected {kind.__name__}")
        if x.shape != (batch,):
            raise ValueError(f"{name} has shape {x.shape}; expected ({batch},), one for a pair")
    return Reduction(mask, weights, reduction, axis_name)
