"""Shows how far a run is, its last checkpoint and its health; reads its folder alone."""

import argparse
import json

from supclap_jax.cli.arguments import run_folder
from supclap_jax.files import check_output, path_of

EXAMPLE = "supclap status --workdir=runs/dynamic\n"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--workdir", type=run_folder, required=True, help="folder of a run, or gs://BUCKET/PATH"
    )
    parser.add_argument("--json", type=path_of, help="write the same to this file")


def run(options: argparse.Namespace) -> None:
    from supclap_jax.console import console
    from supclap_jax.runs.health import status, table

    check_output(options.json)
    result = status(options.workdir)
    console.print(table(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")
