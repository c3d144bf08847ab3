"""Shows the fields of a config: default, meaning, what is expected, when a run uses them."""

import argparse

EXAMPLE = "supclap config loss.svr\n"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "key", nargs="?", default="", help="a field or a section of them; default: all"
    )


def run(options: argparse.Namespace) -> None:
    from supclap_jax.config.reference import table
    from supclap_jax.console import console

    console.print(table(options.key))
