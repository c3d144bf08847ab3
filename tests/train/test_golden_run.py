"""Metrics of a short run against those recorded from an earlier version."""

import json
from pathlib import Path

import pytest

from supclap_jax.config import set_variant
from tests.train.test_step import run

GOLDEN = Path(__file__).parents[1] / "golden"


def test_six_steps_are_as_recorded(config):
    """The golden metrics of the sixth step: a change of structure changes none of them."""
    set_variant(config, "dynamic")
    golden = json.loads((GOLDEN / "training.json").read_text())
    _, metrics = run(config, steps=6)
    assert metrics.keys() == golden.keys()
    for name, value in golden.items():
        assert metrics[name] == pytest.approx(value, rel=1e-4, abs=1e-6), name
