"""Checkpoints: exact, kept by recency and by recall, readable onto other devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from supclap_jax.config import set_variant
from supclap_jax.runs.checkpoints import Checkpoints
from supclap_jax.runs.mesh import make_mesh, put_batch
from supclap_jax.runs.states import States, abstract_states, init_states
from supclap_jax.train.step import make_train_step
from tests.train.test_step import make_batch

pytestmark = pytest.mark.slow


def test_restores_bit_for_bit_even_when_training_goes_on_at_once(config, tmp_path):
    """The next step reuses the donated buffers while the checkpoint may still be written."""
    set_variant(config, "dynamic")
    mesh = make_mesh(1, config.batch_size)
    step = make_train_step(config, mesh)

    def run(after_step):
        states = init_states(config, mesh)
        for number in range(1, 6):
            states, _ = step(states, put_batch(make_batch(config, number), mesh))
            after_step(states, number)

    checkpoints = Checkpoints(tmp_path, keep_last=9)
    run(checkpoints.save)
    checkpoints.close()
    expected = {}
    run(lambda states, number: expected.update({number: jax.tree.map(np.array, states)}))
    onto_four = abstract_states(config, make_mesh(4, config.batch_size))
    reader = Checkpoints(tmp_path, keep_last=9)
    for number, states in expected.items():
        restored = reader.restore(number, onto_four)
        jax.tree.map(np.testing.assert_array_equal, states, restored)
        assert all(len(leaf.devices()) == 4 for leaf in jax.tree.leaves(restored))
    reader.close()


def test_keeps_the_best_the_newest_and_those_named(tmp_path):
    states = States(dual={"w": jnp.arange(3.0)}, radius={})
    checkpoints = Checkpoints(tmp_path, keep_last=2, keep_steps=(3, 7))
    assert checkpoints.best_step() is None
    for step, recall in ((1, 5.0), (2, 9.0), (3, None), (4, 7.0), (5, None), (6, 8.0)):
        checkpoints.save(states, step, recall)
    checkpoints.close()
    reader = Checkpoints(tmp_path, keep_last=2)
    assert reader.steps() == [2, 3, 5, 6]
    assert reader.best_step() == 2
    reader.close()
