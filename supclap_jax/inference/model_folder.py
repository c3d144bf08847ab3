"""A trained model in a folder of its own: weights, config and tokenizer."""

from collections.abc import Callable
from pathlib import Path

import jax
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.sharding import Mesh
from ml_collections import ConfigDict
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from supclap_jax.config import stored
from supclap_jax.console import console, working
from supclap_jax.errors import ConfigError, RunError
from supclap_jax.files import replacing, write_whole
from supclap_jax.runs.provenance import provenance
from supclap_jax.runs.run import Run
from supclap_jax.runs.states import abstract_states, variables_of
from supclap_jax.runs.tokenizer import TOKENIZER

WEIGHTS = "model.safetensors"
CONFIG = "config.json"


def export(workdir: Path, out: Path, step: int | None = None) -> None:
    """Writes a checkpoint as a folder that `find_model` reads.

    The parameters, under the names of this package, are those that evaluation uses: averaged ones
    where `evaluate.ema`.

    Args:
      workdir: of the run.
      out: the folder, which is new or empty.
      step: of the checkpoint; by default the best on validation.

    Raises:
      ConfigError: `out` holds something.
      RunError: as `Run.restore`.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} is not an empty folder; choose another --out")
    run = Run(workdir)
    config, tokenizer = run.config, (run.tokenizer, workdir / TOKENIZER)[1].read_bytes()
    with working(f"reading {workdir}"):
        step, states = run.restore(step)
    variables = jax.device_get(variables_of(states.dual, config))
    metadata = {
        "producer": "supclap_jax",
        "step": str(step),
        "run": str(workdir),
        **{name: value for name, value in provenance(config).items() if value},
    }
    out.mkdir(parents=True, exist_ok=True)
    write_whole(out / CONFIG, stored.to_json(config))
    write_whole(out / TOKENIZER, tokenizer)
    with working("writing the weights"), replacing(out / WEIGHTS) as unfinished:
        save_file(flatten_dict(variables, sep="/"), unfinished, metadata)
    console.print(f"Written: {out}, checkpoint of step {step}", soft_wrap=True)


def read_weights(path: Path, config: ConfigDict) -> tuple[int, Callable[[Mesh], dict]]:
    """The step of an export, and a function that reads its variables onto a mesh.

    Raises:
      RunError: it cannot be read, or is not of this config; of the function likewise.
    """
    try:
        with safe_open(path / WEIGHTS, "numpy") as file:
            step = int((file.metadata() or {})["step"])
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

    return step, read
