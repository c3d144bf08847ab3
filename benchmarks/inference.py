"""What inference costs: imports, the first sentence, exact search in a million vectors.

    python benchmarks/inference.py --model=runs/quickstart --out=benchmarks/results/inference.json

Imports: `from supclap_jax.inference import load` against `import jax, flax`, in turns. The first
sentence: a process of its own, from its start to the vector, with the compiled programs kept from a
run before. Search: random unit vectors of 512 numbers in float16, mapped and read once; seconds a
query, and memory beyond the map. Medians.
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

from supclap_jax.inference.nearest import similarities

TURNS = 5
ROWS, DIM, QUERIES = 1_000_000, 512, 10
FIRST = "from supclap_jax.inference import load; load({!r}).encode_text(['a dog barks'])"
LOAD, BASE = "from supclap_jax.inference import load", "import jax, flax"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, required=True, help="folder of a trained run")
    parser.add_argument("--rows", type=int, default=ROWS, help="to search; default: a million")
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    options = parser.parse_args()
    imports = [(seconds_of(LOAD), seconds_of(BASE)) for _ in range(TURNS)]
    with tempfile.TemporaryDirectory() as folder:
        cache = {"JAX_COMPILATION_CACHE_DIR": folder}
        cache["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        first = [seconds_of(FIRST.format(str(options.model)), cache) for _ in range(TURNS + 1)]
    results = {
        "import, over jax and flax": statistics.median(mine / base for mine, base in imports),
        "first sentence, s": statistics.median(first[1:]),
        **searched(options.rows),
    }
    table = Table(show_header=False)
    for name, value in results.items():
        table.add_row(name, f"{value:.3g}")
    Console().print(table)
    if options.out:
        options.out.write_text(json.dumps(results, indent=2) + "\n")


def seconds_of(code: str, variables: dict | None = None) -> float:
    began = time.perf_counter()
    environment = os.environ | (variables or {})
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    return time.perf_counter() - began


def searched(rows: int) -> dict[str, float]:
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vectors.npy"
        vectors = np.lib.format.open_memmap(path, "w+", np.float16, (rows, DIM))
        for begin in range(0, rows, 10_000):
            block = rng.standard_normal((min(10_000, rows - begin), DIM), np.float32)
            vectors[begin : begin + len(block)] = block / np.linalg.norm(block, axis=1)[:, None]
        del vectors
        vectors = np.load(path, mmap_mode="r", allow_pickle=False)
        vectors.max()  # reads the file
        seconds = []
        for _ in range(QUERIES):
            query = rng.standard_normal(DIM).astype(np.float32)
            began = time.perf_counter()
            similarities(vectors, query)
            seconds.append(time.perf_counter() - began)
        tracemalloc.start()
        similarities(vectors, query)
        _, peak = tracemalloc.get_traced_memory()
    return {
        "rows": rows,
        "exact search, s a query": statistics.median(seconds),
        "memory beyond the map, MiB": peak / 2**20,
    }


if __name__ == "__main__":
    main()
