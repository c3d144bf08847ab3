"""Embeds a folder of sounds into an index that supclap search reads.

Of a folder all sound files are embedded, of its folders too; of a prepared data set all clips; or
one file. A sound longer than the model hears is the mean of its windows. Stopped or killed, the
same command goes on; a file that has not changed is not embedded again, one that is gone leaves the
index, and one that cannot be used is listed in OUT/failed.csv.
"""

import argparse

from supclap_jax.cli.arguments import run_folder
from supclap_jax.errors import ConfigError
from supclap_jax.files import path_of

EXAMPLE = """\
supclap embed --model=runs/quickstart --source=recordings --out=recordings.index
supclap embed --model=runs/quickstart --source=recordings --out=moments --windows --hop=2
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        type=run_folder,
        required=True,
        help="folder of a run, or of an export; or gs://BUCKET/PATH",
    )
    parser.add_argument("--step", type=int, help="checkpoint; default: the best on validation")
    parser.add_argument(
        "--source", type=path_of, required=True, help="folder, file, or prepared data set"
    )
    parser.add_argument("--out", type=path_of, required=True, help="folder of the index")
    parser.add_argument(
        "--windows", action="store_true", help="a vector for each window, not for each sound"
    )
    parser.add_argument(
        "--window", type=float, metavar="SECONDS", help="default: the longest that the model hears"
    )
    parser.add_argument(
        "--hop",
        type=float,
        metavar="SECONDS",
        help="from one window to the next; default: as few as cover the sound, evenly spaced",
    )
    parser.add_argument("--workers", type=int, default=1, help="threads that decode; default: 1")
    parser.add_argument(
        "--dtype", choices=("float16", "float32"), default="float16", help="of the stored vectors"
    )


def run(options: argparse.Namespace) -> None:
    from supclap_jax.inference import load
    from supclap_jax.inference.folder_embedder import embed_folder

    if not 1 <= options.workers <= 64:
        raise ConfigError(f"--workers is {options.workers}; expected 1 to 64")
    if not options.source.exists():
        raise ConfigError(f"there is no file or folder {str(options.source)!r} to embed")
    model = load(options.model, options.step)
    longest = options.window or model.seconds
    for name, seconds, most in (
        ("window", options.window, model.seconds),
        ("hop", options.hop, longest),
    ):
        if seconds is not None and not 0.15 <= seconds <= most:
            raise ConfigError(
                f"--{name} is {seconds:g}; expected 0.15 to {most:g} seconds, so that the model "
                "hears all"
            )
    model.warn_if_collapsed()
    embed_folder(
        model,
        options.source,
        options.out,
        windows=options.windows,
        window=options.window,
        hop=options.hop,
        workers=options.workers,
        dtype=options.dtype,
    )
