"""CED audio encoder: a vision transformer over log-mel spectrograms."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import Sharding

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

MOMENTUM = 0.99  # share of the old in running statistics

_EPSILON = 1e-6
_kernel_init = nn.initializers.truncated_normal(0.02)


class CED(nn.Module):
    """Consistent Ensemble Distillation encoder (Dinkel et al., 2024, arXiv:2308.11957).

    The 64 mel bins are batch-normalised, cut into patches of 16 x 16, given a position in time and
    in frequency, and passed through pre-norm transformer blocks. Clips longer than `target_length`
    are cut into chunks of that length after the batch normalisation, the last one filled up with
    zeros, and each chunk is encoded on its own. What follows a clip's own frames in a batch plays
    no part: padding is left out of statistics, attention and means, and so are chunks of padding.

    Parameters are float32; `dtype` is the type of the computation. Normalisations compute their
    statistics, and attention its softmax, in float32 whatever the dtype.

    Attributes:
      dim: width of the tokens and of the embedding.
      depth: number of transformer blocks.
      heads: number of attention heads; divides `dim`.
      mlp_ratio: hidden width of the MLP over `dim`.
      target_length: frames in a chunk, of 10 ms each.
      dropout: rate on the embedded patches and on what each layer adds to them; with train only.
      patch_out: share of each clip's patches left out at random; with train only (PaSST's
        unstructured patchout, Koutini et al., 2022, arXiv:2110.05069).
      time_masks: stretches of time that SpecAugment (Park et al., 2019, arXiv:1904.08779) blanks;
        with train only.
      time_mask_frames: the longest of them, in frames.
      freq_masks: bands of frequency that it blanks.
      freq_mask_bins: the widest of them, in mel bins.
      attention: implementation on accelerators; see `transformer.attention`.
      scan_layers: compile one block as a loop rather than each.
      remat, saved, offloaded: what a block keeps for its gradient; see `transformer.blocks`.
      dtype: type of the computation.
      sharding: of the rows of a batch, for the blocks; see `transformer.Block`.
    """

    dim: int
    depth: int
    heads: int
    mlp_ratio: float = 4
    target_length: int = 1012
    dropout: float = 0.0
    patch_out: float = 0.0
    time_masks: int = 0
    time_mask_frames: int = 100
    freq_masks: int = 0
    freq_mask_bins: int = 16
    attention: str = "xla"
    scan_layers: bool = True
    remat: str = "none"
    saved: tuple[str, ...] = ()
    offloaded: tuple[str, ...] = ()
    dtype: jnp.dtype = jnp.float32
    sharding: Sharding | None = None

    def setup(self):
        self.input_norm = nn.BatchNorm(momentum=MOMENTUM, epsilon=1e-5, use_fast_variance=False)
        self.patch_embed = nn.Dense(self.dim, kernel_init=_kernel_init, dtype=self.dtype)
        self.embed_dropout = nn.Dropout(self.dropout)
        position_init = nn.initializers.normal(0.02)
        time_patches = self.target_length // PATCH
        self.time_pos_embed = self.param("time_pos_embed", position_init, (time_patches, self.dim))
        self.freq_pos_embed = self.param("freq_pos_embed", position_init, (FREQ_PATCHES, self.dim))
        self.blocks = transformer.blocks(
            self.depth,
            scan_layers=self.scan_layers,
            remat=self.remat,
            saved=self.saved,
            offloaded=self.offloaded,
            heads=self.heads,
            hidden=int(self.mlp_ratio * self.dim),
            activation=transformer.gelu,
            epsilon=_EPSILON,
            kernel_init=_kernel_init,
            attention=self.attention,
            dropout=self.dropout,
            dtype=self.dtype,
            sharding=self.sharding,
        )
        self.norm = nn.LayerNorm(epsilon=_EPSILON)

    def __call__(
        self, log_mel: jax.Array, frames: jax.Array | None = None, *, train: bool = False
    ) -> jax.Array:
        """Embeds clips: the mean of their tokens.

        Args:
          log_mel: dB, [batch, frames, 64].
          frames: the clips' lengths, int, [batch], at least 16; what follows is padding. None if
            there is none.
          train: normalise by the statistics of the batch, and move the running ones in the
            `batch_stats` collection by 1 % towards them; if that is not mutable, it holds the
            statistics to normalise by. Drop out, which needs a `dropout` rng unless both rates
            are 0.

        Returns:
          Embeddings, float32, [batch, dim]; zero for a clip of fewer than 16 frames.
        """
        tokens, valid = self.tokens(log_mel, frames, train=train)
        if valid is None:
            return tokens.mean(axis=1)
        count = jnp.maximum(valid.sum(axis=1, keepdims=True), 1)
        return tokens.sum(axis=1, where=valid[..., None]) / count

    def tokens(
        self, log_mel: jax.Array, frames: jax.Array | None = None, *, train: bool = False
    ) -> tuple[jax.Array, jax.Array | None]:
        """Tokens after the final norm: for each chunk, frequency by frequency, in order of time.

        With patch-out in training there are fewer of them, in random order within a chunk.

        Args:
          log_mel: dB, [batch, frames, 64].
          frames: as for an embedding.
          train: as for an embedding.

        Returns:
          Tokens, float32, [batch, chunks * 4 * (frames of a chunk // 16), dim], and which of them
          are the clip's own, bool, [batch, tokens], None for all.

        Raises:
          ValueError: if a clip has other than 64 mel bins, or fewer than the 16 frames of a patch.
        """
        batch, length, mels = log_mel.shape
        if mels != MELS:
            raise ValueError(f"log_mel must have {MELS} mel bins, got {mels}")
        if length < PATCH:
            raise ValueError(f"log_mel must have at least {PATCH} frames, got {length}")
        own = None if frames is None else (jnp.arange(length) < frames[:, None])[..., None]
        given = not (train and self.is_mutable_collection("batch_stats"))
        x = self.input_norm(log_mel, use_running_average=given, mask=own)
        x = x if own is None else jnp.where(own, x, 0)
        if train and (self.time_masks or self.freq_masks):
            x = self._spec_augment(x, frames)
        patches = patchify(split_chunks(x, self.target_length))
        x = self._with_positions(transformer.place(self.patch_embed(patches), self.sharding))
        x = x.reshape(x.shape[0], -1, self.dim)
        valid = None
        if frames is not None:
            time = valid_time_patches(frames, length, self.target_length)
            valid = jnp.arange(patches.shape[2]) < time.reshape(-1, 1, 1)
            valid = jnp.broadcast_to(valid, patches.shape[:3]).reshape(x.shape[:2])
        if train and self.patch_out:
            x, valid = leave_out(self.make_rng("dropout"), x, valid, self.patch_out)
        x = self.embed_dropout(x, deterministic=not train)
        x, _ = self.blocks(x, valid, train)
        x = self.norm(x.astype(jnp.float32)).reshape(batch, -1, self.dim)
        return x, None if valid is None else valid.reshape(batch, -1)

    def _spec_augment(self, x: jax.Array, frames: jax.Array | None) -> jax.Array:
        """Blanks parts of normalised clips [batch, frames, mels] with zero, the mean."""
        batch, length, mels = x.shape
        time_key, freq_key = jax.random.split(self.make_rng("dropout"))
        frames = jnp.full(batch, length) if frames is None else frames
        time = random_bands(time_key, frames, length, self.time_masks, self.time_mask_frames)
        bins = jnp.full(batch, mels)
        freq = random_bands(freq_key, bins, mels, self.freq_masks, self.freq_mask_bins)
        return jnp.where(time[:, :, None] | freq[:, None, :], 0, x)

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


def valid_time_patches(frames: jax.Array, length: int, chunk_length: int) -> jax.Array:
    """How many columns of patches are a clip's own, in each chunk of a padded batch.

    A clip of one chunk has as many as its frames fill; one of several has all of them in each of
    its chunks, also in the last, which the zeros that fill it belong to.

    Args:
      frames: the clips' lengths, int, [batch].
      length: frames of the batch.
      chunk_length: most frames in a chunk.

    Returns:
      int, [batch, chunks].
    """
    chunks = -(-length // chunk_length)
    begins = chunk_length * jnp.arange(chunks)
    frames = frames[:, None]
    filled = jax.lax.div(jnp.where(frames > chunk_length, chunk_length, frames), PATCH)
    return jnp.where(begins < frames, filled, 0)


def leave_out(
    key: jax.Array, x: jax.Array, valid: jax.Array | None, share: float
) -> tuple[jax.Array, jax.Array | None]:
    """Leaves out a random share of the tokens of each row, rounded down.

    Args:
      key: of the choice.
      x: tokens, [batch, tokens, dim].
      valid: which of them count, bool, [batch, tokens]; a row loses the share of those. None for
        all.
      share: in [0, 1).

    Returns:
      Tokens, [batch, tokens - int(share * tokens), dim], in random order, and which of them count.
    """
    tokens = x.shape[1]
    score = jax.random.uniform(key, x.shape[:2])
    if valid is not None:
        score = jnp.where(valid, score, 2)
    chosen = jnp.argsort(score, axis=1)[:, : tokens - int(share * tokens)]
    x = jnp.take_along_axis(x, chosen[..., None], axis=1)
    if valid is not None:
        count = valid.sum(axis=1, keepdims=True)
        left = count - jnp.floor(share * count).astype(count.dtype)
        valid = jnp.arange(x.shape[1]) < left
    return x, valid


def random_bands(
    key: jax.Array, lengths: jax.Array, length: int, count: int, widest: int
) -> jax.Array:
    """Marks some bands of random place and width along an axis.

    Args:
      key: of widths and places.
      lengths: how much of the axis counts for each clip, int, [batch].
      length: of the axis.
      count: bands of each clip; they may overlap.
      widest: widths are uniform from 0 to this, or to the clip's length if that is less.

    Returns:
      bool, [batch, length]; False beyond a clip's length.
    """
    width_key, place_key = jax.random.split(key)
    lengths = lengths[:, None]
    shape = (len(lengths), count)
    width = jax.random.randint(width_key, shape, 0, jnp.minimum(widest, lengths) + 1)
    begin = jax.random.randint(place_key, shape, 0, lengths - width + 1)
    place = jnp.arange(length)[:, None]
    inside = (begin[:, None] <= place) & (place < (begin + width)[:, None])
    return jnp.any(inside, axis=2)


def resize_positions(table: jax.Array, length: int) -> jax.Array:
    """Position embeddings for another number of patches: cut, or else stretched.

    A table that is too short is interpolated linearly between the centres of its rows, and constant
    beyond the outer ones, as for an image scaled bilinearly along one axis.

    Args:
      table: [positions, dim].
      length: positions wanted.

    Returns:
      [length, dim].
    """
    if length <= len(table):
        return table[:length]
    return jax.image.resize(table, (length, table.shape[1]), "linear")
