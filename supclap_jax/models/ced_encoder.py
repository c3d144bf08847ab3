"""CED as the audio encoder of a run: its options, front end, statistics, layers and FLOPs."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from supclap_jax.errors import ConfigError
from supclap_jax.models import ced_weights, transformer
from supclap_jax.models.ced import CED, FREQ_PATCHES, MOMENTUM, PATCH
from supclap_jax.models.encoder import SAMPLE_RATE, AudioEncoder, Work
from supclap_jax.models.log_mel import HOP, MELS, WINDOW, frame_count, log_mel
from supclap_jax.models.transformer_flops import GELU, Stack

MIN_SECONDS = 0.15  # one patch: 16 frames of 10 ms, the first of which is centred on the beginning


class CedEncoder(AudioEncoder):
    """The vision transformer over log-mel spectrograms of `ced.CED`."""

    fields = (
        "dim",
        "depth",
        "heads",
        "target_length",
        "dropout",
        "patch_out",
        "time_masks",
        "time_mask_frames",
        "freq_masks",
        "freq_mask_bins",
        "saved",
        "offloaded",
    )
    layouts = ced_weights.LAYOUTS
    momentum = MOMENTUM

    def check(self, config: ConfigDict) -> None:
        audio = config.audio
        transformer.check_heads("audio", audio.dim, audio.heads)
        for key, minimum in (("seconds", MIN_SECONDS), ("target_length", PATCH)):
            if audio[key] < minimum:
                raise ConfigError(
                    f"audio.{key} is {audio[key]}; expected at least {minimum}, one patch of CED"
                )

    def module(self, config: ConfigDict, **options) -> nn.Module:
        return CED(**{name: config.audio[name] for name in self.fields}, **options)

    def frontend(
        self, waveform: jax.Array, lengths: jax.Array | None
    ) -> tuple[jax.Array, jax.Array | None]:
        """Log-mel spectrograms, dB, [batch, frames, 64], and their frames."""
        frames = None if lengths is None else 1 + jax.lax.div(lengths, HOP)
        return log_mel(waveform, lengths), frames

    def moments(
        self, features: jax.Array, lengths: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Number of the clips' own frames; mean and variance over them, of each mel bin."""
        own = (jnp.arange(features.shape[1]) < lengths[:, None])[..., None]
        mean, variance = features.mean((0, 1), where=own), features.var((0, 1), where=own)
        return lengths.sum(), mean, variance

    def pooled(self, moments: tuple[jax.Array, jax.Array, jax.Array]) -> dict:
        """Mean and variance of the union of all parts."""
        frames, means, variances = moments
        share = (frames / frames.sum())[:, None]
        mean = jnp.sum(share * means, axis=0)
        variance = jnp.sum(share * (variances + (means - mean) ** 2), axis=0)
        return {"input_norm": {"mean": mean, "var": variance}}

    def layers_above(
        self, path: tuple[str, ...], leaf: jax.Array, config: ConfigDict
    ) -> int | jax.Array:
        return transformer.layers_above(path, leaf, config.audio.depth)

    def flops(self, config: ConfigDict) -> dict[str, Work]:
        """The front end counts as the convolution it is on accelerators; on a CPU it is an FFT."""
        audio = config.audio
        frames = frame_count(round(audio.seconds * SAMPLE_RATE))
        chunks = -(-frames // audio.target_length)
        patches = FREQ_PATCHES * (min(frames, audio.target_length) // PATCH)  # of a chunk
        rows, hops, bins = config.batch_size * chunks, -(-WINDOW // HOP), WINDOW // 2 + 1
        of_frame = 2 * hops * HOP * 2 * bins + 2 * bins * MELS + 3 * bins
        kept = transformer.kept(config.remat, audio.saved + audio.offloaded)
        blocks = Stack(
            rows=rows,
            tokens=patches - int(audio.patch_out * patches),
            dim=audio.dim,
            depth=audio.depth,
            heads=audio.heads,
            hidden=4 * audio.dim,
            activation=GELU,
            kept=kept,
            held=[name for name in kept if name not in audio.offloaded],
            itemsize=jnp.dtype(config.compute_dtype).itemsize,
        )
        return {
            "front end": Work(config.batch_size * frames * of_frame, learns=False),
            "patch embedding": Work(rows * patches * (2 * PATCH**2 + 3) * audio.dim),
            **blocks.parts("audio"),
        }
