"""Recipes: Python files with `get_config(arg)` that starts from `default()` and changes fields."""

from collections.abc import Sequence

from absl import flags
from ml_collections import ConfigDict, config_flags

from supclap_jax.config.fields import FIELDS
from supclap_jax.config.python_files import call_in_file
from supclap_jax.config.validation import check_keys, validate
from supclap_jax.config.values import unknown_key
from supclap_jax.errors import ConfigError

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


def read_config(recipe: str, overrides: Sequence[str]) -> ConfigDict:
    """The config of a recipe, `FILE.py[:argument]`, with `--config.key=value` overrides; checked.

    Of several overrides of a key the last one counts. `None` clears an optional field. The recipe's
    folder is put on Python's path: "module:name" in a field may name what lies beside the recipe.

    Raises:
      ConfigError: there is no such recipe, key or value, or the recipe fails.
    """
    config = _run_recipe(recipe)
    check_keys(config)
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
    return config


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
