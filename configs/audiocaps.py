"""SupCLAP on AudioCaps with the paper's hyperparameters: CED-Base, SONAR, batch 24, 10 epochs.

`audiocaps:VARIANT`; VARIANT is info_nce, static, dynamic (the default), siglip,
siglip_static or siglip_dynamic.

`audiocaps:smoke` is the same model for three steps of batch 4, to see that it fits and
runs: 13 GiB of memory and under two minutes on two CPU cores. Make its data first:

    supclap synthesize --out=runs/smoke_data --clips=20 --seconds=10
    supclap train --config=audiocaps:smoke --workdir=runs/smoke
"""

from supclap_jax.config import default, set_variant

EPOCH = 49_838  # training clips


def get_config(variant="dynamic"):
    config = default()
    smoke = variant == "smoke"
    set_variant(config, "dynamic" if smoke else variant)
    config.batch_size = 24
    config.total_steps = 10 * EPOCH // config.batch_size
    config.eval_every = EPOCH // config.batch_size
    config.checkpoint_every = config.eval_every
    config.audio.seconds = 10.0
    config.optimizer.learning_rate = 5e-5
    if smoke:
        config.data.path = "runs/smoke_data"
        config.batch_size = config.evaluate.batch_size = 4
        config.total_steps = config.eval_every = config.checkpoint_every = 3
        config.log_every = 1
    return config
