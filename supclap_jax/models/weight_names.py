"""Under which names the weights of a run's encoders are read and written."""

from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from supclap_jax.errors import ConfigError
from supclap_jax.models.key_maps import Layout, own_names
from supclap_jax.models.ml_clap_weights import ML_CLAP
from supclap_jax.models.registry import encoders, has_ml_clap_names

ML_CLAP_NAMES = "ml-clap"


def tower_variables(variables: dict, tower: str) -> dict:
    """The part of the variables of `DualEncoder` that belongs to one encoder, or to "dual": all."""
    if tower == "dual":
        return variables
    return {kind: tree[tower] for kind, tree in variables.items() if tower in tree}


def known_layouts(config: ConfigDict, variables: dict) -> list[Layout]:
    """All that files for a run may have.

    Args:
      config: of the run.
      variables: of `DualEncoder`, arrays or their shapes.
    """
    layouts = []
    for tower, encoder in encoders(config).items():
        layouts += encoder.layouts.values() or [_own_names(config, variables, tower)]
    return [*layouts, ML_CLAP] if has_ml_clap_names(config) else layouts


def layouts_named(names: str, config: ConfigDict, variables: dict) -> list[Layout]:
    """Those of the files that are written under some names: of both encoders, or of one for all.

    Args:
      names: of each encoder's `layouts`, or "ml-clap". An encoder without layouts goes by the names
        of its own parameters.
      config, variables: as for `known_layouts`.

    Raises:
      ConfigError: an encoder has no such names.
    """
    if names == ML_CLAP_NAMES and not has_ml_clap_names(config):
        raise ConfigError(
            f"--names={names} is of ML-CLAP's encoders, 'ced' and 'sonar', but the run's are "
            f"{config.audio.encoder!r} and {config.text.encoder!r}; choose --names=original"
        )
    if names == ML_CLAP_NAMES:
        return [ML_CLAP]
    layouts = []
    for tower, encoder in encoders(config).items():
        if encoder.layouts and names not in encoder.layouts:
            raise ConfigError(
                f"--names={names}, but {tower}.encoder {config[tower].encoder!r} has no such "
                f"names; expected one of {', '.join(encoder.layouts)}"
            )
        layouts.append(encoder.layouts.get(names) or _own_names(config, variables, tower))
    return layouts


def _own_names(config: ConfigDict, variables: dict, tower: str) -> Layout:
    paths = flatten_dict(tower_variables(variables, tower), sep="/")
    return own_names(f"the parameters of {config[tower].encoder}", tower, paths)
