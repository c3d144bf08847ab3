"""How the embeddings of pairs lie on the unit sphere: apart, together, spread out."""

import numpy as np

from supclap_jax.evaluate.retrieval import BLOCK_SIZE, check_embeddings

RANK_EPSILON = 1e-7
UNIFORMITY_SCALE = 2.0


def geometry(audio: np.ndarray, text: np.ndarray) -> dict:
    """Measures of pairs; row i of both is the same clip.

    Args:
      audio: `[clips, dim]`, unit rows.
      text: `[clips, dim]`, unit rows.

    Returns:
      "modality_gap", the distance of the two means (Liang et al., arXiv 2203.02053), from 0;
      "alignment", the mean squared distance of a pair (Wang and Isola, arXiv 2005.10242), 0 to 4;
      "uniformity" of "audio" and "text", of the same source: `log mean exp(-2 |x_i - x_j|^2)` over
      all i != j, from -8 to 0, lower where embeddings are spread more evenly; None of one clip;
      "rank_me" of "audio" and "text", the exponential of the entropy of the singular values' shares
      (Garrido et al., arXiv 2210.02885), 1 to dim.
    """
    audio = check_embeddings("audio", audio).astype(np.float64)
    text = check_embeddings("text", text, dim=audio.shape[1]).astype(np.float64)
    if len(audio) != len(text):
        raise ValueError(f"audio and text must be pairs, got {len(audio)} and {len(text)} rows.")
    towers = {"audio": audio, "text": text}
    return {
        "modality_gap": float(np.linalg.norm(audio.mean(axis=0) - text.mean(axis=0))),
        "alignment": float(np.square(audio - text).sum(axis=1).mean()),
        "uniformity": {tower: _uniformity(rows) for tower, rows in towers.items()},
        "rank_me": {tower: _rank_me(rows) for tower, rows in towers.items()},
    }


def _uniformity(rows: np.ndarray) -> float | None:
    if len(rows) < 2:
        return None
    total = -float(len(rows))  # each row with itself
    for start in range(0, len(rows), BLOCK_SIZE):
        squared_distance = 2 - 2 * rows[start : start + BLOCK_SIZE] @ rows.T
        total += np.exp(-UNIFORMITY_SCALE * squared_distance).sum()
    return float(np.log(total / (len(rows) * (len(rows) - 1))))


def _rank_me(rows: np.ndarray) -> float:
    singular = np.linalg.svd(rows, compute_uv=False)
    share = singular / singular.sum() + RANK_EPSILON
    return float(np.exp(-np.sum(share * np.log(share))))
