"""Renders soundscapes to audio files."""

import argparse

from supclap_jax.errors import ConfigError
from supclap_jax.files import path_of

EXAMPLE = "supclap synthesize --out=runs/soundscape --clips=5000\n"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=path_of, required=True, help="folder to write")
    parser.add_argument(
        "--clips",
        type=int,
        required=True,
        help="70%% development, 10%% validation, 20%% evaluation",
    )
    parser.add_argument(
        "--held-out",
        type=int,
        metavar="N",
        help="N clips of validation and N of evaluation instead; all others are for development",
    )
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    parser.add_argument(
        "--seconds", type=float, default=4.0, help="of a scene, 2 to 10; default: 4"
    )
    parser.add_argument(
        "--scenes",
        type=int,
        default=1,
        metavar="N",
        help="in a clip, one after the other, described in as many sentences; default: 1",
    )
    parser.add_argument("--sample-rate", type=int, default=16_000, help="Hz; default: 16000")
    parser.add_argument("--format", default="wav", help="wav (16 bit) or flac; default: wav")
    parser.add_argument(
        "--zipf", type=float, default=0.0, help="skew of event frequencies; default: 0, all alike"
    )
    parser.add_argument(
        "--wrong-captions",
        type=float,
        default=0.0,
        help="share of training clips with captions of another scene; default: 0",
    )


def run(options: argparse.Namespace) -> None:
    from supclap_jax.config import LANGUAGES
    from supclap_jax.console import progress_bar
    from supclap_jax.data.soundscape import Soundscape
    from supclap_jax.data.soundscape_files import write_clotho
    from supclap_jax.data.workers import ended_by_sigterm

    try:
        soundscape = Soundscape(
            seed=options.seed,
            seconds=options.seconds,
            sample_rate=options.sample_rate,
            zipf=options.zipf,
            wrong_captions=options.wrong_captions,
            scenes=options.scenes,
        )
        with ended_by_sigterm(), progress_bar() as bar:
            task = bar.add_task("rendering", total=options.clips)
            counts = write_clotho(
                soundscape,
                options.out,
                options.clips,
                file_format=options.format,
                progress=lambda done: bar.update(task, completed=done),
                held_out=options.held_out,
            )
    except ValueError as error:
        raise ConfigError(str(error)) from error
    clips = ", ".join(f"{count:,} {split}" for split, count in counts.items())
    print(f"{options.out}: {clips} clips, captions in {len(LANGUAGES)} languages")
