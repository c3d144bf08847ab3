"""Sizes by budgets that double by variants: the runs of a scaling law, by trunks and cooldowns.

    supclap sweep ladder:soundscape,2 --out=runs/ladder --jobs=2
    supclap sweep ladder:ced --out=runs/ced --dry-run --topology=v5e:2x4

Each size and variant is trained once at a constant rate; every budget branches from that run and
cools down over its last fifth. The argument is soundscape, the default, or ced, see
configs/ladder.py for both, and the number of seeds, by default one.
"""

from itertools import product

from supclap_jax.errors import ConfigError
from supclap_jax.experiments.sweep_file import SweepRun

VARIANTS = ("info_nce", "static", "dynamic")
LADDERS = {  # sizes; budgets, in steps
    "soundscape": (("w16", "w32", "w48", "w80", "w144"), (250, 500, 1_000, 2_000)),
    "ced": (("tiny", "mini", "small", "base"), (2_000, 4_000, 8_000, 16_000)),
}


def get_sweep(argument="soundscape"):
    ladder, _, seeds = argument.partition(",")
    if ladder not in LADDERS:
        raise ConfigError(f"unknown ladder {ladder!r}; expected one of {', '.join(LADDERS)}")
    sizes, budgets = LADDERS[ladder]
    for seed, size, variant in product(range(int(seeds or 1)), sizes, VARIANTS):
        yield from trunk_and_branches(size, variant, seed, budgets)


def trunk_and_branches(size, variant, seed, budgets):
    recipe, name = f"ladder:{size},{variant}", f"{size}-{variant}-{seed}"
    longest = budgets[-1] - cooldown(budgets[-1])
    changes = {"seed": seed, "optimizer.schedule": "constant", "total_steps": longest}
    yield SweepRun(f"{name}-trunk", recipe, changes)
    for budget in budgets:
        changes = {
            "seed": seed,
            "optimizer.schedule": "wsd",
            "optimizer.decay_steps": cooldown(budget),
            "total_steps": budget,
        }
        begin = budget - cooldown(budget)
        yield SweepRun(f"{name}-{budget}", recipe, changes, f"{name}-trunk", begin)


def cooldown(budget):
    return budget // 5
