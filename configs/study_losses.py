"""Controls of the study: losses of one direction that do one thing that SVR also does.

`loss.base=study_losses:NAME` with a recipe of this folder; `study_scratch` compares them.
"""

import jax
import jax.numpy as jnp

from supclap_jax.losses import info_nce

PULL = 2.0  # that own pairs have in `heavier_positives`, times InfoNCE's
SHARE = 0.5  # of the distance, in `stopped_direction`


def twice(query, key, logit_scale):
    """InfoNCE times two: as large as with an SVR term, and under Adam the same."""
    return 2 * info_nce(query, key, logit_scale)


def heavier_positives(query, key, logit_scale):
    """InfoNCE with each own pair's pull times `PULL`, and pushes as they are.

    The pull of pair i is `s (1 - P_ii)`, so its own similarity is added with this weight, which has
    no gradient. The value, and the gradient of the temperature, are those of InfoNCE.
    """
    scale = jax.lax.stop_gradient(logit_scale)
    own = scale * jnp.sum(query * key, axis=1)
    logits = scale * query @ key.T
    miss = jax.lax.stop_gradient(1 - jnp.exp(own - jax.nn.logsumexp(logits, axis=1)))
    pull = -jnp.mean(miss * own)
    extra = (PULL - 1) * (pull - jax.lax.stop_gradient(pull))
    return info_nce(query, key, logit_scale) + extra


def stopped_direction(query, key, logit_scale):
    """InfoNCE and SVR at half the distance, no gradient through the way there: no contraction."""
    moved = query + SHARE * jax.lax.stop_gradient(key - query)
    return info_nce(query, key, logit_scale) + info_nce(moved, key, logit_scale)
