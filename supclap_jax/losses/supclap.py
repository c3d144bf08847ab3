"""The whole objective of SupCLAP: contrastive loss + alpha SVR + beta radius constraint."""

import dataclasses
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from supclap_jax.losses.similarity import check_pairs, distance
from supclap_jax.losses.svr import radius_constraint, regularized_sides, support_vectors
from supclap_jax.losses.sweep import global_mean, mean_loss, sweeps
from supclap_jax.losses.tiles import Plan, make_plan

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
    pulls: bool = False,
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
        `{"audio_radius": ..., "text_radius": ...}`. The summaries carry no gradient.
      axis_name: mesh axes inside `jax.shard_map`, see `info_nce`; metrics are global too.
      block_size: rows and columns of a tile, or "auto", see `info_nce`; None keeps whole matrices.
        The objective takes one sweep over all pairs for the base loss, recall and summaries, and
        one for each direction of the SVR term, all on one trip round the ring (radii that are
        predicted from the first sweep need a second trip).
      pulls: also return what `forces` needs to tell pull from push.

    Returns:
      The loss, a float32 scalar, and metrics, float32 scalars without gradient: `loss`,
      `loss/base`, `distance` (mean), in-batch recall at 1 as a share in [0, 1]
      (`recall/text_to_audio`, `recall/audio_to_text`; ties count as misses), and with radii
      `loss/svr`, `loss/constraint` and, for each of text and audio in use, `radius/*_mean`,
      `radius/*_std` and `contraction/*` (mean of 1 - R/d). With `pulls` also `pull/audio` and
      `pull/text`, `[batch, dim]`: the part of the negative gradient of `loss` by which each pair's
      own similarities attract its embeddings, support vectors included.

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
    radii = {"audio": audio_radius, "text": text_radius}
    given = [side for side, radius in radii.items() if radius is not None]
    if predict_radii is not None and given:
        raise ValueError(f"predict_radii and {given[0]}_radius are given; expected one of them")

    kind = "softmax" if base == "info_nce" else "sigmoid"
    batch = audio.shape[0]
    plan = make_plan(kind, batch, ids, same_id, axis_name, block_size)
    plan = plan or Plan(kind, batch, same_id=None if ids is None else same_id, keep=True)
    bias = 0.0 if logit_bias is None else logit_bias
    trip = partial(sweeps, logit_scale=logit_scale, logit_bias=bias, ids=ids)
    predicted = predict_radii is not None
    base_plan = dataclasses.replace(plan, both=base == "info_nce", recall=True, summary=predicted)
    base_job = (base_plan, audio, text)
    if predicted:
        ((of_audio, of_text),) = trip([base_job])
        radii = predict_radii({"audio": of_audio["summary"], "text": of_text["summary"]})
        radii = {side: radii.get(f"{side}_radius") for side in ("audio", "text")}
    regularized = predicted or any(radius is not None for radius in radii.values())
    sides = regularized_sides(direction, radii) if regularized else ()
    pairs = {"text": (text, audio), "audio": (audio, text)}
    svr_jobs = [
        (plan, support_vectors(*pairs[side], radii[side]), pairs[side][1]) for side in sides
    ]
    if predicted:
        svr_sweeps = trip(svr_jobs)
    else:
        (of_audio, of_text), *svr_sweeps = trip([base_job, *svr_jobs])

    mean = partial(global_mean, axis_name=axis_name)
    loss = base_loss = mean_loss((of_audio, of_text), axis_name)
    apart = distance(audio, text)
    metrics = {
        "loss/base": base_loss,
        "distance": mean(apart),
        "recall/audio_to_text": mean(of_audio["hit"]),
        "recall/text_to_audio": mean(of_text["hit"]),
    }
    if sides:
        svr_loss = sum(mean(rows["loss"]) for rows, _ in svr_sweeps) / len(sides)
        constraint = sum(
            radius_constraint(radii[side], apart, axis_name=axis_name) for side in sides
        ) / len(sides)
        loss = loss + alpha * svr_loss + beta * constraint
        metrics |= {"loss/svr": svr_loss, "loss/constraint": constraint}
        for side in sides:
            metrics |= _radius_metrics(side, radii[side], apart, mean)
    metrics["loss"] = loss
    if pulls:
        strengths = [side["pull"] for side in (of_audio, of_text) if "pull" in side]
        base_strength = sum(strengths) / len(strengths)

        def attraction(audio, text):
            """Its gradient is the pull: own similarities, times what each is worth to the loss."""
            total = mean(base_strength * _row_dot(audio, text))
            pairs = {"text": (text, audio), "audio": (audio, text)}
            for side, (rows, _) in zip(sides, svr_sweeps, strict=True):
                anchor, positive = pairs[side]
                moved = support_vectors(anchor, positive, radii[side])
                total += alpha / len(sides) * mean(rows["pull"] * _row_dot(moved, positive))
            return total

        of_pairs = jax.grad(attraction, argnums=(0, 1))(audio, text)
        metrics |= dict(zip(("pull/audio", "pull/text"), of_pairs, strict=True))

    return loss, jax.lax.stop_gradient(metrics)


def _row_dot(x: jax.Array, y: jax.Array) -> jax.Array:
    wide = jnp.promote_types(x.dtype, jnp.float32)
    return jnp.sum(x.astype(wide) * y.astype(wide), axis=1)


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
