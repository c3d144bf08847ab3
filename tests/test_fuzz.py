"""Random tiny configs of `benchmarks/fuzz.py`: what is accepted makes a step.

The benchmark trains it, too, which takes a compilation each.
"""

import sys
from importlib import import_module
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings

from supclap_jax.config import FIELDS, read_config
from supclap_jax.errors import ConfigError
from supclap_jax.models.registry import check_config
from supclap_jax.planning.compiled_step import abstract_batch
from supclap_jax.runs.mesh import mesh_of
from supclap_jax.runs.states import abstract_states
from supclap_jax.train.step import make_train_step

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

fuzz = import_module("fuzz")

pytestmark = pytest.mark.slow


@settings(
    max_examples=5,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)
@given(fuzz.command_lines())
def test_what_is_accepted_makes_a_step(line):
    recipe, *overrides = fuzz.arguments(*line, Path("data"))
    try:
        config = read_config(recipe.removeprefix("--config="), overrides)
        check_config(config)
        mesh = mesh_of(config)
        step = make_train_step(config, mesh)
    except ConfigError:
        assume(False)
    step.lower(abstract_states(config, mesh), abstract_batch(config, mesh))


def test_every_field_is_drawn_or_left_on_purpose():
    assert set(fuzz.VALUES) | set(fuzz.LEFT) <= set(FIELDS)
    for key in set(FIELDS) - set(fuzz.LEFT):
        fuzz.values(key)
