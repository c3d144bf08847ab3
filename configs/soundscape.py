"""The embedded soundscape data set with small encoders: minutes on a laptop.

`soundscape:VARIANT`; VARIANT is info_nce, static, dynamic (the default), siglip,
siglip_static or siglip_dynamic. Make the data first:

    supclap synthesize --out=runs/soundscape --clips=5000
"""

from supclap_jax.config import default, set_variant


def get_config(variant="dynamic"):
    config = default()
    set_variant(config, variant)
    config.data.path = "runs/soundscape"
    if config.loss.base == "siglip":
        config.temperature.initial_bias = -3.4  # log odds of a positive in a batch of 32
    config.total_steps = 1_000
    config.batch_size = 32
    config.eval_every = 250
    config.checkpoint_every = 250

    config.audio.dim = 96
    config.audio.depth = 3
    config.audio.heads = 4
    config.audio.seconds = 4.0
    config.text.dim = 96
    config.text.depth = 2
    config.text.heads = 4
    config.text.ffn_dim = 256
    config.text.vocab_size = 2_000
    config.text.max_tokens = 44
    config.projection_dim = 128

    config.optimizer.learning_rate = 1e-3
    config.optimizer.warmup_steps = 100
    config.optimizer.weight_decay = 0.05
    return config
