"""Writes a trained model into a folder of its own, to use it elsewhere."""

import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from supclap_jax.config import stored
from supclap_jax.console import console, printable, working
from supclap_jax.errors import ConfigError
from supclap_jax.files import is_unfinished
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
    """Writes weights or programs, with config, tokenizer and a model card.

    A kill leaves a hidden folder in `out`, which the next call removes.

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
    if out.exists() and (not out.is_dir() or any(not is_unfinished(x) for x in out.iterdir())):
        raise ConfigError(f"{out} is not an empty folder; choose another --out")
    with working(f"reading {path}"):
        found = find_model(path, step)
        model = LoadedModel(found)
    facts = {
        "format": kind,
        "space": model.space,
        "step": model.step,
        "run": printable(found.name),
        **{name: value for name, value in provenance(found.config).items() if value},
    }
    tokens = language_ids(found.config.text.vocab_size)
    of_languages = {name: tokens[name] for name in model.languages}
    card = model_card(model, kind, of_languages, _recall(path, model.step))
    is_new = not out.exists()
    out.mkdir(parents=True, exist_ok=True)
    for left_by_a_kill in out.iterdir():
        shutil.rmtree(left_by_a_kill) if left_by_a_kill.is_dir() else left_by_a_kill.unlink()
    try:
        with working("writing"), TemporaryDirectory(prefix=".", suffix=".part", dir=out) as part:
            folder = Path(part)
            (folder / CONFIG).write_text(stored.to_json(found.config))
            (folder / TOKENIZER).write_bytes(found.tokenizer.serialized)
            (folder / "README.md").write_text(card, encoding="utf-8")
            (folder / FACTS).write_text(json.dumps(facts, indent=2) + "\n")
            if kind == "safetensors":
                metadata = {name: str(value) for name, value in facts.items()}
                write_weights(model.variables, folder / WEIGHTS, metadata)
            elif kind == "stablehlo":
                write_stablehlo(model, folder)
            else:
                write_onnx(model, folder)
            for file in sorted(folder.iterdir(), key=lambda file: file.name == FACTS):
                file.replace(out / file.name)
    except BaseException:
        if is_new:
            shutil.rmtree(out)
        raise
    console.print(f"Written: {out}, checkpoint of step {model.step}", soft_wrap=True)


def _recall(path: Path, step: int) -> dict[str, dict[str, float]] | None:
    """R@1 on the test split by direction, with its interval, where the run's results are of it."""
    try:
        found = json.loads((path / EVALUATION).read_text())
        if (found["step"], found["made_by"]["split"]) != (step, "test"):
            return None
        return {
            direction: {name: float(of["R@1"][name]) for name in ("value", "low", "high")}
            for direction, of in found["retrieval"].items()
        }
    except (OSError, ValueError, LookupError, TypeError, AttributeError):  # none, or no results
        return None
