"""Compiles the training step for a TPU slice that is not there: memory, traffic, time."""

import argparse
import json

from supclap_jax.cli.arguments import add_recipe, config_of
from supclap_jax.errors import ConfigError, DoesNotFit
from supclap_jax.files import check_output, path_of

EXAMPLE = "supclap plan --config=pretrain --topology=v5e:16x16\n"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--topology", required=True, help="TPU generation and shape: v5e:16x16, v4:4x4x8, v6e:8x8"
    )
    parser.add_argument("--slices", type=int, default=1, help="so many of these slices; default: 1")
    search = parser.add_mutually_exclusive_group()
    search.add_argument(
        "--search", action="store_true", help="find the largest batch that fits, within 10 %%"
    )
    search.add_argument(
        "--tune",
        action="store_true",
        help="find the fastest of what blocks keep (remat), microbatches and meshes",
    )
    parser.add_argument("--json", type=path_of, help="write the plan to this file")
    add_recipe(parser)


def run(options: argparse.Namespace) -> None:
    check_output(options.json)
    if options.slices < 1:
        raise ConfigError(f"--slices is {options.slices}; expected at least 1")
    config = config_of(options)  # before the imports that take seconds
    import jax

    jax.config.update("jax_platforms", "cpu")
    result = _tune(options, config) if options.tune else _plan(options, config)
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")
    if options.tune:
        if not result["best"]:
            raise DoesNotFit(
                f"nothing that was compiled fits the memory of {options.topology}; take a smaller "
                "batch_size"
            )
    elif result["memory"] is None:
        advice = "" if result["largest"] else "; nor does any smaller batch"
        raise DoesNotFit(
            f"batch_size {config.batch_size} does not fit the memory of {options.topology}{advice}"
            "; --tune looks for settings that do"
        )


def _plan(options: argparse.Namespace, config) -> dict:
    from supclap_jax.console import console, working
    from supclap_jax.planning.plan_tables import tables
    from supclap_jax.planning.planner import plan

    with working(f"compiling for {options.topology}; minutes for a large slice"):
        result = plan(config, options.topology, options.search, options.slices)
    slices = "" if options.slices == 1 else f" of {options.slices} slices"
    devices = result["devices"]
    devices = "" if devices == result["chips"] else f", {devices:,} devices"
    parts = f" in microbatches of {config.microbatch_size:,}" if config.microbatch_size else ""
    console.print(
        f"{options.config}, batch {config.batch_size:,}{parts}, on {result['chips']:,} chips of "
        f"{options.topology}{slices}{devices}; compiled in {result['compile_seconds']:.0f} s.",
        soft_wrap=True,
    )
    for table in tables(result):
        console.print(table)
    if largest := result["largest"]:
        sizes = " ".join(f"--config.{key}={size}" for key, size in largest.items() if size)
        console.print(f"The largest that was found to fit: {sizes}", soft_wrap=True)
    return result


def _tune(options: argparse.Namespace, config) -> dict:
    from supclap_jax.console import console, working
    from supclap_jax.planning.plan_tables import overrides, tuned_table
    from supclap_jax.planning.tuning import tune

    def tell(entry: dict) -> None:
        name = " ".join(overrides(entry)) or "the recipe"
        found = "does not fit"
        if entry["memory"]:
            found = f"{entry['floor']['seconds']:.3f} s, {entry['memory']['total'] / 2**30:.2f} GiB"
        console.print(f"{found}: {name}", soft_wrap=True)

    with working(f"compiling for {options.topology}, up to eight times; minutes each"):
        result = tune(config, options.topology, slices=options.slices, tell=tell)
    console.print(tuned_table(result))
    console.print(
        f"Of {result['candidates']:,} settings {result['compilations']} were compiled, in "
        f"{result['seconds'] / 60:.0f} minutes. To paste:"
    )
    for place, entry in enumerate(result["best"], start=1):
        line = " ".join(overrides(entry)) or "the recipe as it is"
        console.print(f"{place}: {line}", soft_wrap=True, highlight=False)
    return result
