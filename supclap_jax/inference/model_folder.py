"""Weights in the folder of an exported model."""

from collections.abc import Callable
from pathlib import Path

import jax
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.sharding import Mesh
from ml_collections import ConfigDict
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from supclap_jax.errors import RunError
from supclap_jax.files import replacing
from supclap_jax.runs.states import abstract_states

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
FACTS = "export.json"  # format, space, step, and what made them


def read_weights(path: Path, config: ConfigDict) -> tuple[int, str | None, Callable[[Mesh], dict]]:
    """Step and space of an export, and a function that reads its variables onto a mesh.

    Raises:
      RunError: it cannot be read, or is not of this config; of the function likewise.
    """
    try:
        with safe_open(path / WEIGHTS, "numpy") as file:
            metadata = file.metadata() or {}
            step, space = int(metadata["step"]), metadata.get("space")
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise RunError(
            f"{path / WEIGHTS} is not a whole export ({error}); export the model again"
        ) from error

    def read(mesh: Mesh) -> dict:
        state = abstract_states(config, mesh).dual
        abstract = {"params": state.params, "batch_stats": state.batch_stats}
        shapes = flatten_dict(abstract, sep="/")
        with safe_open(path / WEIGHTS, "numpy") as file:
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        others = sorted(set(found) ^ set(shapes)) or [
            name for name, shape in shapes.items() if found[name].shape != shape.shape
        ]
        if others:
            raise RunError(
                f"{path / WEIGHTS} and {CONFIG} are of different models, {others[0]!r} shows; "
                "export the model again"
            )
        values = {
            name: jax.device_put(found[name].astype(shape.dtype), shape.sharding)
            for name, shape in shapes.items()
        }
        return {"params": {}, "batch_stats": {}} | unflatten_dict(values, sep="/")

    return step, space, read


def write_weights(variables: dict, path: Path, metadata: dict[str, str]) -> None:
    """Writes variables under the names of this package, as `read_weights` reads them."""
    with replacing(path) as unfinished:
        save_file(flatten_dict(jax.device_get(variables), sep="/"), unfinished, metadata)
