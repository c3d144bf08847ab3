"""Use a trained model.

from supclap_jax.inference import load

model = load("runs/quickstart")
audio = model.encode_audio(["dog.wav", "rain.flac"])
text = model.encode_text(["a dog barks"], language="eng_Latn")
model.similarity(text, audio)
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from supclap_jax.inference.loaded_model import LoadedModel


def load(model: str | Path, step: int | None = None, dtype: str = "float32") -> LoadedModel:
    """A trained model, ready to embed.

    Args:
      model: the folder of a run, or one that `supclap export` wrote, also as
        `hf://OWNER/REPOSITORY` on the Hugging Face Hub.
      step: checkpoint of a run; by default the best on validation.
      dtype: of the computation: "float32" or "bfloat16". Embeddings are float32.

    Raises:
      RunError: there is no such model, or it cannot be read.
      ConfigError: there is no such dtype or step.
    """
    from supclap_jax.inference.loaded_model import LoadedModel
    from supclap_jax.inference.model import find_model

    return LoadedModel(find_model(Path(model), step), dtype)
