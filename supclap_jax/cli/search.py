"""Finds sounds of an index by words, by a sound, or by both.

Beside the cosine stands the share of the index that is less similar: a cosine of 0.1 may be the
best that there is, or nothing.
"""

import argparse
import json

from supclap_jax.cli.arguments import run_folder
from supclap_jax.files import check_output, path_of

EXAMPLE = """\
supclap search --index=recordings.index "a dog barks far away"
supclap search --index=recordings.index "un chien aboie" --language=fra_Latn -k 5
supclap search --index=recordings.index --audio=dog.wav --json=found.json
supclap search --index=recordings.index --approximate "a dog barks far away"
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("query", nargs="?", help="words")
    parser.add_argument("--index", type=path_of, required=True, help="folder of supclap embed")
    parser.add_argument("--audio", type=path_of, metavar="FILE", help="a sound, instead or as well")
    parser.add_argument("--language", help="of the words; default: the model's first")
    parser.add_argument(
        "--text-weight",
        type=float,
        default=0.5,
        metavar="W",
        help="of the words beside the sound, 0 to 1; default: 0.5",
    )
    parser.add_argument("-k", type=int, default=10, help="how many; default: 10")
    parser.add_argument(
        "--model", type=run_folder, help="default: the one that the index was made with"
    )
    parser.add_argument(
        "--approximate",
        action="store_true",
        help="by a graph of neighbours, for millions of sounds; needs usearch, and makes the graph "
        "the first time",
    )
    parser.add_argument("--json", type=path_of, help="write what was found to this file")


def run(options: argparse.Namespace) -> None:
    check_output(options.json)
    from rich.table import Table

    from supclap_jax.console import console, printable, working
    from supclap_jax.errors import ConfigError
    from supclap_jax.files import write_whole
    from supclap_jax.inference.nearest import model_of, query_vector, search
    from supclap_jax.inference.sound_index import SoundIndex

    if options.k < 1:
        raise ConfigError(f"-k is {options.k}; expected at least 1")
    index = SoundIndex(options.index)
    model = model_of(index, options.model)
    query = query_vector(model, options.query, options.audio, options.language, options.text_weight)
    if options.approximate:
        from supclap_jax.inference.neighbour_graph import NeighbourGraph

        graph = NeighbourGraph(index)
        hits = graph.search(query, options.k)
    else:
        with working("searching"):
            hits = search(index, query, options.k)
    table = Table("sound", "seconds", "cosine", "above")
    for hit in hits:
        times = f"{hit.start:.1f} to {hit.end:.1f}"
        table.add_row(printable(hit.path), times, f"{hit.cosine:.3f}", f"{hit.percentile:.1f} %")
    console.print(table)
    console.print('"above" is the share of the index that is less similar.')
    if options.approximate:
        console.print(
            f"recall@10 of this graph against exact search: {graph.recall:.3f}, of queries between "
            "two sounds each",
            soft_wrap=True,
        )
    if options.json:
        found = [hit._asdict() for hit in hits]
        write_whole(options.json, json.dumps(found, indent=2, ensure_ascii=False) + "\n")
