"""Does SVR help from scratch, and is it the contraction, more negatives, or just size?

    supclap synthesize --out=runs/soundscape --clips=5000
    supclap sweep study_scratch --out=runs/study_scratch --jobs=2
    supclap sweep study_scratch:3,info_nce,intra_modal --out=runs/few
    supclap compare runs/study_scratch --by=cell

Every cell with five seeds, seed by seed. Arguments are the number of seeds and cells to leave all
others out.
"""

from supclap_jax.experiments.cells import Cell, seed_by_seed

STEPS = 800
BOUNDED = {"loss.svr.bound": "distance"}
SHARE = {"loss.svr.radius": "fixed", **BOUNDED}
# Recipe's argument and what is otherwise.
CELLS = {
    "info_nce": ("info_nce", {}),
    "static": ("static", {}),
    "dynamic": ("dynamic", {}),
    "static_bounded": ("static", BOUNDED),
    "dynamic_bounded": ("dynamic", BOUNDED),
    "half_distance": ("info_nce", SHARE | {"loss.svr.fixed_radius": 0.5}),
    "whole_distance": ("info_nce", SHARE | {"loss.svr.fixed_radius": 1.0}),
    "intra_modal": ("info_nce", {"loss.intra_modal": 1.0}),
    "intra_modal_dynamic_bounded": ("dynamic", BOUNDED | {"loss.intra_modal": 1.0}),
    "contract_0": ("info_nce", {"loss.contraction": 0.0}),
    "contract_0.5": ("info_nce", {"loss.contraction": 0.5}),
    "contract_1.5": ("info_nce", {"loss.contraction": 1.5}),
    "stopped_direction": ("info_nce", {"loss.base": "study_losses:stopped_direction"}),
    "twice": ("info_nce", {"loss.base": "study_losses:twice"}),
    "heavier_positives": ("info_nce", {"loss.base": "study_losses:heavier_positives"}),
    "rate_half": ("info_nce", {"optimizer.learning_rate": 5e-4}),
    "rate_double": ("info_nce", {"optimizer.learning_rate": 2e-3}),
    "temperature_0.7": ("info_nce", {"temperature.initial": 0.049}),
    "siglip": ("siglip", {}),
    "siglip_static": ("siglip_static", {}),
    "siglip_dynamic": ("siglip_dynamic", {}),
    "siglip_dynamic_bounded": ("siglip_dynamic", BOUNDED),
}


def get_sweep(argument="5"):
    common = {"total_steps": STEPS, "eval_every": 100, "keep_steps": (100, 400, STEPS)}
    cells = {
        name: Cell(f"soundscape:{variant}", common | changes)
        for name, (variant, changes) in CELLS.items()
    }
    return seed_by_seed(cells, argument)
