"""Reads a data set on disk in its published layout and writes ArrayRecord shards."""

import argparse
import shlex

from supclap_jax.errors import ConfigError, DataError
from supclap_jax.files import path_of

EXAMPLE = """\
supclap prepare --format=audiocaps --source=AudioCaps --out=prepared/audiocaps \\
    --template='{split}/Y{youtube_id}.wav' --max-bad=0.2 --workers=8
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from supclap_jax.data.layouts import LAYOUTS

    parser.add_argument(
        "--format", required=True, choices=LAYOUTS, help=", ".join(LAYOUTS), metavar="FORMAT"
    )
    parser.add_argument("--source", type=path_of, required=True, help="the data set on disk")
    parser.add_argument("--out", type=path_of, required=True, help="folder to write")
    parser.add_argument("--workers", type=int, default=1, help="processes; default: 1")
    parser.add_argument(
        "--max-bad", type=float, default=0.01, help="share of clips that may be bad; default: 0.01"
    )
    parser.add_argument(
        "--template",
        default="",
        help="a row's audio file, such as {split}/Y{youtube_id}.wav (audiocaps, wavcaps, "
        "vggsound, audioset)",
    )
    parser.add_argument(
        "--blacklist",
        type=path_of,
        action="append",
        default=[],
        help="JSON of ids to leave out, beside those in the source (wavcaps); may be repeated",
    )
    parser.add_argument(
        "--no-blacklist", action="store_true", help="keep blacklisted clips (wavcaps)"
    )
    parser.add_argument(
        "--exclude",
        type=path_of,
        action="append",
        default=[],
        help="a prepared set whose recordings and audio to leave out; may be repeated",
    )
    parser.add_argument(
        "--original",
        action="store_true",
        help="store audio in its own rate, channels and depth; default: as training reads it, mono "
        "at 16 kHz and 16 bit",
    )
    parser.add_argument(
        "--channels",
        choices=("mean", "first", "loudest"),
        default="mean",
        help="what becomes mono: the mean of all channels, the first or the loudest; default: mean",
    )
    parser.add_argument(
        "--beam",
        help="run on Apache Beam with these pipeline options, such as --runner=FlinkRunner",
    )


def run(options: argparse.Namespace) -> None:
    from supclap_jax.console import progress_bar
    from supclap_jax.data import preparation_report
    from supclap_jax.data.flac import Form
    from supclap_jax.data.layouts import read_layout
    from supclap_jax.data.preparation import exclusions, prepare
    from supclap_jax.data.rows import Options
    from supclap_jax.data.workers import ended_by_sigterm

    if options.workers < 1:
        raise ConfigError(f"--workers is {options.workers}; expected at least 1")
    if not 0 <= options.max_bad <= 1:
        raise ConfigError(f"--max-bad is {options.max_bad}; expected a share from 0 to 1")
    if options.original and options.channels != "mean":
        raise ConfigError("--channels is of what becomes mono; leave it out with --original")
    told = Options(
        options.template, tuple(options.blacklist), use_blacklist=not options.no_blacklist
    )
    try:
        beam = None if options.beam is None else shlex.split(options.beam)
    except ValueError as error:
        raise ConfigError(f"--beam={options.beam!r} cannot be read: {error}") from error
    try:
        shards = read_layout(options.format, options.source, told)
        with ended_by_sigterm(), progress_bar() as bar:
            task = bar.add_task("preparing shards", total=None)
            result = prepare(
                shards,
                options.out,
                workers=options.workers,
                max_bad=options.max_bad,
                excluded=exclusions(options.exclude),
                form=Form(options.original, options.channels),
                beam=beam,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
    except OSError as error:
        raise DataError(f"a file cannot be read or written: {error}") from error
    preparation_report.show(options.out, result)
