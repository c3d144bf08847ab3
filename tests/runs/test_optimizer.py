"""Schedules, rates of groups and layers, frozen towers, and the moving average."""

import jax
import numpy as np
import optax
import pytest

from supclap_jax.config import validate
from supclap_jax.errors import ConfigError
from supclap_jax.runs.mesh import make_mesh, put_batch
from supclap_jax.runs.optimizer import (
    dual_encoder_optimizer,
    is_kernel,
    learning_rate,
    learning_rate_scales,
    moving_average,
)
from supclap_jax.runs.states import init_states, variables_of
from supclap_jax.train.step import make_train_step
from tests.train.test_step import make_batch

pytestmark = pytest.mark.slow


@pytest.fixture
def params(config):
    return init_states(config, make_mesh(1, config.batch_size)).dual.params


def test_learning_rate_warms_up_and_decays(config):
    config.total_steps = 110
    config.optimizer.update(learning_rate=2.0, warmup_steps=10)
    schedule = learning_rate(config)
    expected = [2.0 * k / 10 for k in range(10)]
    expected += [1 + np.cos(np.pi * k / 100) for k in range(101)]
    np.testing.assert_allclose([schedule(k) for k in range(111)], expected, atol=1e-6)


@pytest.mark.parametrize("section", ["optimizer", "radius_optimizer"])
@pytest.mark.parametrize("warmup", [0, 10])
def test_a_constant_rate_and_its_cooldown(config, section, warmup):
    """The radius model has a peak and a warm-up of its own, and the schedule of `optimizer`."""
    config.total_steps = 110
    config.optimizer.update(schedule="wsd", decay_steps=25)
    config[section].update(learning_rate=2.0, warmup_steps=warmup)
    steps = np.arange(111)
    expected = np.array([2.0 * min(1, k / 10) if warmup else 2.0 for k in steps])
    cooled = np.asarray(learning_rate(config, section)(steps))
    config.optimizer.schedule = "constant"
    constant = np.asarray(learning_rate(config, section)(steps))
    np.testing.assert_allclose(constant, expected, rtol=1e-6)
    np.testing.assert_array_equal(cooled[:86], constant[:86])
    shape = 1 - np.sqrt(np.arange(26) / 25)
    np.testing.assert_allclose(cooled[85:], 2.0 * shape, atol=1e-6)


def test_weight_decay_is_of_dense_kernels_alone(params):
    flags = jax.tree_util.tree_leaves_with_path(is_kernel(params))
    assert {path[-1].key for path, flag in flags if flag} == {"kernel"}
    spared = {path[-1].key for path, flag in flags if not flag}
    assert {"bias", "scale", "embedding", "time_pos_embed", "log_logit_scale"} <= spared


def test_scales_of_groups_and_layers(config):
    config.audio.depth = 3
    config.optimizer.layer_decay = 0.5
    config.optimizer.scale.update(audio=2.0, text=1.0, projections=3.0, temperature=0.25)
    validate(config)
    params = init_states(config, make_mesh(1, config.batch_size)).dual.params
    scales = learning_rate_scales(config, params)
    audio = scales["audio"]
    assert float(audio["norm"]["scale"]) == 2.0
    assert audio["blocks"]["qkv"]["kernel"].ravel().tolist() == [0.25, 0.5, 1.0]
    assert float(audio["patch_embed"]["kernel"]) == float(audio["input_norm"]["bias"]) == 0.125
    assert float(scales["text"]["embed"]["embedding"]) == 0.25  # one block
    assert float(scales["text_projection"]["Dense_0"]["bias"]) == 3.0
    assert float(scales["log_logit_scale"]) == 0.25


def test_scaled_updates_are_those_of_scaled_learning_rates(config, params):
    """Update by update against a whole optimizer with the group's own learning rate."""
    config.optimizer.scale.text = 0.1
    gradient = jax.tree.map(lambda x: 1e-3 * np.ones_like(x), params)

    def second_update(config):
        optimizer = dual_encoder_optimizer(config)
        state = optimizer.init(params)
        for _ in range(2):
            updates, state = jax.jit(optimizer.update)(gradient, state, params)
        return updates

    scaled = second_update(config)
    config.optimizer.scale.text = 1.0
    plain = second_update(config)
    config.optimizer.learning_rate *= 0.1
    slow = second_update(config)
    for expected, name in ((slow, "text"), (plain, "audio"), (plain, "text_projection")):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), scaled[name], expected[name]
        )


@pytest.mark.parametrize("tower", ["audio", "text"])
def test_a_frozen_tower_stays_and_its_projection_learns(config, tower):
    config[tower].frozen = True
    config.text.dropout = 0.1 if tower == "text" else 0.0
    validate(config)
    mesh = make_mesh(1, config.batch_size)
    states = init_states(config, mesh)
    before = jax.device_get(states.dual)
    step = make_train_step(config, mesh)
    for k in range(2):
        states, _ = step(states, put_batch(make_batch(config, k), mesh))
    after = jax.device_get(states.dual)
    jax.tree.map(np.testing.assert_array_equal, before.params[tower], after.params[tower])
    if tower == "audio":
        jax.tree.map(np.testing.assert_array_equal, before.batch_stats, after.batch_stats)
    for name in set(before.params) - {tower}:
        leaves = zip(*(jax.tree.leaves(s.params[name]) for s in (before, after)), strict=True)
        assert any(not np.array_equal(a, b) for a, b in leaves), name
    moments = optax.tree.get(after.opt_state, "mu")
    assert not jax.tree.leaves(moments[tower])


def test_options_of_a_frozen_tower_are_refused(config):
    config.audio.frozen = True
    config.audio.patch_out = 0.5
    with pytest.raises(ConfigError, match=r"audio.patch_out .* only a run with audio.frozen"):
        validate(config)


def test_moving_average_against_numpy():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(30, 4))
    expected = values[0]
    average = values[0].astype(np.float32)
    for step, value in enumerate(values):
        decay = min(0.8, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
        average = moving_average(average, value.astype(np.float32), step, 0.8)
    np.testing.assert_allclose(average, expected, rtol=1e-5)


def test_the_average_follows_the_parameters_and_is_evaluated(config):
    config.ema_decay = 0.9
    config.total_steps = 2
    mesh = make_mesh(1, config.batch_size)
    states = init_states(config, mesh)
    step = make_train_step(config, mesh)
    trail = [jax.device_get(states.dual.params)]
    for k in range(2):
        states, _ = step(states, put_batch(make_batch(config, k), mesh))
        trail.append(jax.device_get(states.dual.params))
    expected = trail[0]
    for k, params in enumerate(trail[1:]):
        kept = (1 + k) / (10 + k)
        expected = jax.tree.map(lambda a, p: kept * a + (1 - kept) * p, expected, params)  # noqa: B023
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
        states.dual.ema,
        expected,
    )
    assert variables_of(states.dual, config)["params"] is states.dual.ema
    config.evaluate.ema = False
    assert variables_of(states.dual, config)["params"] is states.dual.params
