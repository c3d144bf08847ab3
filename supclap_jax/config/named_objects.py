"""Objects that a config names as "module:name", such as a loss or an encoder of the user's own."""

import importlib
from typing import Any

from supclap_jax.errors import ConfigError


def is_reference(value: str) -> bool:
    """Whether a value names an object of a module, not something of this package.

    >>> is_reference("my_losses:decoupled"), is_reference("info_nce")
    (True, False)
    """
    return ":" in value


def resolve(key: str, reference: str) -> Any:
    """The object that the config key `key` names, from a module on the path or beside the recipe.

    Raises:
      ConfigError: there is no such module, it fails, or it has no such name.

    >>> resolve("loss.base", "math:tau")
    6.283185307179586
    """
    module, _, name = reference.partition(":")
    try:
        found = importlib.import_module(module)
    except (Exception, SystemExit) as error:  # a user's module may raise any kind
        raise ConfigError(
            f"{key} is {reference!r}, but {module!r} cannot be imported "
            f"({type(error).__name__}: {error}); expected MODULE:NAME, the module beside the "
            "recipe or in a folder of PYTHONPATH"
        ) from error
    if not hasattr(found, name):
        raise ConfigError(f"{key} is {reference!r}, but module {module!r} has no {name!r}")
    return getattr(found, name)
