"""Approximate search: a graph of an index's vectors, by usearch (HNSW, Malkov and Yashunin, 2018).

It lies in the index's folder as `graph.usearch`, with what it was made of in `graph.json`, and is
made anew where the vectors have changed.
"""

import json
import warnings

import numpy as np

from supclap_jax.console import progress_bar
from supclap_jax.files import replacing, write_whole
from supclap_jax.inference.nearest import Hit, hits, similarities
from supclap_jax.inference.sound_index import SoundIndex

GRAPH, GRAPH_OF = "graph.usearch", "graph.json"
BLOCK = 4_096  # vectors that are added at a time
SEARCHED = 208  # candidates that a search keeps
QUERIES, TOP = 100, 10  # of the recall
SAMPLE = 4_000  # rows that percentiles are of
ROUNDING = 1e-6  # by which a row's cosine may differ in another product


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
        step = max(len(self._vectors) // SAMPLE, 1)
        self._sample = self._vectors[::step].astype(np.float32)
        self._graph = Index(ndim=index.dim, metric="ip", dtype="bf16", expansion_search=SEARCHED)
        recall = self._kept(index.digest)
        if recall is None:
            recall = self._made(index.digest)
        self.recall = recall

    def search(self, query: np.ndarray, count: int) -> list[Hit]:
        """As `nearest.search`, but that it misses some; percentiles are of 4,000 rows.

        Args:
          query: unit vector `[dim]`.
          count: at least 1.
        """
        numbers = self.nearest(query, count)
        cosines = self._vectors[numbers].astype(np.float32) @ query
        order = np.argsort(-cosines, kind="stable")
        sample = self._sample @ query
        return hits(self._index, numbers[order], cosines[order], sample + ROUNDING)

    def nearest(self, query: np.ndarray, count: int) -> np.ndarray:
        """Numbers of rows, int64 `[count]`, the nearest first."""
        count = min(count, len(self._vectors))
        return self._graph.search(query, count).keys.astype(np.int64)

    def _kept(self, made_of: str) -> float | None:
        """The recall of the graph in the folder, which is taken if it is whole and of these."""
        folder = self._index.folder
        try:
            known = json.loads((folder / GRAPH_OF).read_text())
            if (known["made_of"], known["bytes"]) != (made_of, (folder / GRAPH).stat().st_size):
                return None
            self._graph.view(str(folder / GRAPH))
            is_whole = (len(self._graph), self._graph.ndim) == self._vectors.shape
            self._graph.expansion_search = SEARCHED
            return float(known["recall"]) if is_whole else None
        except (OSError, ValueError, KeyError, TypeError, RuntimeError):  # damaged, or none
            return None

    def _made(self, made_of: str) -> float:
        """The recall of a new graph, which is kept where that is allowed."""
        self._graph.reset()
        rows, folder = len(self._vectors), self._index.folder
        with progress_bar() as bar:
            task = bar.add_task("making the graph", total=rows)
            for begin in range(0, rows, BLOCK):
                block = self._vectors[begin : begin + BLOCK].astype(np.float32)
                self._graph.add(np.arange(begin, begin + len(block)), block)
                bar.advance(task, len(block))
            task = bar.add_task("measuring its recall", total=QUERIES)
            rng, top, found = np.random.default_rng(0), min(TOP, rows), 0
            for _ in range(QUERIES):
                pair = np.sort(rng.integers(rows, size=2))
                query = self._vectors[pair].astype(np.float32).sum(axis=0)
                exact = np.argpartition(-similarities(self._vectors, query), top - 1)[:top]
                found += len(set(exact) & set(self.nearest(query, top)))
                bar.advance(task)
        recall = found / (QUERIES * top)
        try:
            with replacing(folder / GRAPH) as unfinished:
                self._graph.save(str(unfinished))
            size = (folder / GRAPH).stat().st_size
            known = {"made_of": made_of, "bytes": size, "recall": recall}
            write_whole(folder / GRAPH_OF, json.dumps(known) + "\n")
        except OSError as error:
            warnings.warn(
                f"the graph cannot be kept in {folder} ({error.strerror}); it will be made again",
                stacklevel=4,
            )
        return recall
