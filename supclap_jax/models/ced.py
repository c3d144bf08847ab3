"""CED audio encoder: a vision transformer over log-mel spectrograms."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from supclap_jax.models import transformer
from supclap_jax.models.log_mel import MELS

PATCH = 16
FREQ_PATCHES = MELS // PATCH

SIZES = {
    "tiny": dict(dim=192, depth=12, heads=3),
    "mini": dict(dim=256, depth=12, heads=4),
    "small": dict(dim=384, depth=12, heads=6),
    "base": dict(dim=768, depth=12, heads=12),
}

_EPSILON = 1e-6
_kernel_init = nn.initializers.truncated_normal(0.02)


class CED(nn.Module):
    """Consistent Ensemble Distillation encoder (Dinkel et al., 2024, arXiv:2308.11957).

    The 64 mel bins are batch-normalised, cut into patches of 16 x 16, given a position in time and
    in frequency, and passed through pre-norm transformer blocks. Clips longer than `target_length`
    are cut into chunks of that length after the batch normalisation, the last one filled up with
    zeros, and each chunk is encoded on its own.

    Parameters are float32; `dtype` is the type of the computation. Normalisations compute their
    statistics, and attention its softmax, in float32 whatever the dtype.

    Attributes:
      dim: width of the tokens and of the embedding.
      depth: number of transformer blocks.
      heads: number of attention heads; divides `dim`.
      mlp_ratio: hidden width of the MLP over `dim`.
      target_length: frames in a chunk, of 10 ms each.
      scan_layers: compile one block as a loop rather than each.
      remat: what a block keeps for its gradient; see `transformer.blocks`.
      dtype: type of the computation.
    """

    dim: int
    depth: int
    heads: int
    mlp_ratio: float = 4
    target_length: int = 1012
    scan_layers: bool = True
    remat: str = "none"
    dtype: jnp.dtype = jnp.float32

    def setup(self):
        self.input_norm = nn.BatchNorm(momentum=0.99, epsilon=1e-5, use_fast_variance=False)
        self.patch_embed = nn.Dense(self.dim, kernel_init=_kernel_init, dtype=self.dtype)
        position_init = nn.initializers.normal(0.02)
        time_patches = self.target_length // PATCH
        self.time_pos_embed = self.param("time_pos_embed", position_init, (time_patches, self.dim))
        self.freq_pos_embed = self.param("freq_pos_embed", position_init, (FREQ_PATCHES, self.dim))
        self.blocks = transformer.blocks(
            self.depth,
            scan_layers=self.scan_layers,
            remat=self.remat,
            heads=self.heads,
            hidden=int(self.mlp_ratio * self.dim),
            activation=partial(nn.gelu, approximate=False),
            epsilon=_EPSILON,
            kernel_init=_kernel_init,
            dtype=self.dtype,
        )
        self.norm = nn.LayerNorm(epsilon=_EPSILON)

    def __call__(self, log_mel: jax.Array, *, train: bool = False) -> jax.Array:
        """Embeds clips: the mean of their tokens.

        Args:
          log_mel: dB, [batch, frames, 64].
          train: normalise by the statistics of the batch, and move the running ones in the
            `batch_stats` collection, which must then be mutable, by 1 % towards them.

        Returns:
          Embeddings, float32, [batch, dim].
        """
        return self.tokens(log_mel, train=train).mean(axis=1)

    def tokens(self, log_mel: jax.Array, *, train: bool = False) -> jax.Array:
        """Tokens after the final norm: for each chunk, frequency by frequency, in order of time.

        Args:
          log_mel: dB, [batch, frames, 64].
          train: as for an embedding.

        Returns:
          Tokens, float32, [batch, chunks * 4 * (frames of a chunk // 16), dim].

        Raises:
          ValueError: if a clip has other than 64 mel bins, or fewer than the 16 frames of a patch.
        """
        batch, frames, mels = log_mel.shape
        if mels != MELS:
            raise ValueError(f"log_mel must have {MELS} mel bins, got {mels}")
        if frames < PATCH:
            raise ValueError(f"log_mel must have at least {PATCH} frames, got {frames}")
        x = self.input_norm(log_mel, use_running_average=not train)
        x = patchify(split_chunks(x, self.target_length))
        x = self._with_positions(self.patch_embed(x))
        x = x.reshape(x.shape[0], -1, self.dim)
        x, _ = self.blocks(x, None, train)
        return self.norm(x.astype(jnp.float32)).reshape(batch, -1, self.dim)

    def _with_positions(self, patches: jax.Array) -> jax.Array:
        time = self.time_pos_embed[: patches.shape[2]].astype(self.dtype)
        freq = self.freq_pos_embed[:, None].astype(self.dtype)
        return patches + time + freq


def split_chunks(x: jax.Array, length: int) -> jax.Array:
    """Cuts clips longer than `length` frames into chunks, the last one filled up with zeros.

    Args:
      x: [batch, frames, mels].
      length: frames in a chunk.

    Returns:
      [batch * chunks, min(frames, length), mels], the chunks of a clip side by side.
    """
    batch, frames, mels = x.shape
    length = min(frames, length)
    chunks = -(-frames // length)
    x = jnp.pad(x, ((0, 0), (0, chunks * length - frames), (0, 0)))
    return x.reshape(batch * chunks, length, mels)


def patchify(x: jax.Array) -> jax.Array:
    """Cuts [batch, frames, mels] into patches [batch, mels // 16, frames // 16, 16 * 16].

    A patch is flattened time-major, and frames that do not fill one are left out. With the dense
    layer that follows this is a 16 x 16 convolution of stride 16, three times as fast on a CPU.
    """
    batch, frames, mels = x.shape
    time = frames // PATCH
    x = x[:, : time * PATCH].reshape(batch, time, PATCH, mels // PATCH, PATCH)
    return x.transpose(0, 3, 1, 2, 4).reshape(batch, mels // PATCH, time, PATCH * PATCH)
