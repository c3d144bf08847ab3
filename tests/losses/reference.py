"""SupCLAP's objective in plain lines: whole matrices, one device; the reading of the method."""

import jax
import jax.numpy as jnp


def contrast(logits, base, same, same_id):
    """The loss [B] of each row of logits [B, B]; same [B, B] says which pairs show one clip."""
    own = jnp.eye(len(logits), dtype=bool)
    positive = same if same_id == "positive" else own
    logits = jnp.where(same & ~positive, -jnp.inf, logits)
    if base == "siglip":
        return jnp.sum(jax.nn.softplus(jnp.where(positive, -logits, logits)), axis=1)
    target = jnp.sum(jnp.where(positive, logits, 0), axis=1) / jnp.sum(positive, axis=1)
    return jax.nn.logsumexp(logits, axis=1) - target


def summary(logits):
    """[B, 8]: own logit, four hardest negatives, their log-mean-exp, mean, deviation; B > 4."""
    others = jnp.stack([jnp.delete(row, i) for i, row in enumerate(logits)])
    soft_maximum = jax.nn.logsumexp(others, axis=1) - jnp.log(others.shape[1])
    hardest = -jnp.sort(-others, axis=1)[:, :4]
    spread = jnp.std(others, axis=1)
    return jnp.column_stack([jnp.diagonal(logits), hardest, soft_maximum, others.mean(1), spread])


def objective(
    audio,
    text,
    scale,
    radii,
    *,
    base="info_nce",
    bias=0.0,
    ids=None,
    same_id="positive",
    direction="both",
    alpha=1.0,
    beta=0.01,
    bound="none",
    over_directions="mean",
    only_pull=False,
):
    """The loss and its parts; radii by side, or a function of the summaries that gives them."""
    ids = jnp.arange(len(audio)) if ids is None else ids
    same = ids[:, None] == ids[None, :]

    def loss(query, key):
        logits = scale * query @ key.T + bias
        if only_pull:  # the same value, but only the own similarities have a gradient
            logits = jnp.where(jnp.eye(len(logits)), logits, jax.lax.stop_gradient(logits))
        return jnp.mean(contrast(logits, base, same, same_id))

    mean_of = (lambda n: 1) if over_directions == "sum" else (lambda n: n)
    both = loss(audio, text) + loss(text, audio)
    parts = {"base": both / mean_of(2), "svr": 0.0, "constraint": 0.0}
    if callable(radii):
        logits = jax.lax.stop_gradient(scale * audio @ text.T)
        radii = radii({"audio": summary(logits), "text": summary(logits.T)})
    distance = jnp.linalg.norm(audio - text, axis=1, keepdims=True)
    pairs = {"text_to_audio": ("text", text, audio), "audio_to_text": ("audio", audio, text)}
    directions = pairs if direction == "both" else (direction,)
    for side, anchor, positive in (pairs[name] for name in directions):
        radius = jnp.reshape(radii[side], (-1, 1))
        radius *= jax.lax.stop_gradient(distance) if bound == "distance" else 1
        support_vector = anchor + radius * (positive - anchor) / distance
        outside = jax.nn.relu(radius - distance) + jax.nn.relu(-radius)
        parts["svr"] += loss(support_vector, positive) / mean_of(len(directions))
        parts["constraint"] += jnp.mean(outside) / len(directions)
    return parts["base"] + alpha * parts["svr"] + beta * parts["constraint"], parts


def pulls(audio, text, *args, **options):
    """The part [B, dim] of the negative gradient that own similarities make, on audio and text."""
    options |= {"beta": 0.0, "only_pull": True}
    gradients = jax.grad(objective, argnums=(0, 1), has_aux=True)(audio, text, *args, **options)[0]
    return {"audio": -gradients[0], "text": -gradients[1]}
