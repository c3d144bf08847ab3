"""A config as a ConfigDict, and by dotted keys."""

import difflib
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from supclap_jax.config.fields import FIELDS
from supclap_jax.errors import ConfigError


def default() -> ConfigDict:
    """The default of every field. CED-Base and SONAR as in SupCLAP, InfoNCE without SVR."""
    return from_values({})


def from_values(values: Mapping[str, Any]) -> ConfigDict:
    """The config of some values by dotted key, each of its field's type; the rest are defaults."""
    config = ConfigDict()
    for key, field in FIELDS.items():
        *sections, name = key.split(".")
        section = config
        for part in sections:
            if part not in section:
                section[part] = ConfigDict()
            section = section[part]
        section[name] = field.check.typed(values.get(key, field.default))
    return config


def flatten(config: ConfigDict) -> dict[str, object]:
    """All values by dotted key, as JSON knows them (tuples as lists)."""

    def walk(prefix, value):
        if isinstance(value, dict) and prefix not in FIELDS:
            for name, child in value.items():
                yield from walk(f"{prefix}.{name}" if prefix else name, child)
        else:
            yield prefix, list(value) if isinstance(value, tuple) else value

    return dict(walk("", config.to_dict()))


def nearest_key(key: str) -> str | None:
    """The field most like `key`: same last name if there is one, else a close spelling.

    >>> nearest_key("loss.svr.alpa")
    'loss.svr.alpha'
    >>> nearest_key("nosuch")
    """
    leaves = [known for known in FIELDS if known.rsplit(".", 1)[-1] == key.rsplit(".", 1)[-1]]
    close = difflib.get_close_matches(key, leaves or FIELDS, n=1, cutoff=0.0 if leaves else 0.6)
    return next(iter(close), None)


def unknown_key(key: str) -> ConfigError:
    """The error that there is no field of that key."""
    if any(known.startswith(f"{key}.") for known in FIELDS):
        return ConfigError(f"{key!r} is a group of config keys; set one of them, as {key}.KEY")
    near = nearest_key(key)
    hint = f"the nearest known key is {near!r}" if near else "'supclap config' lists all"
    return ConfigError(f"unknown config key {key!r}; {hint}")


def changed_keys(old: ConfigDict, new: ConfigDict) -> list[str]:
    """Keys, apart from those that a resumed run may change, in which two configs differ."""
    old_values, new_values = flatten(old), flatten(new)
    return sorted(
        key
        for key, field in FIELDS.items()
        if not field.resumable and old_values[key] != new_values[key]
    )
