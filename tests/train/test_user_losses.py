"""A base loss of the user's own, named in the config, in the very step of training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from supclap_jax.config import set_variant
from supclap_jax.errors import ConfigError
from supclap_jax.losses.base import Softmax
from supclap_jax.models.registry import check_config
from tests.train.test_step import assert_close, gradient_moments, make_batch, run

pytestmark = pytest.mark.slow


def info_nce(query, key, logit_scale):
    logits = logit_scale * query @ key.T
    return jax.nn.logsumexp(logits, axis=1) - jnp.diagonal(logits)


info_nce_object = Softmax()


def test_a_function_that_is_info_nce_trains_alike(config):
    """Loss, radii, forces and gradients, on eight devices; the function knows no ids."""
    set_variant(config, "dynamic")
    batches = [make_batch(config, k) | {"group_ids": np.arange(8, dtype=np.int32)} for k in (0, 1)]
    expected, expected_metrics = run(config, 2, batches)
    config.loss.base = "tests.train.test_user_losses:info_nce"
    config.mesh.data = 8
    check_config(config)
    states, metrics = run(config, 2, batches)
    assert metrics.keys() == expected_metrics.keys()
    for name, value in expected_metrics.items():
        assert metrics[name] == pytest.approx(value, rel=1e-4, abs=1e-6), name
    assert_close(gradient_moments(states), gradient_moments(expected), 1e-3)


def test_tiles_need_an_object_and_take_it(config):
    config.loss.base = "tests.train.test_user_losses:info_nce"
    config.loss.block_size = 3
    with pytest.raises(ConfigError, match="tiles need a loss object"):
        check_config(config)
    config.loss.base = "tests.train.test_user_losses:info_nce_object"
    check_config(config)
    _, metrics = run(config)
    config.loss.base = "info_nce"
    np.testing.assert_array_equal(metrics["loss"], run(config)[1]["loss"])
