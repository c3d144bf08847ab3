"""The whole objective of SupCLAP: contrastive loss + alpha SVR + beta radius constraint."""

import jax
import jax.numpy as jnp

from supclap_jax.losses.info_nce import info_nce, symmetric_info_nce
from supclap_jax.losses.siglip import siglip
from supclap_jax.losses.similarity import distance, same_clip, similarity
from supclap_jax.losses.svr import radius_constraint, svr

BASES = ("info_nce", "siglip")


def supclap(
    audio: jax.Array,
    text: jax.Array,
    logit_scale: jax.Array | float,
    *,
    audio_radius: jax.Array | float | None = None,
    text_radius: jax.Array | float | None = None,
    base: str = "info_nce",
    logit_bias: jax.Array | float | None = None,
    direction: str = "both",
    alpha: float = 1.0,
    beta: float = 0.01,
    ids: jax.Array | None = None,
    same_id: str = "positive",
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """`L = L_base + alpha L_svr + beta L_constraint` (SupCLAP, arXiv 2509.21033).

    `L_base` is symmetric InfoNCE or SigLIP, `L_svr` is `svr` of the same loss in one direction,
    `L_constraint` is `radius_constraint`, the mean of the directions in use. Without any radius
    the loss is `L_base` alone.

    Args:
      audio: float `[batch, dim]`, L2-normalised.
      text: float `[batch, dim]`, L2-normalised; pair i is the positive.
      logit_scale: scalar, 1 / temperature.
      audio_radius: scalar or `[batch]`; radius of the audio support vectors.
      text_radius: scalar or `[batch]`; radius of the text support vectors.
      base: "info_nce" or "siglip".
      logit_bias: scalar; SigLIP needs it, InfoNCE takes none.
      direction: "both", "text_to_audio" (needs `text_radius`) or "audio_to_text"
        (needs `audio_radius`).
      alpha: weight of the SVR term.
      beta: weight of the radius constraint.
      ids: int `[batch]`; pairs with the same id show the same clip.
      same_id: "positive" or "ignore", see `info_nce`.

    Returns:
      The loss, a float32 scalar, and metrics, float32 scalars without gradient: `loss`,
      `loss/base`, `distance` (mean), in-batch recall at 1 as a share in [0, 1]
      (`recall/text_to_audio`, `recall/audio_to_text`; ties count as misses), and with radii
      `loss/svr`, `loss/constraint` and, for each of text and audio in use, `radius/*_mean`,
      `radius/*_std` and `contraction/*` (mean of 1 - R/d).

    Raises:
      ValueError: an unknown option, a missing radius or bias, shapes that do not fit.
      TypeError: embeddings that are not float, or ids that are not int.

    >>> import jax.numpy as jnp
    >>> audio, text = jnp.eye(4), jnp.roll(jnp.eye(4), 1, axis=0)
    >>> loss, metrics = supclap(audio, text, 14.0, audio_radius=0.3, text_radius=0.3)
    >>> bool(jnp.isclose(loss, metrics["loss/base"] + metrics["loss/svr"]))
    True
    """
    if base not in BASES:
        raise ValueError(f"base is {base!r}; expected one of {BASES}")
    if (logit_bias is None) == (base == "siglip"):
        raise ValueError(f"logit_bias is {logit_bias} with base {base!r}; only siglip takes a bias")

    if base == "info_nce":
        base_loss = symmetric_info_nce(audio, text, logit_scale, ids=ids, same_id=same_id)
    else:
        base_loss = siglip(audio, text, logit_scale, logit_bias, ids=ids, same_id=same_id)

    def contrast(query, key):
        if base == "info_nce":
            return info_nce(query, key, logit_scale, ids=ids, same_id=same_id)
        return siglip(query, key, logit_scale, logit_bias, ids=ids, same_id=same_id)

    apart = distance(audio, text)
    loss = base_loss
    metrics = {"loss/base": base_loss, "distance": jnp.mean(apart), **_recall(audio, text, ids)}
    if audio_radius is not None or text_radius is not None:
        svr_loss = svr(audio, text, audio_radius, text_radius, contrast, direction=direction)
        radii = {"text": text_radius, "audio": audio_radius}
        if direction != "both":
            radii.pop("audio" if direction == "text_to_audio" else "text")
        constraint = sum(radius_constraint(radius, apart) for radius in radii.values()) / len(radii)
        loss = loss + alpha * svr_loss + beta * constraint
        metrics |= {"loss/svr": svr_loss, "loss/constraint": constraint}
        for name, radius in radii.items():
            metrics |= _radius_metrics(name, radius, apart)
    metrics["loss"] = loss
    return loss, jax.lax.stop_gradient(metrics)


def _recall(audio: jax.Array, text: jax.Array, ids: jax.Array | None) -> dict[str, jax.Array]:
    """Share of queries whose best positive lies above every negative, in both directions."""
    logits = similarity(audio, text)
    positive = jnp.eye(logits.shape[0], dtype=bool) if ids is None else same_clip(ids)
    best = jnp.where(positive, logits, -jnp.inf)
    other = jnp.where(positive, -jnp.inf, logits)
    return {
        f"recall/{name}": jnp.mean(jnp.max(best, axis) > jnp.max(other, axis), dtype=jnp.float32)
        for name, axis in (("audio_to_text", 1), ("text_to_audio", 0))
    }


def _radius_metrics(name: str, radius: jax.Array | float, apart: jax.Array) -> dict[str, jax.Array]:
    share = jnp.where(apart > 0, radius / jnp.where(apart > 0, apart, 1), 0)
    return {
        f"radius/{name}_mean": jnp.mean(radius),
        f"radius/{name}_std": jnp.std(jnp.asarray(radius)),
        f"contraction/{name}": jnp.mean(1 - share),
    }
