"""Approximate search: nearly what exact search finds, and never of another state of the index."""

import numpy as np
import pytest

from supclap_jax.inference.nearest import search
from supclap_jax.inference.sound_index import Row, SoundIndex

pytest.importorskip("usearch")
from supclap_jax.inference.neighbour_graph import GRAPH, NeighbourGraph

DIM, RANK = 64, 8
DESCRIPTION = {"space": "0", "model": "m", "step": 1, "dim": DIM, "dtype": "float32", "source": "s",
               "digest": None, "windows": False, "window": None, "hop": None}  # fmt: skip
BASIS = np.random.default_rng(0).standard_normal((RANK, DIM))


def vectors(count, seed):
    x = np.random.default_rng(seed).standard_normal((count, RANK)) @ BASIS
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def rows(count, seed):
    return [
        Row(f"{seed}/{place}.wav", 0.0, 1.0, 1.0, 1, 1, vector)
        for place, vector in enumerate(vectors(count, seed))
    ]


@pytest.fixture
def index(tmp_path):
    index = SoundIndex.claim(tmp_path / "index", DESCRIPTION)
    index.append(rows(2_000, 1))
    return index


def test_it_finds_nearly_what_exact_search_finds(index):
    graph = NeighbourGraph(index)
    assert graph.recall > 0.95
    common = 0
    for query in vectors(50, 2):
        found, exact = graph.search(query, 10), search(index, query, 10)
        common += len({hit.path for hit in found} & {hit.path for hit in exact})
        assert [hit.cosine for hit in found] == sorted((hit.cosine for hit in found), reverse=True)
        by_path = {hit.path: hit for hit in exact}
        for hit in found:
            if hit.path in by_path:
                assert hit.cosine == pytest.approx(by_path[hit.path].cosine, abs=1e-6)
                assert hit.percentile == pytest.approx(by_path[hit.path].percentile, abs=0.1)
    assert common / 500 > 0.95


def test_it_is_kept_until_the_index_changes(index):
    NeighbourGraph(index)
    kept = (index.folder / GRAPH).stat().st_mtime_ns
    again = NeighbourGraph(index)
    assert (index.folder / GRAPH).stat().st_mtime_ns == kept
    assert len(again.search(vectors(1, 3)[0], 10**12)) <= 2_000
    index.append(rows(1, 9))
    (query,) = vectors(1, 9)
    assert NeighbourGraph(index).search(query, 1)[0].path == "9/0.wav"


def test_a_damaged_graph_is_made_anew(index):
    graph = NeighbourGraph(index)
    (query,) = vectors(1, 4)
    expected = graph.search(query, 3)
    del graph
    with (index.folder / GRAPH).open("r+b") as file:
        file.truncate(1_000)
    assert NeighbourGraph(index).search(query, 3) == expected
    size = (index.folder / GRAPH).stat().st_size
    (index.folder / GRAPH).write_bytes(bytes(size))
    assert NeighbourGraph(index).search(query, 3) == expected
    for damage in ("{", "[]", "{}"):
        (index.folder / "graph.json").write_text(damage)
        assert NeighbourGraph(index).search(query, 3) == expected
