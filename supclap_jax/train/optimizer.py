"""AdamW with linear warm-up, cosine decay to zero, and gradient clipping."""

import jax
import optax
from ml_collections import ConfigDict


def learning_rate(config: ConfigDict, total_steps: int) -> optax.Schedule:
    """Linear from zero over `warmup_steps`, then half a cosine down to zero at `total_steps`.

    A warm-up as long as the run leaves no decay.
    """
    return optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=config.learning_rate,
        warmup_steps=config.warmup_steps,
        decay_steps=max(total_steps, config.warmup_steps + 1),
    )


def make_optimizer(config: ConfigDict, total_steps: int) -> optax.GradientTransformation:
    """Builds it from `optimizer` or `radius_optimizer`; weight decay acts on kernels alone."""
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.adamw(
            learning_rate(config, total_steps),
            weight_decay=config.weight_decay,
            mask=is_kernel,
        ),
    )


def is_kernel(params):
    """A tree of bools: True for the matrices of dense layers; not for biases, norms, embeddings."""
    return jax.tree.map_with_path(lambda path, _: path[-1].key == "kernel", params)
