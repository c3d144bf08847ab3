"""Does SVR help captions in eight languages, and the worst of them?

    supclap synthesize --out=runs/soundscape --clips=5000
    supclap sweep study_languages --out=runs/study_languages --jobs=2

Every cell with five seeds; the argument is as of `study_scratch`.
"""

from supclap_jax.config import LANGUAGES
from supclap_jax.experiments.cells import Cell, seed_by_seed

COMMON = {
    "total_steps": 800,
    "eval_every": 100,
    "text.vocab_size": 4_000,
    "data.languages": tuple(LANGUAGES),
}
CELLS = {
    variant: Cell(f"soundscape:{variant}", COMMON) for variant in ("info_nce", "static", "dynamic")
}


def get_sweep(argument="5"):
    return seed_by_seed(CELLS, argument)
