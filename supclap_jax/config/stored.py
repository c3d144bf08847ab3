"""A run's config.json."""

import json
from pathlib import Path

from ml_collections import ConfigDict

from supclap_jax.config.fields import FIELDS
from supclap_jax.config.validation import check_value, validate
from supclap_jax.config.values import flatten, from_values, unknown_key
from supclap_jax.errors import ConfigError


def to_json(config: ConfigDict) -> str:
    """The config as JSON, whose file `load` reads."""
    return json.dumps(config.to_dict(), indent=2) + "\n"


def load(path: Path) -> ConfigDict:
    """Reads what `to_json` gave, locked.

    Fields that are not there take their defaults: they are younger than the file.

    Raises:
      ConfigError: the file cannot be read, or holds no valid config.
    """
    try:
        values = flatten(ConfigDict(json.loads(path.read_text())))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} is not a readable config ({error}); restore it") from error
    except AttributeError as error:  # of what is no object
        raise ConfigError(f"{path} holds no config; restore it") from error
    for key, value in values.items():
        if key not in FIELDS:
            raise unknown_key(key)
        check_value(key, value)
    config = from_values(values)
    validate(config)
    return config.lock()
