"""Results of an evaluation clip by clip, kept in the folder of a run: what runs are compared by."""

import io
import zipfile
from pathlib import Path

import numpy as np

from supclap_jax.data.clips import Clips
from supclap_jax.errors import RunError
from supclap_jax.evaluate.scoring import Scores
from supclap_jax.files import write_whole

FILE = "per_clip.npz"
METRICS = (
    "R@1_text_to_audio",
    "R@1_audio_to_text",
    "entropy_text_to_audio",
    "entropy_audio_to_text",
)


def per_clip(scores: Scores) -> dict[str, np.ndarray]:
    """The metrics of `METRICS` in the headline language, float64 `[clips]`; {} without retrieval.

    R@1 in percent, of text to audio the mean over a clip's captions; entropies in nats.
    """
    if not scores.retrieval:
        return {}
    found = {}
    for direction, queries in next(iter(scores.retrieval.values()))._asdict().items():
        hits = np.bincount(queries.clip, queries.rank == 1)
        found[f"R@1_{direction}"] = 100.0 * hits / np.bincount(queries.clip)
        if scores.entropy is not None:
            found[f"entropy_{direction}"] = getattr(scores.entropy, direction)
    return found


def write_per_clip(workdir: Path, clips: Clips, scores: Scores) -> None:
    """Puts `per_clip` and the clips' fingerprint into the folder of a run."""
    content = io.BytesIO()
    np.savez(content, fingerprint=clips.fingerprint(), **per_clip(scores))
    write_whole(workdir / FILE, content.getvalue())


def read_per_clip(workdir: Path) -> tuple[str, dict[str, np.ndarray]]:
    """The clips' fingerprint, and what `per_clip` gave.

    Raises:
      RunError: the run has not been evaluated, or the file cannot be read.
    """
    path = workdir / FILE
    try:
        arrays = dict(np.load(path, allow_pickle=False))
        return str(arrays.pop("fingerprint")), arrays
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise RunError(
            f"{path} cannot be read ({type(error).__name__}); run 'supclap evaluate "
            f"--workdir={workdir}'"
        ) from error
