"""Writes a trained model into a folder of its own, to use it elsewhere."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

from supclap_jax.config import stored
from supclap_jax.console import console, working
from supclap_jax.errors import ConfigError
from supclap_jax.inference.loaded_model import LoadedModel
from supclap_jax.inference.model import find_model
from supclap_jax.inference.model_card import model_card
from supclap_jax.inference.model_folder import CONFIG, FACTS, WEIGHTS, write_weights
from supclap_jax.inference.onnx_export import write_onnx
from supclap_jax.inference.stablehlo_export import write_stablehlo
from supclap_jax.models.tokens import language_ids
from supclap_jax.runs.provenance import provenance
from supclap_jax.runs.tokenizer import TOKENIZER

EVALUATION = "evaluation.json"


def export(path: Path, out: Path, step: int | None = None, kind: str = "safetensors") -> None:
    """Writes weights or programs, with config, tokenizer and a model card, whole or not at all.

    The parameters are those that evaluation uses: averaged ones where `evaluate.ema`.

    Args:
      path: of a run, or of what this wrote as safetensors.
      out: the folder, which is new or empty.
      step: of the checkpoint; by default the best on validation.
      kind: "safetensors", which `find_model` reads, "stablehlo" or "onnx".

    Raises:
      ConfigError: `out` holds something, or the model cannot be written so.
      RunError: as `find_model`.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} is not an empty folder; choose another --out")
    with working(f"reading {path}"):
        found = find_model(path, step)
        model = LoadedModel(found)
    facts = {
        "format": kind,
        "space": model.space,
        "step": model.step,
        "run": str(path),
        **{name: value for name, value in provenance(found.config).items() if value},
    }
    tokens = language_ids(found.config.text.vocab_size)
    card = model_card(
        model, kind, {name: tokens[name] for name in model.languages}, _evaluation(path, model.step)
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    with (
        working("writing"),
        TemporaryDirectory(prefix=f".{out.name}.", suffix=".part", dir=out.parent) as unfinished,
    ):
        folder = Path(unfinished) / "whole"
        folder.mkdir()
        (folder / CONFIG).write_text(stored.to_json(found.config))
        (folder / TOKENIZER).write_bytes(found.tokenizer.serialized)
        (folder / FACTS).write_text(json.dumps(facts, indent=2) + "\n")
        (folder / "README.md").write_text(card)
        if kind == "safetensors":
            metadata = {name: str(value) for name, value in facts.items()}
            write_weights(model.variables, folder / WEIGHTS, metadata)
        elif kind == "stablehlo":
            write_stablehlo(model, folder)
        else:
            write_onnx(model, folder)
        folder.replace(out)
    console.print(f"Written: {out}, checkpoint of step {model.step}", soft_wrap=True)


def _evaluation(path: Path, step: int) -> dict | None:
    """The run's results on the test split, where they are of this step."""
    try:
        found = json.loads((path / EVALUATION).read_text())
        return found if found["step"] == step and found["retrieval"] else None
    except (OSError, ValueError, KeyError):
        return None
