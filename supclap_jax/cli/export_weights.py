"""Writes a checkpoint's encoders as safetensors under published names."""

import argparse

from supclap_jax.cli.arguments import run_folder
from supclap_jax.files import path_of

EXAMPLE = "supclap export-weights --workdir=runs/dynamic --out=weights --names=huggingface\n"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--workdir",
        type=run_folder,
        required=True,
        help="folder of a trained run, or gs://BUCKET/PATH",
    )
    parser.add_argument("--step", type=int, help="checkpoint; default: the best on validation")
    parser.add_argument(
        "--out", type=path_of, required=True, help="folder, or with ml-clap FILE.safetensors"
    )
    parser.add_argument(
        "--names",
        default="original",
        help="original (fairseq2's for SONAR) or huggingface, in two files, or others that both "
        "encoders have; or ml-clap, in one, with projections and temperature. Default: original",
    )


def run(options: argparse.Namespace) -> None:
    from supclap_jax.inference.weights_export import export_weights

    export_weights(options.workdir, options.out, options.step, options.names)
