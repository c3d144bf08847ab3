"""Does the gain of SVR survive skewed classes and wrong captions?

    supclap synthesize --out=runs/soundscape --clips=5000
    supclap synthesize --out=runs/soundscape_zipf1 --clips=5000 --zipf=1
    supclap synthesize --out=runs/soundscape_zipf2 --clips=5000 --zipf=2
    supclap synthesize --out=runs/soundscape_wrong10 --clips=5000 --wrong-captions=0.1
    supclap synthesize --out=runs/soundscape_wrong30 --clips=5000 --wrong-captions=0.3
    supclap sweep study_data --out=runs/study_data --jobs=2
    supclap compare runs/study_data --by=loss.svr.radius \\
        --where='data.path == runs/soundscape_zipf1'

Every cell with five seeds; the argument is as of `study_scratch`.
"""

from supclap_jax.experiments.cells import Cell, seed_by_seed

DATA = {
    "plain": "soundscape",
    "zipf1": "soundscape_zipf1",
    "zipf2": "soundscape_zipf2",
    "wrong10": "soundscape_wrong10",
    "wrong30": "soundscape_wrong30",
}
COMMON = {"total_steps": 800, "eval_every": 100}
CELLS = {
    f"{variant}_{data}": Cell(f"soundscape:{variant}", COMMON | {"data.path": f"runs/{folder}"})
    for data, folder in DATA.items()
    for variant in ("info_nce", "static", "dynamic")
}


def get_sweep(argument="5"):
    return seed_by_seed(CELLS, argument)
