"""SupCLAP on AudioCaps, full size: CED-Base, SONAR, batch 24, 10 epochs, 10 s.

`audiocaps:VARIANT`; VARIANT is info_nce, static, dynamic (the default), siglip, siglip_static or
siglip_dynamic: the paper's rate, batch and epochs with this project's defaults, which differ from
the paper's in the mean of the two directions in place of their sum, a warm-up and a cosine, a
learned temperature, clipped gradients, a constraint of static radii too, a rate of its own for the
radius model, radii predicted from summaries in place of rows, and towers and a tokenizer that
begin from nothing.

`audiocaps:paper`, or paper_VARIANT, is all that is known of the paper's set-up (`set_paper` says
what is not). It starts from ML-CLAP's weights, ml_clap.safetensors, and SONAR's tokenizer,
sentencepiece.source.256000.model, in the working folder (see docs/weights.md), or where
`--config.pretrained` and `--config.text.tokenizer` say:

    supclap train --config=audiocaps:paper --workdir=runs/paper --config.data.path=AUDIOCAPS

The paper chose its checkpoint on the test set; here it is chosen on validation.

`audiocaps:smoke` is the same model for three steps of batch 4, to see that it fits and runs: 13 GiB
of memory and under two minutes on two CPU cores. Make its data first:

    supclap synthesize --out=runs/smoke_data --clips=20 --seconds=10
    supclap train --config=audiocaps:smoke --workdir=runs/smoke
"""

from supclap_jax.config import default, set_paper, set_variant

EPOCH = 49_838  # training clips


def get_config(variant="dynamic"):
    config = default()
    config.batch_size = 24
    config.total_steps = 10 * EPOCH // config.batch_size
    config.eval_every = EPOCH // config.batch_size
    config.checkpoint_every = config.eval_every
    config.audio.seconds = 10.0
    config.optimizer.learning_rate = 5e-5
    if variant == "paper" or variant.startswith("paper_"):
        set_paper(config, variant.removeprefix("paper").removeprefix("_") or "dynamic")
    elif variant == "smoke":
        set_variant(config, "dynamic")
        config.data.path = "runs/smoke_data"
        config.batch_size = config.evaluate.batch_size = 4
        config.total_steps = config.eval_every = config.checkpoint_every = 3
        config.log_every = 1
    else:
        set_variant(config, variant)
    return config
