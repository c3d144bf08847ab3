"""Embeds training clips and captions with a frozen model, for predictors of radii to look at."""

from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from supclap_jax.console import console, working
from supclap_jax.data.clips import Clips
from supclap_jax.data.opening import load_training
from supclap_jax.data.prepared import PreparedSplit
from supclap_jax.data.reference_embeddings import FILE, write_reference
from supclap_jax.errors import ConfigError, RunError
from supclap_jax.inference.embedder import Embedder
from supclap_jax.inference.model import Model
from supclap_jax.models.dual_encoder import make_model
from supclap_jax.models.tokens import check_languages
from supclap_jax.runs.mesh import batch_sharding, mesh_at_hand
from supclap_jax.runs.provenance import provenance


def embed_reference(model: Model, config: ConfigDict, out: Path) -> None:
    """Writes the reference embeddings of the training clips of `config`.

    A clip is embedded as in evaluation: its beginning, or with `evaluate.long_audio = "windows"`
    all of it.

    Args:
      model: the reference.
      config: of the runs to come.
      out: a folder, new or empty.

    Raises:
      ConfigError: `out` holds something, or the model knows no such languages.
      DataError: as `load_training`.
      RunError: the model's weights cannot be read, or what they give is not finite.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} is not an empty folder; choose another --out")
    languages = config.data.languages
    check_languages(languages, model.config.text.vocab_size)
    clips = load_training(config)
    of_model = model.config.copy_and_resolve_references()
    of_model.evaluate = config.evaluate
    mesh = mesh_at_hand(of_model)
    variables = model.variables(mesh)
    embedder = Embedder(make_model(of_model), model.tokenizer, of_model, batch_sharding(mesh))
    sets = [clips] if isinstance(clips, Clips) else [_sounds_of(split) for split in clips.splits]
    with working(f"embedding {len(clips):,} clips and their captions"):
        audio = np.concatenate([embedder.audio(variables, of_set) for of_set in sets])
        texts = [clips[index].texts for index in range(len(clips))]  # as training draws them
        text, first, columns = _embed_texts(embedder, variables, texts)
    if not (np.isfinite(audio).all() and np.isfinite(text).all()):
        raise RunError(f"{model.name} gives embeddings that are not finite; choose another model")
    write_reference(
        out,
        audio,
        text,
        first,
        {
            "languages": columns,
            "asked": list(languages),
            "clips": clips.fingerprint(),
            "model": model.name,
            "step": model.step,
            **provenance(config),
        },
    )
    size = sum(path.stat().st_size for path in out.glob("*.npy"))
    console.print(
        f"Written: {out / FILE}, {len(audio):,} clips and {len(text):,} captions, "
        f"{size / len(audio):,.0f} bytes a clip.",
        soft_wrap=True,
    )


def _sounds_of(split: PreparedSplit) -> Clips:
    """All clips of a set, whatever languages they have captions in, without these."""
    return PreparedSplit(split.folder, split.split, ()).clips()


def _embed_texts(
    embedder: Embedder, variables: dict, texts: list[dict[str, tuple[str, ...]]]
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """All captions, language by language; the row of each clip's first one; the languages."""
    languages = sorted({language for of_clip in texts for language in of_clip})
    first = np.full((len(texts), len(languages)), -1)
    embedded, rows = [], 0
    for column, language in enumerate(languages):
        counts = np.array([len(of_clip.get(language, ())) for of_clip in texts])
        starts = rows + np.cumsum(counts) - counts
        first[:, column] = np.where(counts > 0, starts, -1)
        captions = [text for of_clip in texts for text in of_clip.get(language, ())]
        embedded.append(embedder.text(variables, captions, language))
        rows += len(captions)
    return np.concatenate(embedded), first, languages
