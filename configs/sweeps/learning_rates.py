"""Learning rates at a small and a large size of configs/ladder.py: is its rule right?

    supclap sweep learning_rates --out=runs/learning_rates --jobs=2
    supclap compare runs/learning_rates --by=optimizer.learning_rate

The best rate of a size should be none of the ends, and that of the rule.
"""

from supclap_jax.experiments.sweep_file import SweepRun

RATES = (5e-4, 1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2)
STEPS = 500


def get_sweep():
    for size in ("w16", "w80"):
        for rate in RATES:
            changes = {
                "optimizer.learning_rate": rate,
                "optimizer.schedule": "wsd",
                "optimizer.decay_steps": STEPS // 5,
                "total_steps": STEPS,
            }
            yield SweepRun(f"{size}-{rate:g}", f"ladder:{size},info_nce", changes)
