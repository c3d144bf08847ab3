"""Does SVR help in fine-tuning, the paper's setting?

    supclap synthesize --out=runs/soundscape --clips=5000
    supclap synthesize --out=runs/soundscape_large --clips=12000 --seed=1
    supclap train --config=soundscape:info_nce --workdir=runs/pretrained \\
        --config.total_steps=2000 --config.data.path=runs/soundscape_large
    supclap export-weights --workdir=runs/pretrained --out=runs/pretrained.safetensors
    supclap sweep study_finetune --out=runs/study_finetune --jobs=2

Both towers start where InfoNCE left them on other, more clips, and train on at a tenth of the rate
from scratch. Every cell with five seeds, seed by seed; the argument is as of `study_scratch`.
"""

from supclap_jax.errors import ConfigError
from supclap_jax.experiments.sweep_file import SweepRun

STEPS = 400
BOUNDED = {"loss.svr.bound": "distance"}
WHOLE = {"loss.svr.radius": "fixed", **BOUNDED, "loss.svr.fixed_radius": 1.0}
# Recipe's argument and what is otherwise.
CELLS = {
    "info_nce": ("info_nce", {}),
    "static": ("static", {}),
    "dynamic": ("dynamic", {}),
    "dynamic_bounded": ("dynamic", BOUNDED),
    "whole_distance": ("info_nce", WHOLE),
    "intra_modal": ("info_nce", {"loss.intra_modal": 1.0}),
}


def get_sweep(argument="5"):
    seeds, *cells = argument.split(",")
    if strange := set(cells) - set(CELLS):
        raise ConfigError(f"unknown cell {min(strange)!r}; expected some of {', '.join(CELLS)}")
    for seed in range(int(seeds)):
        for name in cells or CELLS:
            recipe, changes = CELLS[name]
            changes = {"seed": seed, "total_steps": STEPS, "eval_every": 50, **changes}
            changes["pretrained"] = "runs/pretrained.safetensors"
            changes["text.tokenizer"] = "runs/pretrained/tokenizer.model"
            changes["optimizer.learning_rate"] = 1e-4
            changes["optimizer.warmup_steps"] = 40
            yield SweepRun(f"{name}-{seed}", f"soundscape:{recipe}", changes)
