"""Does it matter where radii start, and whose similarities they are predicted from?

    supclap synthesize --out=runs/soundscape --clips=5000
    supclap sweep study_scratch:2,info_nce --out=runs/study_scratch
    for reference in good:800 weak:100 random:0; do
        supclap embed-reference --model=runs/study_scratch/runs/info_nce-1 --config=soundscape \\
            --step=${reference#*:} --out=runs/reference_${reference%:*}
    done
    supclap sweep study_radii --out=runs/study_radii --jobs=2

Radii start at a share of the distance where they are bounded by it, at a length elsewhere. Every
cell with five seeds; the argument is as of `study_scratch`.
"""

from supclap_jax.experiments.cells import Cell, seed_by_seed

COMMON = {"total_steps": 800, "eval_every": 100}
BOUNDED = {"loss.svr.bound": "distance"}
OFFLINE = {"loss.svr.similarity": "offline"}
CHANGES = {
    **{f"start_{r}": {"loss.svr.initial_radius": r} for r in (0.1, 0.5, 1.0)},
    **{f"bounded_start_{r}": BOUNDED | {"loss.svr.initial_radius": r} for r in (0.1, 0.5, 0.9)},
    **{
        f"offline_{name}": OFFLINE | {"loss.svr.reference": f"runs/reference_{name}"}
        for name in ("good", "weak", "random")
    },
}
CELLS = {name: Cell("soundscape:dynamic", COMMON | changes) for name, changes in CHANGES.items()}


def get_sweep(argument="5"):
    return seed_by_seed(CELLS, argument)
