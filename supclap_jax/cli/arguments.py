"""Arguments that several commands take."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from supclap_jax.files import path_of

if TYPE_CHECKING:
    from ml_collections import ConfigDict


def add_recipe(parser: argparse.ArgumentParser) -> None:
    """A recipe and overrides of its fields, of which `config_of` makes the config."""
    help = "recipe: FILE.py or the name of one of ours, and :argument"
    parser.add_argument("--config", required=True, help=help)
    add_overrides(parser)


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """Of the fields of a recipe that is `--config`."""
    parser.add_argument(
        "--config.KEY",
        dest="overrides",
        action="append",
        default=[],
        type="--config.KEY={}".format,
        metavar="VALUE",
        help="override one field of the recipe",
    )


def run_folder(text: str, trains: bool = False) -> Path:
    """The folder of a run, or the local one of a run in a bucket, with what that holds."""
    if not text.startswith("gs://"):
        return path_of(text)
    from supclap_jax.runs.bucket import folder_of

    return folder_of(text, trains)


def config_of(options: argparse.Namespace) -> "ConfigDict":
    """The checked config of a command line with `add_recipe`'s arguments.

    Raises:
      ConfigError: there is no such recipe, key or value.
    """
    from supclap_jax.config import read_config

    return read_config(options.config, options.overrides)


def add_distributed(parser: argparse.ArgumentParser) -> None:
    """A switch after which the command calls `runs.processes.connect` before anything of JAX."""
    parser.add_argument(
        "--distributed",
        action="store_true",
        help="one of several processes, which find each other on TPU pods, under SLURM and "
        "Open MPI, or by JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID",
    )
