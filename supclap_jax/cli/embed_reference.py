"""Embeds training data with a frozen model, of whose similarities radii are then predicted.

Any run of ours or exported weights can be the model. Trainings with
--config.loss.svr.similarity=offline --config.loss.svr.reference=DIR on the same data predict radii
from what it says of the pairs of a batch, not from the embeddings that are being trained.
"""

import argparse

from supclap_jax.cli.arguments import add_recipe, config_of, run_folder
from supclap_jax.files import path_of

EXAMPLE = "supclap embed-reference --model=runs/info_nce --config=soundscape --out=runs/reference\n"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        type=run_folder,
        required=True,
        help="folder of a run, or of an export; or gs://BUCKET/PATH",
    )
    parser.add_argument("--step", type=int, help="checkpoint; default: the best on validation")
    parser.add_argument("--out", type=path_of, required=True, help="folder, new or empty")
    add_recipe(parser)


def run(options: argparse.Namespace) -> None:
    config = config_of(options)
    from supclap_jax.inference.model import find_model
    from supclap_jax.inference.reference_embedder import embed_reference

    embed_reference(find_model(options.model, options.step), config, options.out)
