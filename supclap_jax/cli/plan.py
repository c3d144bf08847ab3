"""Compiles the training step for a TPU slice that is not there: memory, traffic, time."""

import argparse
import json

from supclap_jax.cli.arguments import add_recipe, config_of
from supclap_jax.errors import DoesNotFit
from supclap_jax.files import check_output, path_of

EXAMPLE = "supclap plan --config=pretrain --topology=v5e:16x16\n"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--topology", required=True, help="TPU generation and shape: v5e:16x16, v4:4x4x8, v6e:8x8"
    )
    parser.add_argument(
        "--search", action="store_true", help="double the batch until it does not fit any more"
    )
    parser.add_argument("--json", type=path_of, help="write the plan to this file")
    add_recipe(parser)


def run(options: argparse.Namespace) -> None:
    check_output(options.json)
    config = config_of(options)  # before the imports that take seconds
    import jax

    jax.config.update("jax_platforms", "cpu")
    from supclap_jax.console import console, working
    from supclap_jax.planning.planner import plan, tables

    with working(f"compiling for {options.topology}; minutes for a large slice"):
        result = plan(config, options.topology, options.search)
    devices = result["devices"]
    devices = "" if devices == result["chips"] else f", {devices:,} devices"
    parts = f" in microbatches of {config.microbatch_size:,}" if config.microbatch_size else ""
    console.print(
        f"{options.config}, batch {config.batch_size:,}{parts}, on {result['chips']:,} chips of "
        f"{options.topology}{devices}; compiled in {result['compile_seconds']:.0f} s.",
        soft_wrap=True,
    )
    for table in tables(result):
        console.print(table)
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")
    largest = result["largest"]
    if largest:
        sizes = " ".join(f"--config.{key}={size}" for key, size in largest.items() if size)
        console.print(f"The largest that was found to fit: {sizes}", soft_wrap=True)
    if result["memory"] is None:
        advice = "" if largest else "; nor does any smaller batch: divide the states by mesh.fsdp"
        raise DoesNotFit(
            f"batch_size {config.batch_size} does not fit the memory of {options.topology}{advice}"
        )
