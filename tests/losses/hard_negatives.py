"""A base loss as a stranger may write one: InfoNCE with reweighted hard negatives.

Robinson et al. 2021, arXiv 2010.04592, without debiasing: a negative counts with the weight
`exp(beta z_ij)` over its mean, `z_ij` its logit above the own one, so that the loss of a query is
`log(1 + n sum_j exp((1 + beta) z_ij) / sum_j exp(beta z_ij))` with n negatives.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jax import lax

from supclap_jax.losses import BaseLoss
from supclap_jax.losses.base import add_exponentials, sum_exponentials


@dataclasses.dataclass(frozen=True)
class HardNegatives(BaseLoss):
    """`beta`: how much harder ones count; 0 is InfoNCE."""

    beta: float = 0.5

    @property
    def factors(self):
        return {"above": 1 + self.beta, "below": self.beta}

    def start(self, same_id, batch, dtype):
        lowest, nothing = jnp.full(batch, jnp.finfo(dtype).min, dtype), jnp.zeros(batch, dtype)
        side = {f"{name}_peak": lowest for name in self.factors}
        return side | {f"{name}_total": nothing for name in self.factors} | {"count": nothing}

    def margins(self, tile):
        return (tile.scores - tile.spread(tile.pairs["own"])) * tile.scale

    def gather(self, tile):
        margins = jnp.where(tile.used, self.margins(tile), -jnp.inf)
        found = {"count": jnp.sum(tile.used, tile.axis, dtype=margins.dtype)}
        for name, factor in self.factors.items():
            peak, total = sum_exponentials(factor * margins, tile.axis)
            found |= {f"{name}_peak": peak, f"{name}_total": total}
        return found

    def merge(self, one, other):
        merged = {"count": one["count"] + other["count"]}
        for name in self.factors:
            sums = (side[f"{name}_{part}"] for side in (one, other) for part in ("peak", "total"))
            merged[f"{name}_peak"], merged[f"{name}_total"] = add_exponentials(*sums)
        return merged

    def finish(self, side, scale):
        totals = {name: jnp.log(side[f"{name}_total"]) for name in self.factors}
        return side | {name: side[f"{name}_peak"] + total for name, total in totals.items()}

    def saved(self, side, cotangent):
        return {f"{name}_slope": cotangent[name] for name in self.factors} | {
            name: side[name] for name in self.factors
        }

    def slopes(self, tile):
        margins, slope = self.margins(tile), 0.0
        for name, factor in self.factors.items():
            share = jnp.exp(factor * margins - tile.spread(tile.pairs[name]))
            slope += factor * tile.spread(tile.pairs[f"{name}_slope"]) * share
        return jnp.where(tile.used, slope, 0)

    def scale_correction(self, pairs):
        weight = sum(factor * pairs[f"{name}_slope"] for name, factor in self.factors.items())
        return -jnp.sum(weight * pairs["own"])

    def outcomes(self, side, own, scale, bias):
        z = side["above"] - side["below"] + jnp.log(side["count"])
        moved = scale * (lax.stop_gradient(own) - own)  # (1 + beta) - beta of it
        return {"loss": jax.nn.softplus(z + moved), "pull": scale * jax.nn.sigmoid(z)}
