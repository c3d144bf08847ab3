"""Trains, then evaluates the best checkpoint and draws figures."""

import argparse
from contextlib import nullcontext
from functools import partial

from supclap_jax.cli.arguments import add_distributed, add_recipe, config_of, run_folder
from supclap_jax.errors import CannotWrite

EXAMPLE = """\
supclap train --config=soundscape:dynamic --workdir=runs/dynamic \\
    --config.data.path=runs/soundscape --config.seed=1
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--workdir",
        type=partial(run_folder, trains=True),
        required=True,
        help="folder of the run, or gs://BUCKET/PATH; continues what is there",
    )
    add_distributed(parser)
    add_recipe(parser)


def run(options: argparse.Namespace) -> None:
    together = nullcontext()
    if options.distributed:
        from supclap_jax.runs.processes import connect, failing_together

        connect()
        together = failing_together()
    with together:
        config = config_of(options)  # before the imports that take seconds
    from supclap_jax.evaluate.evaluation import evaluate_run
    from supclap_jax.train.loop import train

    try:
        train(config, options.workdir)
    except OSError as error:
        raise CannotWrite(f"cannot write in {options.workdir}: {error}") from error
    evaluate_run(options.workdir)
