"""When a run uses a field: conditions with the sentence that says them."""

from collections.abc import Callable
from typing import NamedTuple

from ml_collections import ConfigDict

from supclap_jax.config.base_loss import takes_bias


class Condition(NamedTuple):
    """A condition on a config.

    Attributes:
      sentence: follows "only a run with".
      holds: whether it does.
    """

    sentence: str
    holds: Callable[[ConfigDict], bool]


def has_learned_radius(config: ConfigDict) -> bool:
    return config.loss.svr.radius in ("static", "dynamic")


SVR = Condition(
    "loss.svr.radius other than 'none'", lambda config: config.loss.svr.radius != "none"
)
UNBOUND = Condition(
    "loss.svr.radius other than 'none' and loss.svr.bound = 'none'",
    lambda config: config.loss.svr.radius != "none" and config.loss.svr.bound == "none",
)
FIXED_RADIUS = Condition(
    "loss.svr.radius = 'fixed'", lambda config: config.loss.svr.radius == "fixed"
)
LEARNED_RADIUS = Condition("loss.svr.radius = 'static' or 'dynamic'", has_learned_radius)
TWO_LEARNED_RADII = Condition(
    "loss.svr.radius = 'static' or 'dynamic' and loss.svr.direction = 'both'",
    lambda config: has_learned_radius(config) and config.loss.svr.direction == "both",
)
PREDICTED_RADIUS = Condition(
    "loss.svr.radius = 'dynamic'", lambda config: config.loss.svr.radius == "dynamic"
)
OFFLINE = Condition(
    "loss.svr.radius = 'dynamic' and loss.svr.similarity = 'offline'",
    lambda config: config.loss.svr.radius == "dynamic" and config.loss.svr.similarity == "offline",
)
BIAS = Condition("a bias, such as loss.base = 'siglip'", takes_bias)
LEARNED_TEMPERATURE = Condition(
    "temperature.learned = True", lambda config: config.temperature.learned
)
TRAINED_AUDIO = Condition("audio.frozen = False", lambda config: not config.audio.frozen)
TRAINED_TEXT = Condition("text.frozen = False", lambda config: not config.text.frozen)
TRAINED_ENCODER = Condition(
    "audio.frozen = False or text.frozen = False",
    lambda config: not (config.audio.frozen and config.text.frozen),
)
TIME_MASKS = Condition("audio.time_masks above zero", lambda config: config.audio.time_masks > 0)
FREQ_MASKS = Condition("audio.freq_masks above zero", lambda config: config.audio.freq_masks > 0)
MIXTURE = Condition("data.mixture", lambda config: bool(config.data.mixture))
MOVING_AVERAGE = Condition("ema_decay above zero", lambda config: config.ema_decay > 0)
WSD = Condition("optimizer.schedule = 'wsd'", lambda config: config.optimizer.schedule == "wsd")
BRANCH = Condition("branch.run", lambda config: bool(config.branch.run))
FULL_REMAT = Condition("remat = 'full'", lambda config: config.remat == "full")
MICROBATCHES = Condition("microbatch_size", lambda config: config.microbatch_size is not None)
PROFILE = Condition("profile.steps above zero", lambda config: config.profile.steps > 0)
