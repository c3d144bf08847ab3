"""Fields that do not go together, and losses of the user's own."""

import sys
from types import ModuleType

import pytest

from supclap_jax.config import default, validate
from supclap_jax.errors import ConfigError
from supclap_jax.losses.base import Sigmoid, Softmax


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"microbatch_size": 5}, "expected None or a divisor of batch_size 24"),
        (
            {
                "loss.svr.radius": "fixed",
                "loss.svr.bound": "distance",
                "loss.svr.fixed_radius": 1.5,
            },
            "is a share of the distance: expected at most 1",
        ),
        (
            {
                "loss.svr.radius": "static",
                "loss.svr.bound": "distance",
                "loss.svr.initial_radius": 1.0,
            },
            "is a share of the distance: expected above 0 and below 1",
        ),
        ({"attention": "cudnn"}, "needs compute_dtype = 'bfloat16', not 'float32'"),
        ({"data.mixture": {"b": 1, "a": 1}}, "data.mixture needs data.evaluation.* such as 'a'"),
        ({"data.buckets": (5.0, 10.0)}, "expected lengths below audio.seconds, 10,"),
        (
            {"optimizer.schedule": "wsd", "total_steps": 2_400},
            "^optimizer.warmup_steps 500 and optimizer.decay_steps 2000 are together more than "
            "total_steps 2400",
        ),
        (
            {
                "optimizer.schedule": "wsd",
                "loss.svr.radius": "static",
                "radius_optimizer.warmup_steps": 8_001,
            },
            "^radius_optimizer.warmup_steps 8001 and optimizer.decay_steps 2000",
        ),
        ({"branch.run": "x"}, "branch.step is 0; expected the step of a checkpoint of branch.run"),
        (
            {"branch.run": "x", "branch.step": 10_000},
            "step is 10000; .* less than total_steps 10000",
        ),
        ({"pretrained": "x"}, "^pretrained is set, but text.tokenizer is not"),
        ({"text.pretrained": "x"}, "^text.pretrained is set, but text.tokenizer is not"),
        (
            {"pretrained": "x", "audio.pretrained": "y", "text.tokenizer": "z"},
            "pretrained is set, and so is audio.pretrained",
        ),
    ],
)
def test_fields_that_do_not_go_together(values, message):
    config = default()
    config.update_from_flattened_dict(values)
    with pytest.raises(ConfigError, match=message) as error:
        validate(config)
    assert "\n" not in str(error.value)


@pytest.fixture
def losses(monkeypatch):
    """A module of losses that can be imported."""
    module = ModuleType("losses_of_mine")
    module.contrast = lambda query, key, logit_scale: logit_scale
    module.plain = Softmax()
    module.biased = Sigmoid()
    module.Kind = Softmax
    module.number = 3
    monkeypatch.setitem(sys.modules, module.__name__, module)


@pytest.mark.parametrize(
    ("base", "block_size", "message"),
    [
        ("losses_of_mine:contrast", None, ""),
        ("losses_of_mine:plain", "auto", ""),
        ("losses_of_mine:contrast", 64, "tiles need a loss object .supclap_jax.losses.BaseLoss"),
        ("losses_of_mine:Kind", None, "expected a function of .query, key, logit_scale., or an"),
        ("losses_of_mine:number", None, "which is 3; expected a function"),
        ("losses_of_mine:lost", None, "module 'losses_of_mine' has no 'lost'"),
        ("sys:lost", None, "module 'sys' has no 'lost'"),
        ("losses_of_yours:lost", None, "'losses_of_yours' cannot be imported .ModuleNotFound"),
    ],
)
def test_a_loss_of_ones_own_is_a_function_or_a_loss_object(losses, base, block_size, message):
    config = default()
    config.loss.update(base=base, block_size=block_size)
    if not message:
        return validate(config)
    with pytest.raises(ConfigError, match=message) as error:
        validate(config)
    assert str(error.value).startswith("loss.")


@pytest.mark.parametrize(("name", "takes_bias"), [("biased", True), ("plain", False)])
def test_a_bias_is_for_losses_that_take_one(losses, name, takes_bias):
    config = default()
    config.loss.base = f"losses_of_mine:{name}"
    config.temperature.initial_bias = -3.0
    if takes_bias:
        return validate(config)
    with pytest.raises(ConfigError, match=r"only a run with a bias, such as loss\.base"):
        validate(config)
