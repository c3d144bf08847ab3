"""The whole objective of SupCLAP: contrastive loss + alpha SVR + beta radius constraint."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from .base import BASES, BaseLoss, Side
from .batch_statistics import Recall, Summary
from .blocks import Job, Sides
from .function_loss import Function, function_sides
from .inputs import check_pairs, scalar, wide
from .pairs import Pairs, zero_padded
from .reduction import make_reduction
from .similarity import distance
from .svr import (
    check_direction,
    radius_constraint,
    regularized_sides,
    support_vectors,
)
from .tile_sweep import losses_of, sweeps
from .tiles import make_plan

POSITIVE = {"text": "audio", "audio": "text"}  # what the support vectors of each side move towards

Metrics = dict[str, jax.Array]
Pulls = dict[str, jax.Array]


def supclap(
    audio: jax.Array,
    text: jax.Array,
    logit_scale: jax.Array | float,
    *,
    audio_radius: jax.Array | float | None = None,
    text_radius: jax.Array | float | None = None,
    base: str | BaseLoss | Function = "info_nce",
    logit_bias: jax.Array | float | None = None,
    direction: str = "both",
    alpha: float = 1.0,
    beta: float = 0.01,
    bound: str = "none",
    over_directions: str = "mean",
    ids: jax.Array | None = None,
    same_id: str = "positive",
    mask: jax.Array | None = None,
    weights: jax.Array | None = None,
    reduction: str = "mean",
    predict_radii: Callable[[dict[str, jax.Array]], dict[str, jax.Array]] | None = None,
    axis_name: str | tuple[str, ...] | None = None,
    block_size: int | str | None = None,
    pulls: bool = False,
) -> tuple[jax.Array, Metrics | tuple[Metrics, Pulls]]:
    """`L = L_base + alpha L_svr + beta L_constraint` (SupCLAP, arXiv 2509.21033).

    `L_base` is symmetric InfoNCE, SigLIP or the mean of another loss in both directions,
    `L_svr` is `svr` of the same loss in one direction, `L_constraint` is `radius_constraint`, the
    mean of the directions in use. Without any radius the loss is `L_base` alone. With
    `over_directions="sum"`, as in the paper, `L_base` and `L_svr` are sums over their directions:
    `L_constraint`, and `L_svr` of one direction, then weigh half as much beside `L_base`.

    Args:
      audio: float `[batch, dim]`, L2-normalised; with `text` any two modalities.
      text: float `[batch, dim]`, L2-normalised; pair i is the positive.
      logit_scale: scalar or `[1]`, 1 / temperature.
      audio_radius: scalar or `[batch]`; radius of the audio support vectors.
      text_radius: scalar or `[batch]`; radius of the text support vectors.
      base: "info_nce", "siglip", "decoupled", a `BaseLoss`, or a function of one direction,
        `(query, key, logit_scale)`, that gives the loss `[batch]` of each query or their mean. A
        function sees whole matrices, so `block_size` and `axis_name` are refused; it does not see
        `ids`, which then count for the recall alone; for pulls see `function_sides`.
      logit_bias: scalar or `[1]`; SigLIP needs it, InfoNCE and functions take none.
      direction: "both", "text_to_audio" (needs `text_radius`) or "audio_to_text"
        (needs `audio_radius`).
      alpha: weight of the SVR term.
      beta: weight of the radius constraint.
      bound: "none", or "distance": the radii are shares of each pair's distance d, which carries no
        gradient, `R = share d`; of shares in [0, 1] the constraint is zero.
      over_directions: "mean" or "sum", of `L_base` and `L_svr`.
      ids: int `[batch]`; pairs with the same id show the same clip.
      same_id: "positive" or "ignore", see `info_nce`.
      mask: bool `[batch]`, False for padded pairs, see `info_nce`; they count in no metric either.
        A function as `base` does not see it, so it is refused.
      weights: float `[batch]`, of each pair in the mean and in the metrics; None: all alike.
      reduction: "mean", or "none" for the loss `[batch]` of each pair.
      predict_radii: a function that gives both radii, instead of `audio_radius` and `text_radius`:
        from `{"audio": [batch, 8], "text": [batch, 8]}`, the `similarity_summary` of each audio
        and text among the scaled similarities of the batch, to
        `{"audio_radius": ..., "text_radius": ...}`. The summaries carry no gradient.
      axis_name: mesh axes inside `jax.shard_map`, see `info_nce`; metrics are global too.
      block_size: rows and columns of a tile, or "auto", see `info_nce`; None keeps whole matrices.
        The objective takes one sweep over all pairs for the base loss, recall and summaries, and
        one for each direction of the SVR term, all on one trip round the ring (radii that are
        predicted from the first sweep need a second trip).
      pulls: also return what `forces` needs to tell pull from push. The second result is then the
        pair `(metrics, pulls)`, so that `has_aux` of `jax.grad` goes on working; on a mesh
        `sharded` takes `out_specs=(P(), (P(), P(axis_name)))`.

    Returns:
      The loss, a float32 scalar or `[batch]`, and metrics, float32 scalars without gradient:
      `loss`, `loss/base`, `distance` (mean), in-batch recall at 1 in percent
      (`R@1/text_to_audio`, `R@1/audio_to_text`; ties count as misses), and with radii
      `loss/svr`, `loss/constraint` and, for each of text and audio in use, `radius/*_mean`,
      `radius/*_std` and `contraction/*` (mean of 1 - R/d). Pulls are `{"audio": [batch, dim],
      "text": [batch, dim]}`, without gradient: the part of the negative gradient of `loss` by which
      each pair's own similarities attract its embeddings, support vectors included.

    Raises:
      ValueError: an unknown option, a missing radius or bias, shapes that do not fit, no pairs.
      TypeError: embeddings that are no float arrays, ids that are no int array, or a base that is
        no loss.

    >>> import jax.numpy as jnp
    >>> audio, text = jnp.eye(4), jnp.roll(jnp.eye(4), 1, axis=0)
    >>> loss, metrics = supclap(audio, text, 14.0, audio_radius=2**0.5, text_radius=2**0.5)
    >>> {name: round(float(metrics[name]), 3) for name in ("loss/base", "loss/svr")}
    {'loss/base': 14.0, 'loss/svr': 0.0}
    """
    base = _checked_base(base, logit_bias, axis_name, block_size)
    pairs = Pairs(ids, mask)
    check_pairs(audio, text, pairs, same_id, axis_name, block_size)
    check_direction(direction)
    _check_choice("bound", bound, ("none", "distance"))
    _check_choice("over_directions", over_directions, ("mean", "sum"))
    dtype = wide(audio, text)
    logit_scale = scalar("logit_scale", logit_scale, dtype)
    logit_bias = None if logit_bias is None else scalar("logit_bias", logit_bias, dtype)
    of_pairs = {"mask": mask, "weights": weights, "reduction": reduction, "axis_name": axis_name}
    reduce = make_reduction(audio.shape[0], **of_pairs)
    audio, text = pairs.without_padding(audio, text)
    mean, apart = reduce.mean, distance(audio, text)
    unit = jax.lax.stop_gradient(apart) if bound == "distance" else 1
    radii = {"audio": audio_radius, "text": text_radius}
    given = [side for side, radius in radii.items() if radius is not None]
    if predict_radii is not None and given:
        raise ValueError(f"predict_radii and {given[0]}_radius are given; expected one of them")

    embeddings = {"audio": audio, "text": text}
    if mask is not None and not isinstance(base, BaseLoss):
        raise ValueError(f"base is the function {base}, which sees no mask; leave out padded rows")
    contrast, summary = partial(function_sides, base, ids=ids, pulls=pulls), Summary()
    if isinstance(base, BaseLoss):
        keys = [text] if predict_radii is None and not given else [audio, text]
        plan = make_plan(base, audio, keys, ids, same_id, axis_name, block_size)
        bias = 0.0 if logit_bias is None else logit_bias
        contrast = partial(sweeps, plan, logit_bias=bias, pairs=pairs)
        summary = Summary(others_known=base.sums_all_negatives(plan.same_id))
    contrast = partial(contrast, keys=embeddings, logit_scale=logit_scale)

    base_job = Job(audio, "text", both=True, statistics=(Recall(),))  # audio: rows, text: columns
    if predict_radii is None:
        sides = regularized_sides(direction, radii) if given else ()
        radii = {side: radii[side] * unit for side in sides}
        of_base, *of_svr = contrast([base_job, *_svr_jobs(embeddings, radii, sides)])
    else:
        (of_base,) = contrast([base_job._replace(statistics=(Recall(), summary))])
        summaries = {"audio": of_base.rows["summary"], "text": of_base.columns["summary"]}
        summaries = {side: zero_padded(mask, x) for side, x in summaries.items()}
        radii = _predicted(predict_radii(summaries))
        sides = regularized_sides(direction, radii)
        radii = {side: radii[side] * unit for side in sides}
        of_svr = contrast(_svr_jobs(embeddings, radii, sides))
    svr_rows = {side: found.rows for side, found in zip(sides, of_svr, strict=True)}

    is_sum = over_directions == "sum"
    base_weight, svr_weight = (2, 1) if is_sum else (1, 1 / max(len(sides), 1))
    loss = base_loss = base_weight * reduce(losses_of(of_base))
    metrics = {
        "loss/base": base_loss,
        "distance": mean(apart),
        "R@1/audio_to_text": 100 * mean(of_base.rows["hit"]),
        "R@1/text_to_audio": 100 * mean(of_base.columns["hit"]),
    }
    if sides:
        svr_loss = svr_weight * sum(reduce(rows["loss"]) for rows in svr_rows.values())
        constraint = sum(radius_constraint(radii[side], apart, **of_pairs) for side in sides) / len(
            sides
        )
        loss = loss + alpha * svr_loss + beta * constraint
        metrics |= {"loss/svr": svr_loss, "loss/constraint": constraint}
        for side in sides:
            metrics |= _radius_metrics(side, radii[side], apart, mean)
    metrics["loss"] = loss
    metrics = {name: mean(x) if jnp.ndim(x) else x for name, x in metrics.items()}
    metrics = jax.lax.stop_gradient(metrics)
    if not pulls:
        return loss, metrics
    weights = (base_weight, alpha * svr_weight)
    found = _pulls(embeddings, radii, of_base, svr_rows, weights, mean)
    return loss, (metrics, jax.lax.stop_gradient(found))


def _checked_base(
    base: str | BaseLoss | Function,
    logit_bias: jax.Array | float | None,
    axis_name: str | tuple[str, ...] | None,
    block_size: int | str | None,
) -> BaseLoss | Function:
    """The loss that `base` names or is, if the other options fit it."""
    loss = BASES.get(base) if isinstance(base, str) else base
    if loss is None:
        raise ValueError(f"base is {base!r}; expected one of {tuple(BASES)}, or a loss itself")
    if not isinstance(loss, BaseLoss):
        if isinstance(loss, type) or not callable(loss):
            raise TypeError(f"base is {base!r}; expected a name, a BaseLoss or a function")
        if axis_name or block_size is not None:
            raise ValueError(
                f"base is the function {base}, which sees whole matrices; leave out block_size and "
                "axis_name, since tiles and rings need a BaseLoss object"
            )
    takes_bias = isinstance(loss, BaseLoss) and loss.takes_bias
    if (logit_bias is not None) != takes_bias:
        raise ValueError(
            f"logit_bias is {logit_bias}, but base {base!r} "
            f"{'needs a' if takes_bias else 'takes no'} bias"
        )
    return loss


def _check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name} is {value!r}; expected one of {known}")


def _predicted(radii: dict[str, jax.Array]) -> dict[str, jax.Array | None]:
    """What `predict_radii` gave, by side."""
    names = {f"{side}_radius": side for side in POSITIVE}
    if not isinstance(radii, dict) or not names.keys() >= radii.keys():
        given = list(radii) if isinstance(radii, dict) else f"a {type(radii).__name__}"
        raise ValueError(f"predict_radii gives {given}; expected a dict of {' and '.join(names)}")
    return {side: radii.get(name) for name, side in names.items()}


def _svr_jobs(
    embeddings: dict[str, jax.Array],
    radii: dict[str, jax.Array | float | None],
    sides: tuple[str, ...],
) -> list[Job]:
    """The support vectors of each side in use, against the embeddings they move towards."""
    return [
        Job(
            support_vectors(embeddings[side], embeddings[POSITIVE[side]], radii[side]),
            POSITIVE[side],
        )
        for side in sides
    ]


def _radius_metrics(
    side: str,
    radius: jax.Array | float,
    apart: jax.Array,
    mean: Callable[[jax.Array], jax.Array],
) -> Metrics:
    radius = jnp.asarray(radius, apart.dtype)
    share = jnp.where(apart > 0, radius / jnp.where(apart > 0, apart, 1), 0)
    centre = mean(radius)
    return {
        f"radius/{side}_mean": centre,
        f"radius/{side}_std": jnp.sqrt(mean((radius - centre) ** 2)),
        f"contraction/{side}": mean(1 - share),
    }


def _pulls(
    embeddings: dict[str, jax.Array],
    radii: dict[str, jax.Array | float | None],
    of_base: Sides,
    svr_rows: dict[str, Side],
    weights: tuple[float, float],
    mean: Callable[[jax.Array], jax.Array],
) -> Pulls:
    """The gradient of all own similarities, times what each is worth to the loss."""
    strengths = [side["pull"] for side in of_base if "pull" in side]
    base_weight, svr_weight = weights
    base_strength = base_weight * sum(strengths) / len(strengths)

    def attraction(embeddings):
        total = mean(base_strength * _row_dot(embeddings["audio"], embeddings["text"]))
        for side, rows in svr_rows.items():
            (job,) = _svr_jobs(embeddings, radii, (side,))
            own = _row_dot(job.query, embeddings[job.key])
            total += svr_weight * mean(rows["pull"] * own)
        return total

    return jax.grad(attraction)(embeddings)


def _row_dot(x: jax.Array, y: jax.Array) -> jax.Array:
    dtype = wide(x, y)
    return jnp.sum(x.astype(dtype) * y.astype(dtype), axis=1)
