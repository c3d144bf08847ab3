"""Trained weights as safetensors files under published names."""

import os
from pathlib import Path

import jax
import numpy as np
from safetensors.numpy import save_file

from supclap_jax.console import console
from supclap_jax.errors import ConfigError
from supclap_jax.models import key_maps
from supclap_jax.models.pretrained import to_layout
from supclap_jax.models.weight_files import SUFFIX
from supclap_jax.runs.checkpoints import open_run
from supclap_jax.runs.mesh import make_mesh
from supclap_jax.runs.states import abstract_states, variables_of

NAMES = {
    "original": (key_maps.CED_ORIGINAL, key_maps.SONAR_FAIRSEQ2),
    "huggingface": (key_maps.CED_HUGGINGFACE, key_maps.SONAR_HUGGINGFACE),
    "ml-clap": (key_maps.ML_CLAP,),
}


def export_weights(workdir: Path, out: Path, step: int | None, names: str) -> None:
    """Writes the towers of a checkpoint, or the whole dual encoder with the names of "ml-clap".

    The parameters are those that evaluation uses: averaged ones where `evaluate.ema`.

    Args:
      workdir: of the run.
      out: a folder for `audio.safetensors` and `text.safetensors`, or `dual.safetensors`; or, for
        the dual encoder, a file.
      step: of the checkpoint; by default the best on validation.
      names: a key of `NAMES`.

    Raises:
      ConfigError: there is no such run or checkpoint, or a file exists already.
    """
    layouts = NAMES[names]
    if out.suffix != SUFFIX:
        paths = [out / f"{layout.tower}{SUFFIX}" for layout in layouts]
    elif len(layouts) == 1:
        paths = [out]
    else:
        raise ConfigError(f"--names={names} writes two files; give a folder as --out, not {out}")
    for path in paths:
        if path.exists():
            raise ConfigError(f"{path} exists already; remove it, or choose another --out")

    config, checkpoints, step = open_run(workdir, step)
    state, _ = checkpoints.restore(step, abstract_states(config, make_mesh(1, 1)))
    checkpoints.close()
    variables = jax.device_get(variables_of(state, config))
    params, batch_stats = variables["params"], variables["batch_stats"]
    params.setdefault("log_logit_scale", np.float32(-np.log(config.temperature.initial)))
    modules = {
        "audio": {"params": params["audio"], "batch_stats": batch_stats["audio"]},
        "text": {"params": params["text"]},
        "dual": variables,
    }
    for path, layout in zip(paths, layouts, strict=True):
        metadata = {
            "format": "pt",  # what the readers of PyTorch and transformers look for
            "producer": "supclap_jax",
            "step": str(step),
            "layout": layout.name,
            **{f"{tower}.heads": str(config[tower].heads) for tower in layout.heads},
        }
        _write(path, to_layout(layout, modules[layout.tower]), metadata)
        left = [*layout.leftovers, *layout.constants]
        console.print(f"Written: {path} (without {', '.join(left)})", soft_wrap=True)
    console.print(f"Checkpoint of step {step}; its tokenizer is {workdir / 'tokenizer.model'}.")


def _write(path: Path, tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> None:
    """A reader finds the whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        save_file(tensors, unfinished, metadata)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
