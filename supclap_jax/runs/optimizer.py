"""AdamW with linear warm-up, a schedule, gradient clipping, and rates of their own."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from supclap_jax.models.dual_encoder import TOWERS, frozen_towers
from supclap_jax.models.registry import encoders

SCHEDULE = {"total_steps", "optimizer.schedule", "optimizer.decay_steps"}


def learning_rate(config: ConfigDict, section: str = "optimizer") -> optax.Schedule:
    """Linear from zero to the peak over `warmup_steps`, then as `optimizer.schedule` says.

    - "cosine": half a cosine down to zero at `total_steps`; a warm-up as long as the run leaves
      none of it.
    - "constant": the peak.
    - "wsd" (warm-up, stable, decay): the peak, but in the last `decay_steps`, which end at zero,
      the peak times `1 - sqrt(share of them that is over)` (arXiv 2405.18392).

    Until the cooldown, the last two are the same to the last bit, and so are runs with them: what
    differs is hidden from the compiler, which makes one program of both.

    Args:
      config: of the run.
      section: whose peak and warm-up it has: "optimizer" or "radius_optimizer".

    Returns:
      A function of the number of updates made before, from 0.
    """
    peak, warmup_steps = config[section].learning_rate, config[section].warmup_steps
    schedule, total_steps = config.optimizer.schedule, config.total_steps
    if schedule == "cosine":
        return optax.warmup_cosine_decay_schedule(
            init_value=0.0,
            peak_value=peak,
            warmup_steps=warmup_steps,
            decay_steps=max(total_steps, warmup_steps + 1),
        )
    decay_steps = config.optimizer.decay_steps
    begin = total_steps - decay_steps if schedule == "wsd" else total_steps

    def rate(step):
        warm = jnp.minimum(step / warmup_steps, 1) if warmup_steps else 1.0
        # Known to XLA, they would change how it fuses the update, and so its rounding.
        first, count = jax.lax.optimization_barrier(jnp.array([begin, decay_steps]))
        over = jnp.clip((step - first) / count, 0, 1)
        return peak * warm * (1 - jnp.sqrt(over))

    return rate


def adamw(config: ConfigDict, section: str = "optimizer") -> optax.GradientTransformation:
    """Builds it from `optimizer` or `radius_optimizer`; weight decay acts on kernels alone."""
    return optax.chain(
        optax.clip_by_global_norm(config[section].clip_norm),
        optax.adamw(
            learning_rate(config, section),
            weight_decay=config[section].weight_decay,
            mask=is_kernel,
        ),
    )


def radius_optimizer(config: ConfigDict) -> optax.GradientTransformation:
    """The radius model's, from a run's config."""
    return adamw(config, "radius_optimizer")


def dual_encoder_optimizer(config: ConfigDict) -> optax.GradientTransformation:
    """The dual encoder's, from a run's config.

    A frozen tower has no optimizer state, and its gradient no part in the norm that is clipped.
    """
    optimizer = optax.chain(
        adamw(config),
        optax.stateless(
            lambda updates, _: jax.tree.map(
                jnp.multiply, updates, learning_rate_scales(config, updates)
            )
        ),
    )
    frozen = frozen_towers(config)
    if not frozen:
        return optimizer

    def kinds(params):
        return {name: "frozen" if name in frozen else "trained" for name in params}

    return optax.partition({"trained": optimizer, "frozen": optax.set_to_zero()}, kinds)


def learning_rate_scales(config: ConfigDict, params):
    """By what the learning rate is multiplied, for every parameter of the dual encoder.

    A factor for each group (`optimizer.scale`), times `optimizer.layer_decay` once for each layer
    between a tower's parameter and its output (as in BEiT, arXiv 2106.08254), which the encoder
    counts (`Encoder.layers_above`).

    Args:
      config: of the run.
      params: of `DualEncoder`, or any tree like it.

    Returns:
      A tree like `params` of scalars, `[depth, 1, ...]` for stacked layers.
    """
    decay, encoder_of = config.optimizer.layer_decay, encoders(config)

    def scale(path, leaf):
        name, *rest = (step.key for step in path)
        if name not in TOWERS:
            group = "projections" if name.endswith("projection") else "temperature"
            return jnp.float32(config.optimizer.scale[group])
        layers_above = encoder_of[name].layers_above
        layers = layers_above(tuple(rest), leaf, config) if layers_above else 0
        return config.optimizer.scale[name] * jnp.float32(decay) ** layers

    return jax.tree.map_with_path(scale, params)


def is_kernel(params):
    """A tree of bools: True for the matrices of dense layers; not for biases, norms, embeddings."""
    return jax.tree.map_with_path(lambda path, _: path[-1].key == "kernel", params)


def moving_average(average, params, step: jax.Array, decay: float):
    """An exponential moving average of parameters, moved on by one step.

    `average + (1 - d) (params - average)` with `d = min(decay, (1 + step) / (10 + step))`: early
    averages forget the initial values faster (as in TensorFlow's and timm's).

    Args:
      average: tree of arrays; `params` at step 0.
      params: tree of arrays, after the step.
      step: int scalar, steps taken before this one.
      decay: in [0, 1).
    """
    kept = jnp.minimum(decay, (1 + step) / (10 + step))
    return jax.tree.map(lambda a, p: a + (1 - kept) * (p - a), average, params)


def has_same_rates(one: ConfigDict, other: ConfigDict, steps: int) -> bool:
    """Whether two runs have the same learning rates, of both models, in their first `steps`."""
    made = np.arange(steps)
    return all(
        np.array_equal(learning_rate(one, section)(made), learning_rate(other, section)(made))
        for section in ("optimizer", "radius_optimizer")
    )
