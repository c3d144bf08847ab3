"""Writes a trained model into a folder of its own, to use it elsewhere."""

import argparse

from supclap_jax.files import path_of

EXAMPLE = "supclap export --model=runs/dynamic --out=exported\n"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", type=path_of, required=True, help="folder of a trained run")
    parser.add_argument("--step", type=int, help="checkpoint; default: the best on validation")
    parser.add_argument("--out", type=path_of, required=True, help="folder, new or empty")


def run(options: argparse.Namespace) -> None:
    from supclap_jax.inference.model_folder import export

    export(options.model, options.out, options.step)
