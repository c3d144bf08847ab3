"""Measures of the sphere against their formulas, pair by pair, and where the answer is known."""

import itertools

import numpy as np
import pytest

from supclap_jax.evaluate import geometry as module
from supclap_jax.evaluate.geometry import geometry


def unit(rng, *shape):
    rows = rng.standard_normal(shape)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def test_formulas(monkeypatch):
    monkeypatch.setattr(module, "BLOCK_SIZE", 4)
    rng = np.random.default_rng(0)
    audio, text = unit(rng, 11, 6), unit(rng, 11, 6)
    found = geometry(audio.astype(np.float32), text.astype(np.float32))
    gap = sum((audio[i] - text[i]) / 11 for i in range(11))
    assert found["modality_gap"] == pytest.approx(np.sqrt(gap @ gap), rel=1e-6)
    squares = [sum((audio[i] - text[i]) ** 2) for i in range(11)]
    assert found["alignment"] == pytest.approx(np.mean(squares), rel=1e-6)
    for tower, rows in (("audio", audio), ("text", text)):
        pairs = itertools.permutations(rows, 2)
        mean = np.mean([np.exp(-2 * sum((x - y) ** 2)) for x, y in pairs])
        assert found["uniformity"][tower] == pytest.approx(np.log(mean), rel=1e-6)
        eigenvalues = np.linalg.eigvalsh(rows.T @ rows)
        share = np.sqrt(eigenvalues) / np.sqrt(eigenvalues).sum()
        assert found["rank_me"][tower] == pytest.approx(np.prod(share**-share), rel=1e-4)


def test_extremes():
    """All alike is rank one and not uniform at all; an orthonormal basis has full rank."""
    alike = np.tile([1.0, 0, 0, 0], (4, 1))
    found = geometry(alike, np.eye(4))
    assert found["uniformity"]["audio"] == pytest.approx(0, abs=1e-12)
    assert found["uniformity"]["text"] == pytest.approx(-4)
    assert found["rank_me"] == {
        "audio": pytest.approx(1, abs=1e-5),
        "text": pytest.approx(4, rel=1e-5),
    }
    assert found["alignment"] == pytest.approx(3 / 4 * 2)
    assert geometry(-alike, alike)["modality_gap"] == pytest.approx(2)


def test_of_one_clip_there_is_no_uniformity():
    found = geometry(np.eye(1, 3), np.eye(1, 3))
    assert found["uniformity"] == {"audio": None, "text": None}
    assert found["alignment"] == 0


def test_other_numbers_of_rows_are_refused():
    with pytest.raises(ValueError, match="must be pairs, got 2 and 3 rows"):
        geometry(np.eye(2, 3), np.eye(3))
