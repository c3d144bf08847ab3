"""What inference costs: imports, the first sentence, search in a million vectors, files a second.

    python benchmarks/inference.py --model=runs/quickstart --torch=venv/bin/python \\
        --out=benchmarks/results/inference.json

Imports: `from supclap_jax.inference import load` against `import jax, flax`, in turns. The first
sentence: a process of its own, from its start to the vector, with the compiled programs kept from a
run before. Search: unit vectors of 512 numbers in float16, mapped and read once; seconds a query,
and memory beyond the map; exact ones, and by the graph of neighbours. They are mixtures of 32
directions and some noise, since in directions that are all alike no graph finds anything, and a
trained model's are far from that. Files a second: see `embedding.py`. Medians.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import numpy as np
from rich.console import Console
from rich.table import Table

from embedding import embedded
from supclap_jax.inference.nearest import search
from supclap_jax.inference.neighbour_graph import NeighbourGraph
from supclap_jax.inference.sound_index import Row, SoundIndex

TURNS = 5
ROWS, DIM, QUERIES, TOP = 1_000_000, 512, 50, 10
DIRECTIONS, NOISE, SHARD = 32, 0.1, 20_000
DESCRIPTION = {"space": "0", "model": "m", "step": 0, "dim": DIM, "dtype": "float16", "source": "s",
               "digest": "", "windows": False, "window": 1.0, "hop": None}  # fmt: skip
FIRST = "from supclap_jax.inference import load; print(len(load({!r}).encode_text(['dog'])))"
LOAD, BASE = "from supclap_jax.inference import load", "import jax, flax"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, required=True, help="folder of a trained run")
    parser.add_argument("--torch", help="a Python interpreter that has torch 2.13.0")
    parser.add_argument("--clips", type=int, default=1_000, help="to embed; default: 1,000")
    parser.add_argument("--index", type=Path, help="folder that keeps what is searched")
    parser.add_argument("--rows", type=int, default=ROWS, help="to search; default: a million")
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    options = parser.parse_args()
    imports = [(seconds_of(LOAD), seconds_of(BASE)) for _ in range(TURNS)]
    with tempfile.TemporaryDirectory() as folder:
        cache = {"JAX_COMPILATION_CACHE_DIR": folder}
        cache["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        first = [seconds_of(FIRST.format(str(options.model)), cache) for _ in range(TURNS + 1)]
    with tempfile.TemporaryDirectory() as folder:
        of_search = searched(options.rows, options.index or Path(folder) / "index")
    results = {
        "import, over jax and flax": statistics.median(mine / base for mine, base in imports),
        "first sentence, s": statistics.median(first[1:]),
        **of_search,
    }
    if options.torch:
        results |= embedded(options.torch, options.clips)
    table = Table(show_header=False)
    for name, value in results.items():
        table.add_row(name, f"{value:.3g}")
    Console().print(table)
    if options.out:
        options.out.write_text(json.dumps(results, indent=2) + "\n")


def seconds_of(code: str, variables: dict | None = None) -> float:
    """From the start of a process to its first line, or else its end."""
    began = time.perf_counter()
    environment = os.environ | (variables or {})
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        process.stdout.readline()
        seconds = time.perf_counter() - began
    if process.returncode:
        raise RuntimeError(f"{code!r} ended with {process.returncode}")
    return seconds


def searched(rows: int, folder: Path) -> dict[str, float]:
    rng = np.random.default_rng(0)
    basis = rng.standard_normal((DIRECTIONS, DIM)).astype(np.float32)

    def unit_rows(count: int) -> np.ndarray:
        x = rng.standard_normal((count, DIRECTIONS)).astype(np.float32) @ basis
        x += NOISE * DIRECTIONS**0.5 * rng.standard_normal((count, DIM), np.float32)
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    index = SoundIndex.claim(folder, DESCRIPTION)
    for begin in range(0, 0 if index.shards else rows, SHARD):
        index.append(
            [
                Row(str(begin + place), 0.0, 1.0, 1.0, 1, 1, vector)
                for place, vector in enumerate(unit_rows(min(SHARD, rows - begin)))
            ]
        )
    vectors = index.vectors()
    vectors.max()  # reads the file
    queries = unit_rows(QUERIES)
    exact = [timed(search, index, query, TOP) for query in queries]
    tracemalloc.start()
    search(index, queries[0], TOP)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    NeighbourGraph(index)
    graph = NeighbourGraph(index)  # as a later search finds it, mapped
    for query in queries:  # reads what they touch
        graph.search(query, TOP)
    approximate = [timed(graph.search, query, TOP) for query in queries]
    shares = [
        len({hit.path for hit in found} & {hit.path for hit in true}) / TOP
        for (_, found), (_, true) in zip(approximate, exact, strict=True)
    ]
    return {
        "rows": rows,
        "exact search, s a query": statistics.median(seconds for seconds, _ in exact),
        "memory beyond the map, MiB": peak / 2**20,
        "by the graph, ms a query": 1e3 * statistics.median(seconds for seconds, _ in approximate),
        "recall@10 of the graph": statistics.mean(shares),
    }


def timed(function, *arguments):
    began = time.perf_counter()
    result = function(*arguments)
    return time.perf_counter() - began, result


if __name__ == "__main__":
    main()
