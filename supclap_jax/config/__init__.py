"""The configuration of a run: its fields, their checks, and the recipes that set them."""

from supclap_jax.config.fields import FIELDS
from supclap_jax.config.language_codes import LANGUAGES, SONAR_LANGUAGES
from supclap_jax.config.recipes import VARIANTS, read_config, set_paper, set_variant
from supclap_jax.config.stored import load, to_json
from supclap_jax.config.validation import validate
from supclap_jax.config.values import changed_keys, default, flatten, nearest_key

__all__ = [
    "FIELDS",
    "LANGUAGES",
    "SONAR_LANGUAGES",
    "VARIANTS",
    "changed_keys",
    "default",
    "flatten",
    "load",
    "nearest_key",
    "read_config",
    "set_paper",
    "set_variant",
    "to_json",
    "validate",
]
