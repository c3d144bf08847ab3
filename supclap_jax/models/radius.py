"""Radii of the support vectors: none, fixed, learned (StaticSVR) or predicted (DynamicSVR).

With `bounded` they are shares of each pair's distance, in (0, 1), as `supclap` takes them with
`bound="distance"`; what is learned or predicted is f, the share is sigmoid(f).

Every model maps the in-batch similarities to the keyword arguments `audio_radius` and
`text_radius` of `supclap`; a direction that is not in use gets none. `looks_at` says what of the
similarities it needs: "nothing", each pair's "summary" of its row and column, or the "matrix".
"""

import math
from collections.abc import Callable
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from supclap_jax.losses.similarity import similarity_row, similarity_summary
from supclap_jax.losses.svr import SIDES

ACTIVATIONS = {"relu": nn.relu, "gelu": nn.gelu, "tanh": nn.tanh}


class NoRadius(nn.Module):
    """No support vectors: the base loss alone."""

    looks_at: ClassVar[str] = "nothing"

    def __call__(self, similarity: jax.Array) -> dict[str, jax.Array]:
        return {}


class FixedRadius(nn.Module):
    """The same constant for every example."""

    looks_at: ClassVar[str] = "nothing"

    radius: float
    direction: str = "both"

    def __call__(self, similarity: jax.Array) -> dict[str, jax.Array]:
        return {f"{side}_radius": jnp.float32(self.radius) for side in SIDES[self.direction]}


class StaticRadius(nn.Module):
    """StaticSVR: one learned scalar for each direction, or one for both if `shared`."""

    looks_at: ClassVar[str] = "nothing"

    initial_radius: float
    direction: str = "both"
    shared: bool = False
    bounded: bool = False

    @nn.compact
    def __call__(self, similarity: jax.Array) -> dict[str, jax.Array]:
        start, radius = _start_and_output(self.initial_radius, self.bounded)
        initial = nn.initializers.constant(start)
        sides = SIDES[self.direction]
        if self.shared:
            both = radius(self.param("shared", initial, ()))
            return dict.fromkeys((f"{side}_radius" for side in sides), both)
        return {f"{side}_radius": radius(self.param(side, initial, ())) for side in sides}


class DynamicRadius(nn.Module):
    """DynamicSVR: a 3-layer MLP predicts each example's radius from its in-batch similarities.

    Starts at `initial_radius` for every example (the last layer's kernel is zero). The output is
    linear: `radius_constraint`, not the architecture, keeps it between zero and the distance;
    unless it is bounded.

    Attributes:
      initial_radius: radius before training.
      bounded: whether radii are shares of the distance.
      direction: "both", "text_to_audio" or "audio_to_text".
      features: "row" (the paper's; the kernel's shape ties it to one batch size) or "summary".
      hidden: width of the two hidden layers.
      activation: between the layers.
      shared: one MLP for both directions.
      detach: no gradient from the radius into the similarities. Without it, an extra term
        `dR/dt (u . g)` appears in the embeddings' gradient, which is not part of the method.
    """

    initial_radius: float
    direction: str = "both"
    features: str = "summary"
    hidden: int = 64
    activation: Callable[[jax.Array], jax.Array] = nn.relu
    shared: bool = False
    bounded: bool = False
    detach: bool = True

    @property
    def looks_at(self) -> str:
        """The matrix for its rows, or for a gradient, which the losses' summaries carry none of."""
        return "matrix" if self.features == "row" or not self.detach else "summary"

    def setup(self):
        sides = ("shared",) if self.shared else SIDES[self.direction]
        self.predictors = {side: self._predictor() for side in sides}

    def __call__(self, similarity: jax.Array | dict[str, jax.Array]) -> dict[str, jax.Array]:
        """Radii `[batch]` from `similarity [batch, batch]`: audio in rows, 1/tau included.

        Or from what `supclap` gives its `predict_radii`: the summaries `[batch, 8]` of the rows
        ("audio") and columns ("text") of that matrix, by name.
        """
        if self.detach:
            similarity = jax.lax.stop_gradient(similarity)
        if isinstance(similarity, dict):
            inputs = similarity
        else:
            features = {"row": similarity_row, "summary": similarity_summary}[self.features]
            inputs = {"audio": features(similarity), "text": features(similarity.T)}
        _, radius = _start_and_output(self.initial_radius, self.bounded)
        predictors = {side: "shared" if self.shared else side for side in SIDES[self.direction]}
        return {
            f"{side}_radius": radius(self.predictors[name](inputs[side])[:, 0])
            for side, name in predictors.items()
        }

    def _predictor(self) -> nn.Sequential:
        start, _ = _start_and_output(self.initial_radius, self.bounded)
        last = nn.Dense(
            1,
            kernel_init=nn.initializers.zeros,
            bias_init=nn.initializers.constant(start),
        )
        hidden = [nn.Dense(self.hidden), self.activation, nn.Dense(self.hidden), self.activation]
        return nn.Sequential([*hidden, last])


def _start_and_output(initial_radius: float, bounded: bool) -> tuple[float, Callable]:
    """What f begins with, and the function of f that is the radius."""
    if not bounded:
        return initial_radius, lambda f: f
    return math.log(initial_radius / (1 - initial_radius)), nn.sigmoid


def make_radius_model(config: ConfigDict) -> nn.Module:
    """The radius model that a config describes."""
    svr = config.loss.svr
    bounded = svr.bound == "distance"
    if svr.radius == "none":
        return NoRadius()
    if svr.radius == "fixed":
        return FixedRadius(svr.fixed_radius, svr.direction)
    if svr.radius == "static":
        return StaticRadius(svr.initial_radius, svr.direction, svr.shared, bounded)
    return DynamicRadius(
        initial_radius=svr.initial_radius,
        direction=svr.direction,
        features=svr.features,
        hidden=svr.hidden,
        activation=ACTIVATIONS[svr.activation],
        shared=svr.shared,
        bounded=bounded,
        detach=svr.detach,
    )
