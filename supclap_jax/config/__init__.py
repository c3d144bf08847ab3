"""The configuration of a run: its fields, their checks, and the recipes that set them."""

from supclap_jax.config.fields import (
    CHOICES,
    LANGUAGES,
    USED,
    VARIANTS,
    changed_keys,
    default,
    flatten,
    load,
    nearest_key,
    save,
    set_variant,
    validate,
)

__all__ = [
    "CHOICES",
    "LANGUAGES",
    "USED",
    "VARIANTS",
    "changed_keys",
    "default",
    "flatten",
    "load",
    "nearest_key",
    "save",
    "set_variant",
    "validate",
]
