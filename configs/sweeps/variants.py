"""Every variant of the loss with three seeds, on the soundscape: what SVR adds.

    supclap synthesize --out=runs/soundscape --clips=5000
    supclap sweep variants --out=runs/variants
    supclap compare runs/variants --by=loss.svr.radius --baseline=none

An argument gives the number of seeds.
"""

from supclap_jax.experiments.sweep_file import SweepRun

VARIANTS = ("info_nce", "static", "dynamic", "siglip", "siglip_dynamic")
STEPS = 600


def get_sweep(seeds=3):
    for seed in range(int(seeds)):
        for variant in VARIANTS:
            yield SweepRun(
                f"{variant}-{seed}",
                f"soundscape:{variant}",
                {"seed": seed, "total_steps": STEPS, "eval_every": STEPS // 3},
            )
