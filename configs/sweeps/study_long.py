"""Does SVR gain more, or less, on long sounds of many events?

    supclap synthesize --out=runs/soundscape --clips=5000
    supclap synthesize --out=runs/soundscape_long --clips=5000 --scenes=5 --format=flac
    supclap sweep study_long --out=runs/study_long --jobs=2
    supclap compare runs/study_long --by=cell --baseline=info_nce_4s

Clips of 4 s against clips of 20 s, five scenes of the same kind in a row whose captions are theirs
in order; the same model, steps, batch and rate. Every cell with five seeds; the argument is as of
`study_scratch`.
"""

from supclap_jax.experiments.cells import Cell, seed_by_seed

COMMON = {"total_steps": 800, "eval_every": 100}
LONG = {"data.path": "runs/soundscape_long", "audio.seconds": 20.0, "text.max_tokens": 212}
LOSSES = {
    "info_nce": ("info_nce", {}),
    "dynamic": ("dynamic", {}),
    "intra_modal": ("info_nce", {"loss.intra_modal": 1.0}),
}
CELLS = {
    f"{name}_{length}": Cell(f"soundscape:{variant}", COMMON | loss | changes)
    for length, changes in (("4s", {}), ("20s", LONG))
    for name, (variant, loss) in LOSSES.items()
}


def get_sweep(argument="5"):
    return seed_by_seed(CELLS, argument)
