"""Approximate search: a graph of an index's vectors, by usearch (HNSW, Malkov and Yashunin, 2018).

It lies in the index's folder as `graph.usearch`, with what it was made of in `graph.json`, and is
made anew where the vectors have changed.
"""

import json
from pathlib import Path

import numpy as np
from rich.progress import track

from supclap_jax.console import console
from supclap_jax.files import replacing, write_whole
from supclap_jax.inference.nearest import Hit, hits, similarities
from supclap_jax.inference.sound_index import MADE_OF, SoundIndex

GRAPH, GRAPH_OF = "graph.usearch", "graph.json"
BLOCK = 4_096  # vectors that are added at a time
SEARCHED = 128  # candidates that a search keeps
QUERIES, TOP = 100, 10  # of the recall
SAMPLE = 10_000  # rows that percentiles are of


class NeighbourGraph:
    """The graph of an index; made where there is none.

    Args:
      index: whose vectors.

    Attributes:
      recall: share of the ten nearest that it finds, of 100 queries between two sounds each.

    Raises:
      DataError: as `SoundIndex.vectors`.
    """

    def __init__(self, index: SoundIndex):
        from usearch.index import Index

        self._index = index
        self._vectors = index.vectors()
        self._graph = Index(ndim=index.dim, metric="ip", dtype="bf16", expansion_search=SEARCHED)
        path = index.folder / GRAPH
        made_of = (index.folder / MADE_OF).read_text()
        known = _read(index.folder / GRAPH_OF)
        if known.get("made_of") == made_of and known.get("bytes") == _size(path):
            self._graph.view(str(path))
            self._graph.expansion_search = SEARCHED
            self.recall = known["recall"]
            return
        blocks = range(0, len(self._vectors), BLOCK)
        for begin in track(blocks, "making the graph", console=console, transient=True):
            block = self._vectors[begin : begin + BLOCK].astype(np.float32)
            self._graph.add(np.arange(begin, begin + len(block)), block)
        self.recall = self._measured()
        with replacing(path) as unfinished:
            self._graph.save(str(unfinished))
        known = {"made_of": made_of, "bytes": _size(path), "recall": self.recall}
        write_whole(index.folder / GRAPH_OF, json.dumps(known) + "\n")

    def search(self, query: np.ndarray, count: int) -> list[Hit]:
        """As `nearest.search`, but that it misses some; percentiles are of 10,000 rows.

        Args:
          query: unit vector `[dim]`.
          count: at least 1.
        """
        numbers = self.nearest(query, count)
        cosines = self._vectors[numbers].astype(np.float32) @ query
        order = np.argsort(-cosines, kind="stable")
        step = max(len(self._vectors) // SAMPLE, 1)
        sample = np.sort(self._vectors[::step].astype(np.float32) @ query)
        return hits(self._index, numbers[order], cosines[order], sample)

    def nearest(self, query: np.ndarray, count: int) -> np.ndarray:
        """Numbers of rows, int64 `[count]`, the nearest first."""
        return self._graph.search(query, count).keys.astype(np.int64)

    def _measured(self) -> float:
        rng = np.random.default_rng(0)
        top = min(TOP, len(self._vectors))
        found = 0
        for _ in range(QUERIES):
            pair = np.sort(rng.integers(len(self._vectors), size=2))
            query = self._vectors[pair].astype(np.float32).sum(axis=0)
            exact = np.argpartition(-similarities(self._vectors, query), top - 1)[:top]
            found += len(set(exact) & set(self.nearest(query, top)))
        return found / (QUERIES * top)


def _read(path: Path) -> dict:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return {}


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None
