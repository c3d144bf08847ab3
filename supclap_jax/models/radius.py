"""Radii of the support vectors: none, fixed, learned (StaticSVR) or predicted (DynamicSVR).

Every model maps the in-batch similarities to the keyword arguments `audio_radius` and
`text_radius` of `supclap`; a direction that is not in use gets none.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

HARDEST = 4
SIDES = {"both": ("text", "audio"), "text_to_audio": ("text",), "audio_to_text": ("audio",)}


class NoRadius(nn.Module):
    """No support vectors: the base loss alone."""

    def __call__(self, similarity: jax.Array) -> dict[str, jax.Array]:
        return {}


class FixedRadius(nn.Module):
    """The same constant for every example."""

    radius: float
    direction: str = "both"

    def __call__(self, similarity: jax.Array) -> dict[str, jax.Array]:
        return {f"{side}_radius": jnp.float32(self.radius) for side in SIDES[self.direction]}


class StaticRadius(nn.Module):
    """StaticSVR: one learned scalar for each direction, or one for both if `shared`."""

    initial_radius: float
    direction: str = "both"
    shared: bool = False

    @nn.compact
    def __call__(self, similarity: jax.Array) -> dict[str, jax.Array]:
        initial = nn.initializers.constant(self.initial_radius)
        sides = SIDES[self.direction]
        if self.shared:
            return dict.fromkeys((f"{s}_radius" for s in sides), self.param("shared", initial, ()))
        return {f"{side}_radius": self.param(side, initial, ()) for side in sides}


class DynamicRadius(nn.Module):
    """DynamicSVR: a 3-layer MLP predicts each example's radius from its in-batch similarities.

    Starts at `initial_radius` for every example (the last layer's kernel is zero). The output is
    linear: `radius_constraint`, not the architecture, keeps it between zero and the distance.

    Attributes:
      initial_radius: radius before training.
      direction: "both", "text_to_audio" or "audio_to_text".
      features: "row" (the paper's; the kernel's shape ties it to one batch size) or "summary".
      hidden: width of the two hidden layers.
      activation: between the layers.
      shared: one MLP for both directions.
      detach: no gradient from the radius into the similarities. With it, an extra term
        `dR/dt (u . g)` appears in the embeddings' gradient, which is not part of the method.
    """

    initial_radius: float
    direction: str = "both"
    features: str = "summary"
    hidden: int = 64
    activation: Callable[[jax.Array], jax.Array] = nn.relu
    shared: bool = False
    detach: bool = True

    def setup(self):
        sides = ("shared",) if self.shared else SIDES[self.direction]
        self.predictors = {side: self._predictor() for side in sides}

    def __call__(self, similarity: jax.Array) -> dict[str, jax.Array]:
        """Radii `[batch]` from `similarity [batch, batch]`: audio in rows, 1/tau included."""
        if self.detach:
            similarity = jax.lax.stop_gradient(similarity)
        features = {"row": similarity_row, "summary": similarity_summary}[self.features]
        rows = {"audio": similarity, "text": similarity.T}
        return {
            f"{side}_radius": self.predictors["shared" if self.shared else side](
                features(rows[side])
            )[:, 0]
            for side in SIDES[self.direction]
        }

    def _predictor(self) -> nn.Sequential:
        last = nn.Dense(
            1,
            kernel_init=nn.initializers.zeros,
            bias_init=nn.initializers.constant(self.initial_radius),
        )
        hidden = [nn.Dense(self.hidden), self.activation, nn.Dense(self.hidden), self.activation]
        return nn.Sequential([*hidden, last])


def similarity_row(similarity: jax.Array) -> jax.Array:
    """The paper's input: each row of `[batch, batch]`, its positive first, negatives in order.

    >>> similarity_row(jnp.arange(9.0).reshape(3, 3))
    Array([[0., 1., 2.],
           [4., 3., 5.],
           [8., 6., 7.]], dtype=float32)
    """
    batch = similarity.shape[0]
    row, column = jnp.arange(batch)[:, None], jnp.arange(batch)[None, :]
    source = jnp.where(column == 0, row, jnp.where(column <= row, column - 1, column))
    return jnp.take_along_axis(similarity, source, axis=1)


def similarity_summary(similarity: jax.Array) -> jax.Array:
    """Statistics `[batch, 8]` of each row that know neither the order of the batch nor its size.

    In order: the own similarity, the four hardest negatives, the soft maximum (log mean exp),
    mean and standard deviation of the negatives. Fewer than four negatives are filled up with the
    easiest one; a single pair counts as its own negative.

    >>> similarity_summary(jnp.array([[3.0, 1.0], [0.0, 2.0]]))[0].tolist()
    [3.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0]
    """
    batch = similarity.shape[0]
    own = jnp.diagonal(similarity)
    negatives = similarity_row(similarity)[:, 1:] if batch > 1 else similarity
    hardest = jax.lax.top_k(negatives, min(HARDEST, negatives.shape[1]))[0]
    missing = HARDEST - hardest.shape[1]
    hardest = jnp.pad(hardest, ((0, 0), (0, missing)), mode="edge")
    count = negatives.shape[1]
    soft_maximum = jax.nn.logsumexp(negatives, axis=1) - jnp.log(count)
    mean, variance = jnp.mean(negatives, axis=1), jnp.var(negatives, axis=1)
    varied = variance > 0
    spread = jnp.where(varied, jnp.sqrt(jnp.where(varied, variance, 1)), 0)
    return jnp.column_stack([own, hardest, soft_maximum, mean, spread])
