"""The towers in training, at once or in microbatches."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from supclap_jax.errors import ConfigError
from supclap_jax.losses.microbatches import in_microbatches, microbatches_of
from supclap_jax.models.dual_encoder import FROZEN, make_model
from supclap_jax.models.encoder import as_float
from supclap_jax.models.registry import audio_encoder, encoders
from supclap_jax.runs.mesh import batch_sharding
from supclap_jax.runs.states import abstract_states


def microbatch_count(config: ConfigDict) -> int:
    """Of a batch, in the towers; one without `microbatch_size`."""
    return 1 if config.microbatch_size is None else config.batch_size // config.microbatch_size


def make_towers(config: ConfigDict, mesh: Mesh) -> Callable:
    """Both towers in training, on the whole batch at once or, with `microbatch_size`, in parts.

    Microbatch i of n holds the pairs i, i + n, i + 2n, ... So each device's pairs are spread over
    all microbatches and never leave it, and the choice does not depend on the number of devices.
    Batch norm uses the statistics of the whole batch: it acts on features, so they depend on no
    parameter and are found first (`AudioEncoder.moments`). The result is that of the whole batch,
    except that what is random (dropout, patch-out, SpecAugment) draws from a key for each
    microbatch, in both passes the same. With `gradient_cache` a microbatch keeps its embeddings
    alone, otherwise what `remat` leaves of it.

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

    microbatches = microbatch_count(config)
    if microbatches == 1:
        return at_once
    devices = config.batch_size // sharding.shard_shape((config.batch_size,))[0]
    if size % devices:
        raise ConfigError(
            f"microbatch_size {size} is not divisible by the {devices} devices that share a batch"
        )
    _check_pooling(config, mesh)
    encoder = audio_encoder(config)
    pools = encoder.momentum is not None and not config.audio.frozen

    def remat(embed):
        if not config.gradient_cache:
            return embed
        policy = jax.checkpoint_policies.save_only_these_names(FROZEN)
        return jax.checkpoint(embed, prevent_cse=False, policy=policy)

    def place(x):
        return jax.lax.with_sharding_constraint(x, sharding)

    def in_parts(params, batch_stats, batch, key):
        new_batch_stats = batch_stats
        if pools:
            part = microbatches_of(batch, microbatches, place)

            def moments_of_part(i):
                clips = part(i)
                waveform = as_float(clips["audio"])
                return encoder.moments(*encoder.frontend(waveform, clips["audio_lengths"]))

            share, running = encoder.momentum, batch_stats["audio"]
            pooled = encoder.pooled(jax.lax.map(moments_of_part, jnp.arange(microbatches)))
            moved = jax.tree.map(lambda old, new: share * old + (1 - share) * new, running, pooled)
            new_batch_stats = {**batch_stats, "audio": moved}
            batch_stats = {**batch_stats, "audio": pooled}
        embed_all = in_microbatches(
            partial(embed, params, batch_stats), microbatches, place=place, remat=remat
        )
        return embed_all(batch, key), new_batch_stats

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
