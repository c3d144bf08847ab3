"""Pretraining at scale: CED-Base and a text encoder of SONAR's size, global batch 131,072, 10 s.

For a TPU v5e slice of 256 chips, with what `supclap plan --tune` found for it; see what another one
would take with

    supclap plan --config=pretrain --topology=v5e:16x16

`data.path` or `data.mixture` name the prepared sets, `total_steps` how long: the default is a
billion clips.
"""

from supclap_jax.config import default, set_variant

CLIPS = 1_000_000_000


def get_config(variant="dynamic"):
    config = default()
    set_variant(config, variant)
    config.batch_size = 131_072
    config.microbatch_size = 32_768
    config.gradient_cache = False
    config.total_steps = CLIPS // config.batch_size
    config.eval_every = 500
    config.checkpoint_every = 100
    config.audio.seconds = 10.0
    config.text.vocab_size = 256_000
    config.text.max_tokens = 64
    config.loss.block_size = "auto"
    config.compute_dtype = "bfloat16"
    config.remat = "full"
    config.audio.saved = config.text.saved = ("sum",)
    config.mesh.data = 2
    config.mesh.fsdp = 128
    config.optimizer.learning_rate = 1e-3
    config.optimizer.warmup_steps = 500
    return config
