"""SupCLAP on Clotho, full size: CED-Base, SONAR, batch 24, 10 epochs, 30 s.

`clotho:VARIANT` and `clotho:paper`, `clotho:paper_VARIANT`: as `audiocaps` has them, with the same
departures from the paper.
"""

from supclap_jax.config import default, set_paper, set_variant

EPOCH = 3_839  # training clips


def get_config(variant="dynamic"):
    config = default()
    config.batch_size = 24
    config.total_steps = 10 * EPOCH // config.batch_size
    config.eval_every = EPOCH // config.batch_size
    config.checkpoint_every = config.eval_every
    config.audio.seconds = 30.0
    config.optimizer.learning_rate = 5e-5
    if variant == "paper" or variant.startswith("paper_"):
        set_paper(config, variant.removeprefix("paper").removeprefix("_") or "dynamic")
    else:
        set_variant(config, variant)
    return config
