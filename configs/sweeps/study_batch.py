"""Does the gain of SVR depend on the batch size, or on what the radius is predicted from?

    supclap synthesize --out=runs/soundscape --clips=5000
    supclap sweep study_batch --out=runs/study_batch --jobs=2
    supclap compare runs/study_batch --by=loss.svr.radius --baseline=none
    supclap compare runs/study_batch --by=cell --baseline=dynamic_32 --where='batch_size == 32'

The same clips seen at every batch size, the rate in proportion to its root. Every cell with five
seeds; the argument is as of `study_scratch`.
"""

from math import sqrt

from supclap_jax.experiments.cells import Cell, seed_by_seed

CLIPS = 25_600


def cell(variant, batch_size, **changes):
    steps = CLIPS // batch_size
    common = {
        "batch_size": batch_size,
        "total_steps": steps,
        "eval_every": steps // 8,
        "optimizer.warmup_steps": steps // 8,
        "optimizer.learning_rate": 1e-3 * sqrt(batch_size / 32),
    }
    return Cell(f"soundscape:{variant}", common | changes)


CELLS = {
    f"{variant}_{size}": cell(variant, size)
    for size in (16, 32, 128)
    for variant in ("info_nce", "dynamic")
} | {"dynamic_row_32": cell("dynamic", 32, **{"loss.svr.features": "row"})}


def get_sweep(argument="5"):
    return seed_by_seed(CELLS, argument)
