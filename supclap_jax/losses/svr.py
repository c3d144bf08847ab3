"""Support Vector Regularization: move the queries towards their positives, then contrast.

SupCLAP (arXiv 2509.21033). With `u = (positive - anchor) / d` and `d = |positive - anchor|`, the
support vector is `anchor + R u`. Its Jacobian with respect to the anchor is
`u u^T + (1 - R/d) (I - u u^T)`: of the loss's pull and push on the support vector, the part along
`u` reaches the anchor whole, the part across it scaled by the contraction factor `1 - R/d`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from .reduction import make_reduction
from .similarity import distance

SIDES = {"both": ("text", "audio"), "text_to_audio": ("text",), "audio_to_text": ("audio",)}


def support_vectors(anchor: jax.Array, positive: jax.Array, radius: jax.Array | float) -> jax.Array:
    """Moves each anchor by `radius` towards its positive: `anchor + R (positive - anchor) / d`.

    The result is not normalised again, and the gradient flows through the direction: without
    either, the contraction factor is lost. Where anchor and positive coincide, the anchor stays.

    Args:
      anchor: float `[batch, dim]`, L2-normalised.
      positive: float `[batch, dim]`, L2-normalised.
      radius: scalar or `[batch]`; any sign, any size (`radius_constraint` keeps it in [0, d]).

    Returns:
      `[batch, dim]` of the anchor's dtype.

    Raises:
      ValueError: shapes that do not fit.

    >>> import jax.numpy as jnp
    >>> support_vectors(jnp.array([[1.0, 0.0]]), jnp.array([[0.0, 1.0]]), 2**0.5)
    Array([[0., 1.]], dtype=float32)
    """
    if anchor.ndim != 2 or anchor.shape != positive.shape:
        raise ValueError(
            f"anchor and positive have shapes {anchor.shape} and {positive.shape}; expected the "
            "same [batch, dim] for both"
        )
    if jnp.shape(radius) not in ((), anchor.shape[:1]):
        raise ValueError(
            f"radius has shape {jnp.shape(radius)}; expected a scalar or {anchor.shape[:1]}"
        )
    apart = distance(anchor, positive)
    share = jnp.where(apart > 0, radius / jnp.where(apart > 0, apart, 1), 0)
    start = anchor.astype(share.dtype)
    moved = start + share[:, None] * (positive.astype(share.dtype) - start)
    return moved.astype(anchor.dtype)


def svr(
    audio: jax.Array,
    text: jax.Array,
    audio_radius: jax.Array | float | None,
    text_radius: jax.Array | float | None,
    contrast: Callable[[jax.Array, jax.Array], jax.Array],
    *,
    direction: str = "both",
) -> jax.Array:
    """Any one-directional contrastive loss, taken at the support vectors.

    "text_to_audio" is `contrast(support_vectors(text, audio, text_radius), audio)`,
    "audio_to_text" the same with audio and text exchanged, "both" the mean of the two.

    Args:
      audio: float `[batch, dim]`, L2-normalised.
      text: float `[batch, dim]`, L2-normalised; pair i is the positive.
      audio_radius: scalar or `[batch]`; unused (may be None) for "text_to_audio".
      text_radius: scalar or `[batch]`; unused (may be None) for "audio_to_text".
      contrast: `contrast(query, key) -> scalar`, such as
        `lambda query, key: info_nce(query, key, logit_scale)`. Tiles and devices are its own
        affair: inside `jax.shard_map` it gets this device's share and returns the global mean.
      direction: "both", "text_to_audio" or "audio_to_text".

    Returns:
      scalar, what `contrast` returns.

    Raises:
      ValueError: an unknown direction, a radius that the direction needs but is None, or shapes
        that do not fit.

    >>> import jax.numpy as jnp
    >>> from supclap_jax.losses import info_nce
    >>> audio, text = jnp.eye(3), jnp.eye(3)[::-1]
    >>> contrast = lambda query, key: info_nce(query, key, 10.0)
    >>> radius_0 = svr(audio, text, None, 0.0, contrast, direction="text_to_audio")
    >>> bool(radius_0 == contrast(text, audio))
    True
    """
    radii = {"text": text_radius, "audio": audio_radius}
    pairs = {"text": (text, audio), "audio": (audio, text)}
    losses = []
    for side in regularized_sides(direction, radii):
        anchor, positive = pairs[side]
        losses.append(contrast(support_vectors(anchor, positive, radii[side]), positive))
    return sum(losses) / len(losses)


def regularized_sides(
    direction: str, radii: dict[str, jax.Array | float | None]
) -> tuple[str, ...]:
    """Which of "text" and "audio" have support vectors; ValueError if one has no radius."""
    check_direction(direction)
    for side in SIDES[direction]:
        if radii[side] is None:
            raise ValueError(
                f"{side}_radius is None; direction {direction!r} needs a scalar or [batch]"
            )
    return SIDES[direction]


def check_direction(direction: str) -> None:
    """Raises ValueError unless it is one of `SIDES`."""
    if direction not in SIDES:
        raise ValueError(f"direction is {direction!r}; expected one of {tuple(SIDES)}")


def radius_constraint(
    radius: jax.Array | float,
    distance: jax.Array,
    *,
    mask: jax.Array | None = None,
    weights: jax.Array | None = None,
    reduction: str = "mean",
    axis_name: str | tuple[str, ...] | None = None,
) -> jax.Array:
    """Keeps radii between zero and the pair's distance: `mean( relu(R - d) + relu(-R) )`.

    Args:
      radius: scalar or `[batch]`.
      distance: float `[batch]`, `|audio - text|` of each pair.
      mask, weights, reduction: of the pairs, see `info_nce`.
      axis_name: mesh axes inside `jax.shard_map`: the mean is over all devices' pairs.

    Returns:
      float32 scalar (float64 for float64 inputs), zero where all `0 <= R <= d`; or `[batch]`.

    Raises:
      ValueError: shapes that do not fit.

    >>> import jax.numpy as jnp
    >>> float(radius_constraint(jnp.array([0.5, 2.0, -1.0]), jnp.ones(3)))  # (0 + 1 + 1) / 3
    0.6666666865348816
    """
    if jnp.ndim(distance) != 1 or jnp.shape(radius) not in ((), distance.shape):
        raise ValueError(
            f"radius and distance have shapes {jnp.shape(radius)} and {jnp.shape(distance)}; "
            "expected [batch] distances, and as many radii or one for all"
        )
    outside = jax.nn.relu(radius - distance) + jax.nn.relu(-jnp.asarray(radius))
    return make_reduction(distance.shape[0], mask, weights, reduction, axis_name)(outside)
