"""A loss of a user's own: decoupled contrastive learning (Yeh et al. 2022, arXiv 2110.06848)."""

import jax
import jax.numpy as jnp


def decoupled(query, key, logit_scale):
    """InfoNCE without the positive in the denominator, of each query `[batch]`."""
    logits = logit_scale * query @ key.T
    negatives = jnp.where(jnp.eye(len(logits), dtype=bool), -jnp.inf, logits)
    return jax.nn.logsumexp(negatives, axis=1) - jnp.diagonal(logits)
