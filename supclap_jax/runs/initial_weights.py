"""Pretrained weights at the start of a run."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from supclap_jax.console import console
from supclap_jax.errors import ConfigError
from supclap_jax.models.pretrained import Match, match, read
from supclap_jax.models.weight_files import find_weights
from supclap_jax.models.weight_names import known_layouts, tower_variables


def check_weights(config: ConfigDict, state) -> None:
    """Finds, downloads and matches the files that a run is to start from; loads nothing.

    Args:
      config: of the run.
      state: a `TrainState`, or its shapes.

    Raises:
      ConfigError: a file cannot be had or read, or does not fit the model.
    """
    for _ in _matches(config, state):
        pass


def load_weights(config: ConfigDict, state):
    """The `TrainState` with the values of the files that the config names, tensor by tensor.

    A moving average begins at the same values.

    Raises:
      ConfigError: as `check_weights`, or a value is not finite.
    """
    if not (config.pretrained or config.audio.pretrained or config.text.pretrained):
        return state
    variables = flatten_dict({"params": state.params, "batch_stats": state.batch_stats})
    for module, found in _matches(config, state):
        for name, value in read(found):
            collection, *path = name.split("/")
            key = (collection, *module, *path)
            sharding = variables[key].sharding
            variables[key] = jax.make_array_from_callback(value.shape, sharding, value.__getitem__)
        _report(found)
    variables = unflatten_dict(variables)
    params = variables["params"]
    ema = jax.tree.map(jnp.copy, params) if config.ema_decay else {}
    return state.replace(params=params, batch_stats=variables.get("batch_stats", {}), ema=ema)


def _matches(config: ConfigDict, state) -> Iterator[tuple[tuple[str, ...], Match]]:
    """For each file, the path of the module that it fills, and what is in it."""
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    layouts = known_layouts(config, variables)
    for source, tower, module in (
        (config.pretrained, "dual", ()),
        (config.audio.pretrained, "audio", ("audio",)),
        (config.text.pretrained, "text", ("text",)),
    ):
        if source:
            of_tower = tower_variables(variables, tower)
            found = match(find_weights(source), of_tower, tower, layouts)
            _check_heads(config, found)
            yield module, found


def _check_heads(config: ConfigDict, found: Match) -> None:
    for tower, heads_of_width in found.layout.heads.items():
        key = f"{tower}.heads"
        heads = found.metadata.get(key, heads_of_width.get(config[tower].dim))
        if heads is not None and int(heads) != config[tower].heads:
            raise ConfigError(
                f"{key} is {config[tower].heads}, but the weights in {found.path} are of a model "
                f"with {heads}; set it to that"
            )


def _report(found: Match) -> None:
    layout = found.layout
    console.print(f"Start from {found.path}: {layout.name}.", soft_wrap=True)
    left = [f"{pattern} ({why})" for pattern, why in layout.leftovers.items()]
    left += [f"{key} (this run's model has none)" for key in found.left]
    if left:
        console.print(f"Not used, where present: {', '.join(left)}.", soft_wrap=True)
    if layout.notice:
        console.print(layout.notice, soft_wrap=True)
