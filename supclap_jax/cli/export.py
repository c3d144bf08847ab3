"""Writes a trained model into a folder of its own, to use it elsewhere.

As safetensors: weights, config, tokenizer and a model card, which embed, search, classify and
evaluate take as --model, also from a model hub. As stablehlo: a program for each tower with its
weights, front end included, for jax.export on CPU, CUDA and TPU. As onnx: likewise, for any ONNX
runtime, written by jax2onnx and compared by onnxruntime.
"""

import argparse

from supclap_jax.cli.arguments import run_folder
from supclap_jax.files import path_of

EXAMPLE = """\
supclap export --model=runs/dynamic --out=exported
supclap export --model=runs/dynamic --out=programs --format=stablehlo
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        type=run_folder,
        required=True,
        help="folder of a run, or of an export; or gs://BUCKET/PATH",
    )
    parser.add_argument("--step", type=int, help="checkpoint; default: the best on validation")
    parser.add_argument("--out", type=path_of, required=True, help="folder, new or empty")
    parser.add_argument(
        "--format",
        choices=("safetensors", "stablehlo", "onnx"),
        default="safetensors",
        help="of the weights; default: safetensors",
    )


def run(options: argparse.Namespace) -> None:
    from supclap_jax.inference.model_export import export

    export(options.model, options.out, options.step, options.format)
