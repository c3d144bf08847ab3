"""SupCLAP on Clotho with the paper's hyperparameters: CED-Base, SONAR, batch 24, 10 epochs.

`clotho:VARIANT`; VARIANT is info_nce, static, dynamic (the default), siglip,
siglip_static or siglip_dynamic.
"""

from supclap_jax.config import default, set_variant

EPOCH = 3_839  # training clips


def get_config(variant="dynamic"):
    config = default()
    set_variant(config, variant)
    config.batch_size = 24
    config.total_steps = 10 * EPOCH // config.batch_size
    config.eval_every = EPOCH // config.batch_size
    config.checkpoint_every = config.eval_every
    config.audio.seconds = 30.0
    config.optimizer.learning_rate = 5e-5
    return config
