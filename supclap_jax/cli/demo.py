"""Serves a page to this machine to search an index, hear what is found, and tag sounds.

Words in any language of the model; or a sound, dropped or recorded. The page answers this machine
alone (elsewhere by an SSH tunnel), loads nothing from other servers, and serves no file but the
sounds that are dropped, which lie in a private folder until it ends. Its address holds the search,
so that it can be kept. Ctrl-C ends it.
"""

import argparse
import signal

from supclap_jax.cli.arguments import run_folder
from supclap_jax.files import path_of

EXAMPLE = "supclap demo --model=runs/quickstart --index=recordings.index\n"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--index", type=path_of, required=True, help="folder of supclap embed")
    parser.add_argument(
        "--model", type=run_folder, help="default: the one that the index was made with"
    )
    parser.add_argument(
        "--labels", type=path_of, help="text file, one a line; default: kinds of the soundscape"
    )
    parser.add_argument("--port", type=int, default=7860, help="default: 7860")


def run(options: argparse.Namespace) -> None:
    from supclap_jax.console import console, working
    from supclap_jax.data.sound_events import KINDS
    from supclap_jax.data.workers import ended_by_sigterm
    from supclap_jax.errors import ConfigError
    from supclap_jax.inference.nearest import model_of
    from supclap_jax.inference.page import make_demo, serve
    from supclap_jax.inference.prompts import read_classes
    from supclap_jax.inference.sound_index import SoundIndex

    if not 0 < options.port < 65_536:
        raise ConfigError(f"--port is {options.port}; expected 1 to 65535")
    labels = read_classes(options.labels) if options.labels else tuple(KINDS)
    index = SoundIndex(options.index)
    with ended_by_sigterm():  # so that what was dropped goes
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # which nohup asks for
            signal.signal(signal.SIGHUP, signal.getsignal(signal.SIGTERM))
        with working("reading the model"):
            page = make_demo(model_of(index, options.model), index, labels)
            address = serve(page, options.port)
        console.print(f"Open {address} in a browser; Ctrl-C ends it.", soft_wrap=True)
        page.block_thread()
