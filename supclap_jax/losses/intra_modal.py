"""InfoNCE within each modality: every other audio, and every other text, is a negative."""

import jax

from .info_nce import info_nce


def intra_modal(
    audio: jax.Array, text: jax.Array, logit_scale: jax.Array | float, **options
) -> jax.Array:
    """The mean of `info_nce(audio, audio)` and `info_nce(text, text)`.

    `mean_i log(1 + sum_{j != i} exp(s (x_i.x_j - 1)))` for unit rows x, s = `logit_scale`: each row
    is its own positive, so the loss pushes unlike rows of one modality apart and pulls nothing.
    The support vectors of R = d contrast the same rows, through other gradients (docs/method.md).

    Args:
      audio: float `[batch, dim]`, L2-normalised.
      text: float `[batch, dim]`, L2-normalised.
      logit_scale: scalar or `[1]`, 1 / temperature.
      options: `ids`, `same_id`, `mask`, `weights`, `reduction`, `axis_name` and `block_size`, as of
        `info_nce`.

    Returns:
      float32 scalar (float64 for float64 inputs); or `[batch]`.

    Raises:
      ValueError, TypeError: as `info_nce`.

    >>> import jax.numpy as jnp
    >>> x = jnp.eye(4)
    >>> round(float(intra_modal(x, x, 10.0)), 6)  # log(1 + 3 exp(-10))
    0.000136
    """
    of_each = [info_nce(x, x, logit_scale, **options) for x in (audio, text)]
    return (of_each[0] + of_each[1]) / 2
