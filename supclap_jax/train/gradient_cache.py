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
from supclap_jax.models.dual_encoder import FROZEN, make_model
from supclap_jax.models.registry import audio_encoder, encoders
from supclap_jax.runs.mesh import batch_sharding
from supclap_jax.runs.states import abstract_states


def make_towers(config: ConfigDict, mesh: Mesh) -> Callable:
    """Both towers in training, on the whole batch at once or, with `microbatch_size`, in parts.

    Microbatch i of n holds the pairs i, i + n, i + 2n, ... So each device's pairs are spread over
    all microbatches and never leave it, and the choice does not depend on the number of devices.
    Batch norm uses the statistics of the whole batch: it acts on features, so they depend on no
    parameter and are found first (`AudioEncoder.moments`). The result is that of the whole batch,
    except that what is random (dropout, patch-out, SpecAugment) draws from a key for each
    microbatch, in both passes the same.

    Returns:
      `towers(params, batch_stats, batch, key)` -> outputs of `DualEncoder`, new batch_stats.

    Raises:
      ConfigError: the devices do not divide `microbatch_size`, an encoder has a batch norm whose
        statistics no microbatches can pool, or as `make_model`.
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
        return outputs, updated.get("batch_stats", {})

    if size is None:
        return at_once
    devices = config.batch_size // sharding.shard_shape((config.batch_size,))[0]
    if size % devices:
        raise ConfigError(
            f"microbatch_size {size} is not divisible by the {devices} devices that share a batch"
        )
    _check_pooling(config, mesh)
    encoder = audio_encoder(config)
    pools = encoder.momentum is not None and not config.audio.frozen

    def place(x):
        return jax.lax.with_sharding_constraint(x, sharding)

    def in_parts(params, batch_stats, batch, key):
        parts = jax.tree.map(lambda x: place(x.reshape(size, -1, *x.shape[1:])), batch)
        indices = jnp.arange(parts["group_ids"].shape[1])

        def part(i):
            take = partial(jax.lax.dynamic_index_in_dim, index=i, axis=1, keepdims=False)
            return jax.tree.map(lambda x: place(take(x)), parts)

        def moments_of_part(i):
            clips = part(i)
            return encoder.moments(*encoder.frontend(clips["audio"], clips["audio_lengths"]))

        new_batch_stats = batch_stats
        if pools:
            share, running = encoder.momentum, batch_stats["audio"]
            pooled = encoder.pooled(jax.lax.map(moments_of_part, indices))
            moved = jax.tree.map(lambda old, new: share * old + (1 - share) * new, running, pooled)
            new_batch_stats = {**batch_stats, "audio": moved}
            batch_stats = {**batch_stats, "audio": pooled}

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


def _check_pooling(config: ConfigDict, mesh: Mesh) -> None:
    """Raises ConfigError where a tower that learns has batch statistics that are not pooled."""
    state = abstract_states(config, mesh).dual
    for tower, encoder in encoders(config).items():
        if encoder.momentum is None and tower in state.batch_stats and not config[tower].frozen:
            raise ConfigError(
                f"microbatch_size is {config.microbatch_size}, but {tower}.encoder "
                f"{config[tower].encoder!r} has a batch norm and does not tell how to pool its "
                "statistics; leave microbatch_size at None, or give the encoder `moments`, "
                "`pooled` and `momentum`"
            )
