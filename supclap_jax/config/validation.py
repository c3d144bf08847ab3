"""What a config must be: every field by its own check, and the fields together."""

from ml_collections import ConfigDict

from supclap_jax.config.base_loss import base_loss
from supclap_jax.config.conditions import (
    BRANCH,
    FIXED_RADIUS,
    LEARNED_RADIUS,
    OFFLINE,
    PREDICTED_RADIUS,
    WSD,
)
from supclap_jax.config.fields import FIELDS
from supclap_jax.config.values import default, flatten, unknown_key
from supclap_jax.errors import ConfigError


def validate(config: ConfigDict) -> None:
    """Raises ConfigError for an unknown, wrongly typed, impossible or unused field.

    What the encoders have to say of theirs is in `models.registry.check_config`.
    """
    check_keys(config)
    for key, value in flatten(config).items():
        check_value(key, value)
    _check_microbatch_size(config)
    base_loss(config)
    _check_block_size(config)
    _check_bound(config)
    _check_offline(config)
    _check_pretrained(config)
    _check_attention(config)
    _check_mixture(config)
    _check_buckets(config)
    _check_unused(config)
    _check_schedule(config)
    _check_branch(config)


def check_keys(config: ConfigDict) -> None:
    """Raises ConfigError where a config has a key that is no field, or lacks one that is."""
    values = flatten(config)
    for key in values:
        if key not in FIELDS:
            raise unknown_key(key)
    for key, field in FIELDS.items():
        if key not in values:
            raise ConfigError(f"config key {key!r} is missing; its default is {field.default!r}")


def check_value(key: str, value: object) -> None:
    """Raises ConfigError where a field's own check does not let a value pass."""
    problem = FIELDS[key].check.problem(value)
    if problem:
        raise ConfigError(f"{key} {problem}")


def _check_microbatch_size(config: ConfigDict) -> None:
    size, batch = config.microbatch_size, config.batch_size
    if size is not None and batch % size:
        raise ConfigError(
            f"microbatch_size is {size!r}; expected None or a divisor of batch_size {batch}"
        )


def _check_block_size(config: ConfigDict) -> None:
    size = config.loss.block_size
    if size is None or not PREDICTED_RADIUS.holds(config):
        return
    if config.loss.svr.features == "row":
        raise ConfigError(
            f"loss.block_size is {size!r}, but loss.svr.features = 'row' needs whole rows of the "
            "similarity matrix; set it to 'summary', or leave loss.block_size at None"
        )
    if not config.loss.svr.detach:
        raise ConfigError(
            f"loss.block_size is {size!r}, but its summaries carry no gradient, which "
            "loss.svr.detach = False asks for; set that to True, or leave loss.block_size at None"
        )


def _check_bound(config: ConfigDict) -> None:
    svr = config.loss.svr
    if svr.bound != "distance":
        return
    if FIXED_RADIUS.holds(config) and svr.fixed_radius > 1:
        raise ConfigError(
            f"loss.svr.fixed_radius is {svr.fixed_radius}; with loss.svr.bound = 'distance' it is "
            "a share of the distance: expected at most 1"
        )
    if LEARNED_RADIUS.holds(config) and not 0 < svr.initial_radius < 1:
        raise ConfigError(
            f"loss.svr.initial_radius is {svr.initial_radius}; with loss.svr.bound = 'distance' it "
            "is a share of the distance: expected above 0 and below 1"
        )


def _check_offline(config: ConfigDict) -> None:
    if not OFFLINE.holds(config):
        return
    if not config.loss.svr.reference:
        raise ConfigError(
            "loss.svr.similarity is 'offline', but loss.svr.reference is not set; give the folder "
            "that 'supclap embed-reference' wrote"
        )
    for key, wanted in (("loss.block_size", None), ("data.mixup", 0.0), ("loss.svr.detach", True)):
        section, _, name = key.rpartition(".")
        value = (config.loss.svr if section == "loss.svr" else config[section])[name]
        if value != wanted:
            raise ConfigError(
                f"loss.svr.similarity is 'offline', which {key} = {value!r} does not go with; "
                f"leave it at {wanted!r}"
            )


def _check_pretrained(config: ConfigDict) -> None:
    for tower in ("audio", "text"):
        if config.pretrained and config[tower].pretrained:
            raise ConfigError(
                f"pretrained is set, and so is {tower}.pretrained; the first holds both towers: "
                "leave one of them empty"
            )
    key = "pretrained" if config.pretrained else "text.pretrained"
    if (config.pretrained or config.text.pretrained) and not config.text.tokenizer:
        raise ConfigError(
            f"{key} is set, but text.tokenizer is not; text weights belong to a vocabulary: give "
            "SONAR's sentencepiece.source.256000.model with text.vocab_size=256000, or the "
            "tokenizer.model of the run that the weights come from, with its text.vocab_size"
        )


def _check_attention(config: ConfigDict) -> None:
    if config.attention == "cudnn" and config.compute_dtype != "bfloat16":
        raise ConfigError(
            f"attention = 'cudnn' needs compute_dtype = 'bfloat16', not {config.compute_dtype!r}"
        )


def _check_mixture(config: ConfigDict) -> None:
    if config.data.mixture and not config.data.evaluation:
        raise ConfigError(
            "data.mixture needs data.evaluation, the name of the set in data.path to validate and "
            f"evaluate on, such as {min(config.data.mixture)!r}"
        )


def _check_buckets(config: ConfigDict) -> None:
    buckets, seconds = config.data.buckets, config.audio.seconds
    if buckets and buckets[-1] >= seconds:
        raise ConfigError(
            f"data.buckets is {buckets}; expected lengths below audio.seconds, {seconds:g}, such "
            "as (5.0,)"
        )


def _check_schedule(config: ConfigDict) -> None:
    """Looks at the warm-up of the radius model as well, which has the same schedule."""
    decay, total = config.optimizer.decay_steps, config.total_steps
    for section in ("optimizer", "radius_optimizer"):
        warmup = config[section].warmup_steps
        used = section == "optimizer" or LEARNED_RADIUS.holds(config)
        if WSD.holds(config) and used and warmup + decay > total:
            raise ConfigError(
                f"{section}.warmup_steps {warmup} and optimizer.decay_steps {decay} are together "
                f"more than total_steps {total}; lower one of them"
            )


def _check_branch(config: ConfigDict) -> None:
    if not BRANCH.holds(config):
        return
    step, total = config.branch.step, config.total_steps
    if not 0 < step < total:
        raise ConfigError(
            f"branch.step is {step}; expected the step of a checkpoint of branch.run, less than "
            f"total_steps {total}"
        )


def _check_unused(config: ConfigDict) -> None:
    values, defaults = flatten(config), flatten(default())
    for key, field in FIELDS.items():
        if field.used and values[key] != defaults[key] and not field.used.holds(config):
            raise ConfigError(
                f"{key} is set to {values[key]!r}, but only a run with {field.used.sentence} uses "
                f"it; leave it at {defaults[key]!r}, or change that"
            )
