"""Trained weights as safetensors files under published names."""

from pathlib import Path

import jax
import numpy as np
from safetensors.numpy import save_file

from supclap_jax.console import console, working
from supclap_jax.errors import ConfigError
from supclap_jax.files import replacing
from supclap_jax.models.pretrained import to_layout
from supclap_jax.models.weight_files import SUFFIX
from supclap_jax.models.weight_names import ML_CLAP_NAMES, layouts_named, tower_variables
from supclap_jax.runs.provenance import provenance
from supclap_jax.runs.run import Run
from supclap_jax.runs.states import variables_of


def export_weights(workdir: Path, out: Path, step: int | None, names: str) -> None:
    """Writes the towers of a checkpoint, or the whole dual encoder with the names of "ml-clap".

    The parameters are those that evaluation uses: averaged ones where `evaluate.ema`.

    Args:
      workdir: of the run.
      out: a folder for `audio.safetensors` and `text.safetensors`, or `dual.safetensors`; or, for
        the dual encoder, a file.
      step: of the checkpoint; by default the best on validation.
      names: of the encoders' `layouts`, or "ml-clap"; see `layouts_named`.

    Raises:
      ConfigError: a file exists already, `out` is not what the names need, or the encoders have no
        such names.
      RunError: as `Run.restore`.
    """
    towers = ("dual",) if names == ML_CLAP_NAMES else ("audio", "text")
    if out.suffix != SUFFIX:
        paths = [out / f"{tower}{SUFFIX}" for tower in towers]
    elif len(towers) == 1:
        paths = [out]
    else:
        raise ConfigError(f"--names={names} writes two files; give a folder as --out, not {out}")
    for path in paths:
        if path.exists():
            raise ConfigError(f"{path} exists already; remove it, or choose another --out")

    run = Run(workdir)
    config = run.config
    with working(f"reading {workdir}"):
        step, states = run.restore(step)
    variables = jax.device_get(variables_of(states.dual, config))
    temperature = np.float32(-np.log(config.temperature.initial))
    variables["params"].setdefault("log_logit_scale", temperature)
    for path, layout in zip(paths, layouts_named(names, config, variables), strict=True):
        metadata = {
            "format": "pt",  # what the readers of PyTorch and transformers look for
            "producer": "supclap_jax",
            "step": str(step),
            "layout": layout.name,
            "run": str(workdir),
            **{name: value for name, value in provenance(config).items() if value},
            **{f"{tower}.heads": str(config[tower].heads) for tower in layout.heads},
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        with working(f"writing {path}"), replacing(path) as unfinished:
            save_file(
                to_layout(layout, tower_variables(variables, layout.tower)), unfinished, metadata
            )
        left = ", ".join([*layout.leftovers, *layout.constants])
        console.print(f"Written: {path}{left and f' (without {left})'}", soft_wrap=True)
    console.print(f"Checkpoint of step {step}; its tokenizer is {workdir / 'tokenizer.model'}.")
