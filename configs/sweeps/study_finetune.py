"""Does SVR help in fine-tuning, the paper's setting?

    supclap synthesize --out=runs/soundscape --clips=5000
    supclap synthesize --out=runs/soundscape_large --clips=12000 --seed=1
    supclap train --config=soundscape:info_nce --workdir=runs/pretrained \\
        --config.total_steps=2000 --config.data.path=runs/soundscape_large
    supclap export-weights --workdir=runs/pretrained --names=ml-clap \\
        --out=runs/pretrained.safetensors
    supclap sweep study_finetune --out=runs/study_finetune --jobs=2

Both towers start where InfoNCE left them on other, more clips, and train on at a tenth of the rate
from scratch; the radius model begins anew, at its own. Every cell with five seeds, seed by seed;
the argument is as of `study_scratch`.
"""

from supclap_jax.experiments.cells import Cell, seed_by_seed

COMMON = {
    "total_steps": 400,
    "eval_every": 50,
    "pretrained": "runs/pretrained.safetensors",
    "text.tokenizer": "runs/pretrained/tokenizer.model",
    "optimizer.learning_rate": 1e-4,
    "optimizer.warmup_steps": 40,
}
BOUNDED = {"loss.svr.bound": "distance"}
WHOLE = {"loss.svr.radius": "fixed", **BOUNDED, "loss.svr.fixed_radius": 1.0}
CELLS = {
    "info_nce": Cell("soundscape:info_nce", COMMON),
    "static": Cell("soundscape:static", COMMON),
    "dynamic": Cell("soundscape:dynamic", COMMON),
    "dynamic_bounded": Cell("soundscape:dynamic", COMMON | BOUNDED),
    "whole_distance": Cell("soundscape:info_nce", COMMON | WHOLE),
    "intra_modal": Cell("soundscape:info_nce", COMMON | {"loss.intra_modal": 1.0}),
}


def get_sweep(argument="5"):
    return seed_by_seed(CELLS, argument)
