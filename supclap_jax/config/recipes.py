"""Recipes: Python files with `get_config(arg)` that starts from `default()` and changes fields."""

import re
from collections.abc import Sequence

from absl import flags
from ml_collections import ConfigDict, config_flags

from supclap_jax.config.fields import FIELDS
from supclap_jax.config.python_files import call_in_file, find_file
from supclap_jax.config.validation import check_keys, validate
from supclap_jax.config.values import flatten, unknown_key
from supclap_jax.errors import ConfigError

NO_CLIPPING = 1e6  # a norm that no gradient has
VARIANTS = {
    "info_nce": ("info_nce", "none"),
    "static": ("info_nce", "static"),
    "dynamic": ("info_nce", "dynamic"),
    "siglip": ("siglip", "none"),
    "siglip_static": ("siglip", "static"),
    "siglip_dynamic": ("siglip", "dynamic"),
}


def set_variant(config: ConfigDict, variant: str) -> None:
    """Sets base loss and radius from a recipe's argument, a name in `VARIANTS`."""
    if variant not in VARIANTS:
        raise ConfigError(f"unknown variant {variant!r}; expected one of {', '.join(VARIANTS)}")
    config.loss.base, config.loss.svr.radius = VARIANTS[variant]
    if config.loss.base == "siglip":
        config.temperature.initial = 0.1


def set_paper(config: ConfigDict, variant: str) -> None:
    """Sets `variant` and what is known of how the paper trained it (arXiv 2509.21033).

    Known: the two directions are added; the constraint is of predicted radii alone, which see rows
    of similarities; Adam at 5e-5; a temperature of 0.07; batch 24; ML-CLAP's weights to begin with,
    and the tokenizer of their text encoder, two files that the recipe names and the caller brings.

    Not known and chosen here: the temperature stays fixed; as none is mentioned, neither warm-up,
    schedule, weight decay, clipping nor augmentation; the radius model has the same rate, and a
    radius of its own for each direction; an epoch hears each clip once, with one of its captions;
    clips of 10 s, Clotho's of 30 s; hidden widths, activation, first radius, dropout, and SigLIP's
    temperature (0.1) and bias (-10) are those of the defaults.

    Args:
      config: of full size; its length stays.
      variant: a name in `VARIANTS`.
    """
    set_variant(config, variant)
    config.batch_size = 24
    config.loss.reduction = "sum"
    config.temperature.learned = False
    config.pretrained = "ml_clap.safetensors"
    config.text.tokenizer = "sentencepiece.source.256000.model"  # SONAR's
    config.text.vocab_size = 256_000
    config.optimizer.update(
        learning_rate=5e-5, schedule="constant", warmup_steps=0, clip_norm=NO_CLIPPING
    )
    radius = config.loss.svr.radius
    if radius != "none":
        config.radius_optimizer.update(learning_rate=5e-5, warmup_steps=0, clip_norm=NO_CLIPPING)
    if radius == "static":
        config.loss.svr.beta = 0.0
    if radius == "dynamic":
        config.loss.svr.features = "row"


def read_config(recipe: str, overrides: Sequence[str]) -> ConfigDict:
    """The config of a recipe, `FILE.py[:argument]`, with `--config.key=value` overrides; checked.

    Of several overrides of a key the last one counts. `None` clears an optional field. The recipe's
    folder is put on Python's path: "module:name" in a field may name what lies beside the recipe.

    Raises:
      ConfigError: there is no such recipe, key or value, or the recipe fails.
    """
    config = _run_recipe(recipe)
    values = {}
    for override in overrides:
        key, equals, value = override.removeprefix("--config.").partition("=")
        if not override.startswith("--config.") or not equals:
            raise ConfigError(f"cannot read {override!r}; overrides look like --config.seed=1")
        if key not in FIELDS:
            raise unknown_key(key)
        values[key] = value
    _set_values(config, values)
    validate(config)
    return config


def _run_recipe(recipe: str) -> ConfigDict:
    config = call_in_file("recipe", recipe, "get_config")
    if not isinstance(config, ConfigDict):
        raise ConfigError(
            f"get_config of recipe {recipe.partition(':')[0]} returned a {type(config).__name__}; "
            "expected what supclap_jax.config.default() gave it, changed"
        )
    try:
        check_keys(config)
    except ConfigError as error:
        raise ConfigError(f"recipe {_place(recipe, config)}: {error}") from error
    return config


def _place(recipe: str, config: ConfigDict) -> str:
    """The recipe's file, and its first line with a key that is no field, if it stands there."""
    name = recipe.partition(":")[0]
    strange = {key.rsplit(".", 1)[-1] for key in flatten(config) if key not in FIELDS}
    lines = find_file("recipe", name).read_text().splitlines()
    for number, line in enumerate(lines, start=1):
        if any(re.search(rf"\b{re.escape(key)}\b", line) for key in strange):
            return f"{name}, line {number}"
    return name


def _set_values(config: ConfigDict, values: dict[str, str]) -> None:
    """Sets fields, by dotted key, to what the text of an override says; locks the config."""
    is_cleared = {
        key: value == "None" and not FIELDS[key].check.problem(None)
        for key, value in values.items()
    }
    config.update_from_flattened_dict({key: None for key in values if is_cleared[key]})
    arguments = ["supclap"]
    arguments += [f"--config.{key}={values[key]}" for key in values if not is_cleared[key]]
    parser = flags.FlagValues()
    config_flags.DEFINE_config_dict("config", config, flag_values=parser, sys_argv=arguments)
    try:
        parser(arguments)
    except (flags.Error, TypeError, ValueError) as error:
        raise ConfigError(f"cannot read an override: {error}") from error
