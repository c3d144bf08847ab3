"""The gradient cache: the exact gradient of a large batch at a microbatch's activation memory.

A contrastive loss couples all pairs of a batch, so its gradient is no sum over microbatches. But it
reaches the towers through their embeddings alone (Gao et al., 2021, arXiv:2101.06983): embed one
microbatch after the other and keep no activations, take the loss and its gradient once, on the
embeddings of all, and then pass each microbatch's share of it back through the towers, computed
again. That is rematerialisation with microbatches as its unit, and written as such below.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from supclap_jax.errors import ConfigError
from supclap_jax.models.ced import MOMENTUM
from supclap_jax.models.dual_encoder import FROZEN
from supclap_jax.models.log_mel import frame_count, log_mel
from supclap_jax.runs.mesh import batch_sharding
from supclap_jax.runs.states import make_model


def make_towers(config: ConfigDict, mesh: Mesh) -> Callable:
    """Both towers in training, on the whole batch at once or, with `microbatch_size`, in parts.

    Microbatch i of n holds the pairs i, i + n, i + 2n, ... So each device's pairs are spread over
    all microbatches and never leave it, and the choice does not depend on the number of devices.
    Batch norm uses the statistics of the whole batch: it acts on the input, so they depend on no
    parameter and are found first. The result is that of the whole batch, except that dropout,
    patch-out and SpecAugment draw from a key for each microbatch (in both passes the same).

    Returns:
      `towers(params, batch_stats, batch, key)` -> outputs of `DualEncoder`, new batch_stats.

    Raises:
      ConfigError: the devices do not divide `microbatch_size`, or as `make_model`.
    """
    sharding, size = batch_sharding(mesh), config.microbatch_size
    model = make_model(config, sharding)

    def embed(params, batch_stats, batch, key, **options):
        return model.apply(
            {"params": params, "batch_stats": batch_stats},
            batch["audio"],
            batch["tokens"],
            batch["audio_lengths"],
            train=True,
            rngs={"dropout": key},
            **options,
        )

    def at_once(params, batch_stats, batch, key):
        outputs, updated = embed(params, batch_stats, batch, key, mutable=["batch_stats"])
        return outputs, updated["batch_stats"]

    if size is None:
        return at_once
    devices = config.batch_size // sharding.shard_shape((config.batch_size,))[0]
    if size % devices:
        raise ConfigError(
            f"microbatch_size {size} is not divisible by the {devices} devices that share a batch"
        )

    def place(x):
        return jax.lax.with_sharding_constraint(x, sharding)

    def in_parts(params, batch_stats, batch, key):
        parts = jax.tree.map(lambda x: place(x.reshape(size, -1, *x.shape[1:])), batch)
        indices = jnp.arange(parts["group_ids"].shape[1])

        def part(i):
            take = partial(jax.lax.dynamic_index_in_dim, index=i, axis=1, keepdims=False)
            return jax.tree.map(lambda x: place(take(x)), parts)

        new_batch_stats = batch_stats
        if not config.audio.frozen:
            batch_stats = _pooled(jax.lax.map(lambda i: _moments(part(i)), indices))
            new_batch_stats = jax.tree.map(
                lambda old, new: MOMENTUM * old + (1 - MOMENTUM) * new, new_batch_stats, batch_stats
            )

        def embed_part(i):
            outputs = embed(params, batch_stats, part(i), jax.random.fold_in(key, i))
            return jax.tree.map(lambda x: place(x) if x.ndim else x, outputs)

        def whole(x):
            return place(jnp.moveaxis(x, 1, 0).reshape(-1, x.shape[2]))

        keep = jax.checkpoint_policies.save_only_these_names(FROZEN)
        embed_part = jax.checkpoint(embed_part, prevent_cse=False, policy=keep)
        outputs = jax.lax.map(embed_part, indices)
        outputs = jax.tree.map(lambda x: whole(x) if x.ndim > 1 else x[0], outputs)
        return outputs, new_batch_stats

    return in_parts


def _moments(batch: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Number of the clips' own frames; mean and variance over them, of each mel bin."""
    x = log_mel(batch["audio"], batch["audio_lengths"])
    frames = frame_count(batch["audio_lengths"])
    own = (jnp.arange(x.shape[1]) < frames[:, None])[..., None]
    return frames.sum(), x.mean((0, 1), where=own), x.var((0, 1), where=own)


def _pooled(moments: tuple[jax.Array, jax.Array, jax.Array]) -> dict:
    """Mean and variance of the union of all parts, as the model's `batch_stats`."""
    frames, means, variances = moments
    share = (frames / frames.sum())[:, None]
    mean = jnp.sum(share * means, axis=0)
    variance = jnp.sum(share * (variances + (means - mean) ** 2), axis=0)
    return {"audio": {"input_norm": {"mean": mean, "var": variance}}}
