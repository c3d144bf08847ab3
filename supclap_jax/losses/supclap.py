"""The whole objective of SupCLAP: contrastive loss + alpha SVR + beta radius constraint."""

import dataclasses
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from supclap_jax.losses import tiles
from supclap_jax.losses.info_nce import info_nce, symmetric_info_nce
from supclap_jax.losses.siglip import siglip
from supclap_jax.losses.similarity import (
    check_pairs,
    distance,
    same_clip,
    similarity,
    similarity_summary,
)
from supclap_jax.losses.svr import radius_constraint, svr
from supclap_jax.losses.tiles import global_mean

SIDES = {"both": ("text", "audio"), "text_to_audio": ("text",), "audio_to_text": ("audio",)}
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
    predict_radii: Callable[[dict[str, jax.Array]], dict[str, jax.Array]] | None = None,
    axis_name: str | tuple[str, ...] | None = None,
    block_size: int | str | None = None,
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
      predict_radii: a function that gives both radii, instead of `audio_radius` and `text_radius`:
        from `{"audio": [batch, 8], "text": [batch, 8]}`, the `similarity_summary` of each audio
        and text among the scaled similarities of the batch, to
        `{"audio_radius": ..., "text_radius": ...}`. With `block_size` or `axis_name` the summaries
        carry no gradient.
      axis_name: mesh axes inside `jax.shard_map`, see `info_nce`; metrics are global too.
      block_size: rows and columns of a tile, None or "auto", see `info_nce`. The objective takes
        one sweep over all pairs for the base loss, recall and summaries, and one for each
        direction of the SVR term.

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
    check_pairs(audio, text, ids, same_id)
    if base not in BASES:
        raise ValueError(f"base is {base!r}; expected one of {BASES}")
    if (logit_bias is None) == (base == "siglip"):
        raise ValueError(f"logit_bias is {logit_bias} with base {base!r}; only siglip takes a bias")
    radii = {"audio_radius": audio_radius, "text_radius": text_radius}
    given = [name for name, radius in radii.items() if radius is not None]
    if predict_radii is not None and given:
        raise ValueError(f"predict_radii and {given[0]} are given; expected one of them")

    options = {"ids": ids, "same_id": same_id, "axis_name": axis_name, "block_size": block_size}
    everything = (audio, text, logit_scale, logit_bias)
    base_loss, recall, summaries = _base(base, *everything, predict_radii is not None, **options)
    if predict_radii is not None:
        radii |= predict_radii(summaries)

    def contrast(query, key):
        if base == "info_nce":
            return info_nce(query, key, logit_scale, **options)
        return siglip(query, key, logit_scale, logit_bias, **options)

    mean = partial(global_mean, axis_name=axis_name)
    apart = distance(audio, text)
    loss = base_loss
    metrics = {"loss/base": base_loss, "distance": mean(apart), **recall}
    if any(radius is not None for radius in radii.values()):
        svr_loss = svr(audio, text, **radii, contrast=contrast, direction=direction)
        used = SIDES[direction]
        constraints = [
            radius_constraint(radii[f"{side}_radius"], apart, axis_name=axis_name) for side in used
        ]
        constraint = sum(constraints) / len(used)
        loss = loss + alpha * svr_loss + beta * constraint
        metrics |= {"loss/svr": svr_loss, "loss/constraint": constraint}
        for side in used:
            metrics |= _radius_metrics(side, radii[f"{side}_radius"], apart, mean)
    metrics["loss"] = loss
    return loss, jax.lax.stop_gradient(metrics)


def _base(base, audio, text, logit_scale, logit_bias, summarise, **options):
    """The base loss, in-batch recall, and the summaries if asked, from one sweep."""
    ids, axis_name = options["ids"], options["axis_name"]
    kind = "softmax" if base == "info_nce" else "sigmoid"
    plan = tiles.make_plan(kind, audio.shape[0], **options)
    if plan is not None:
        plan = dataclasses.replace(plan, both=base == "info_nce", recall=True, summary=summarise)
        bias = 0.0 if logit_bias is None else logit_bias
        sides = tiles.sweep(plan, audio, text, logit_scale, bias, ids)
        loss = tiles.mean_loss(sides, axis_name)
    else:
        scores = similarity(audio, text)
        sides = [{"hit": _hits(scores, ids, axis)} for axis in (1, 0)]
        if summarise:
            sides[0]["summary"] = similarity_summary(scores * logit_scale)
            sides[1]["summary"] = similarity_summary(scores.T * logit_scale)
        if base == "info_nce":
            loss = symmetric_info_nce(audio, text, logit_scale, **options)
        else:
            loss = siglip(audio, text, logit_scale, logit_bias, **options)
    of_audio, of_text = sides
    recall = {
        "recall/audio_to_text": global_mean(of_audio["hit"], axis_name),
        "recall/text_to_audio": global_mean(of_text["hit"], axis_name),
    }
    return loss, recall, {"audio": of_audio.get("summary"), "text": of_text.get("summary")}


def _hits(scores: jax.Array, ids: jax.Array | None, axis: int) -> jax.Array:
    """1 `[batch]` for queries whose best positive lies above every negative, 0 for others."""
    positive = jnp.eye(scores.shape[0], dtype=bool) if ids is None else same_clip(ids)
    best = jnp.max(jnp.where(positive, scores, -jnp.inf), axis)
    return (best > jnp.max(jnp.where(positive, -jnp.inf, scores), axis)).astype(jnp.float32)


def _radius_metrics(
    side: str,
    radius: jax.Array | float,
    apart: jax.Array,
    mean: Callable[[jax.Array], jax.Array],
) -> dict[str, jax.Array]:
    radius = jnp.asarray(radius)
    share = jnp.where(apart > 0, radius / jnp.where(apart > 0, apart, 1), 0)
    centre = mean(radius)
    return {
        f"radius/{side}_mean": centre,
        f"radius/{side}_std": jnp.sqrt(mean((radius - centre) ** 2)),
        f"contraction/{side}": mean(1 - share),
    }
