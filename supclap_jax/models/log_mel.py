"""Log-mel spectrogram: the front end of the CED audio encoder, on the device and in float32."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.custom_partitioning import custom_partitioning

SAMPLE_RATE = 16_000
WINDOW = 512
HOP = 160
MELS = 64
DYNAMIC_RANGE_DB = 120.0
MIN_POWER = 1e-10

_BINS = WINDOW // 2 + 1
_HOPS_PER_WINDOW = -(-WINDOW // HOP)


def log_mel(
    waveform: jax.Array, samples: jax.Array | None = None, *, clamp: str = "clip"
) -> jax.Array:
    """Log-mel spectrogram in dB, as CED (Dinkel et al., 2024, arXiv:2308.11957) was trained on.

    dB = 10 log10(max(mel @ |STFT|^2, 1e-10)), raised to at least `maximum - 120`: a centred STFT
    with reflected edges, a periodic Hann window of 512 samples and a hop of 160, then 64 triangular
    mel filters on the HTK scale between 0 and 8000 Hz, without area normalisation.

    A clip's frames do not depend on what follows its end: it is reflected at its own last sample,
    and its maximum is that of its own frames.

    Args:
      waveform: mono audio at 16 kHz, nominally in [-1, 1], [batch, samples].
      samples: the clips' lengths, int, [batch], more than 256; what follows in `waveform` is
        padding. None if there is none.
      clamp: whose maximum the 120 dB count from: each "clip" its own, or the whole "batch" as the
        reference implementation does, where a quiet clip changes with its neighbours.

    Returns:
      dB, float32, [batch, 1 + samples // 160, 64]; frames from 1 + samples[i] // 160 on have no
      meaning.

    Raises:
      ValueError: if `clamp` is another word, or the waveform has another rank or is too short to be
        reflected at its edges.
    """
    if clamp not in ("clip", "batch"):
        raise ValueError(f"clamp must be 'clip' or 'batch', got {clamp!r}")
    if waveform.ndim != 2 or waveform.shape[1] <= WINDOW // 2:
        raise ValueError(
            f"waveform must be [batch, samples] with more than {WINDOW // 2} samples, "
            f"got shape {waveform.shape}"
        )
    mel = _mel_power(_reflect(waveform.astype(jnp.float32), samples))
    decibels = 10 * jnp.log10(jnp.maximum(mel, MIN_POWER))
    axes = (1, 2) if clamp == "clip" else None
    if samples is None:
        loudest = decibels.max(axis=axes, keepdims=True)
    else:
        valid = jnp.arange(decibels.shape[1]) < frame_count(samples)[:, None]
        loudest = decibels.max(axis=axes, keepdims=True, where=valid[..., None], initial=-jnp.inf)
    return jnp.maximum(decibels, loudest - DYNAMIC_RANGE_DB)


def frame_count(samples):
    """Frames of a clip of so many samples: an int, or an array of them."""
    return 1 + samples // HOP


def mel_filterbank() -> np.ndarray:
    """Triangular filters, equally spaced on the HTK scale mel = 2595 log10(1 + Hz / 700).

    Returns:
      float32, [257 frequency bins, 64 mels], each filter with a peak of 1.
    """
    nyquist = SAMPLE_RATE / 2
    edges_mel = np.linspace(0, 2595 * np.log10(1 + nyquist / 700), MELS + 2)
    edges = 700 * (10 ** (edges_mel / 2595) - 1)
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    hertz = np.linspace(0, nyquist, _BINS)[:, None]
    rising = (hertz - left) / (centre - left)
    falling = (right - hertz) / (right - centre)
    return np.maximum(0, np.minimum(rising, falling)).astype(np.float32)


def _reflect(waveform: jax.Array, samples: jax.Array | None) -> jax.Array:
    """Mirrors half a window at both ends of each clip, then zeros; [batch, samples + 512]."""
    edge = WINDOW // 2
    if samples is None:
        return jnp.pad(waveform, ((0, 0), (edge, edge)), mode="reflect")
    padded = jnp.pad(waveform, ((0, 0), (0, edge)))
    padded = jnp.concatenate([waveform[:, edge:0:-1], padded], axis=1)

    def mirror_end(clip, length):
        end = edge + length
        before = jax.lax.dynamic_slice(clip, (end - edge - 1,), (edge,))
        return jax.lax.dynamic_update_slice(clip, before[::-1], (end,))

    mirrored = jax.vmap(mirror_end)(padded, samples)
    return jnp.where(jnp.arange(mirrored.shape[1]) < samples[:, None] + WINDOW, mirrored, 0)


def _mel_power(padded: jax.Array) -> jax.Array:
    """mel @ |STFT|^2 of `padded [batch, samples + 512]`, [batch, frames, 64].

    On a CPU by FFT, which takes about a third of the time there; elsewhere by matrix products.
    """
    length = padded.shape[1]
    hops = (length - WINDOW) // HOP + _HOPS_PER_WINDOW
    padded = jnp.pad(padded, ((0, 0), (0, max(0, hops * HOP - length))))
    blocks = padded[:, : hops * HOP].reshape(-1, hops, HOP)
    return jax.lax.platform_dependent(blocks, cpu=_by_fft, default=_by_convolution)


def _by_convolution(hops: jax.Array) -> jax.Array:
    """[batch, hops - 3, 64] from hops [batch, hops, 160], which are a convolution's channels."""
    spectrum = jax.lax.conv_general_dilated(
        hops,
        _windowed_fourier_basis(),
        window_strides=(1,),
        padding="VALID",
        dimension_numbers=("NWC", "WIO", "NWC"),
        precision=jax.lax.Precision.HIGHEST,
    )
    power = spectrum[..., :_BINS] ** 2 + spectrum[..., _BINS:] ** 2
    return jnp.matmul(power, mel_filterbank(), precision=jax.lax.Precision.HIGHEST)


@jax.custom_vjp
def _by_fft(hops: jax.Array) -> jax.Array:
    """As by convolution, on each device its own clips."""
    return _partitioned_by_fft(hops, hann_window(), mel_filterbank())


_by_fft.defvjp(
    lambda hops: (_by_fft(hops), hops),
    lambda hops, cotangent: jax.vjp(_by_convolution, hops)[1](cotangent),
)


def _clips_by_fft(hops: jax.Array, window: jax.Array, filterbank: jax.Array) -> jax.Array:
    """A few clips at a time, whose frames stay in the cache."""
    starts = HOP * jnp.arange(hops.shape[1] - _HOPS_PER_WINDOW + 1)
    samples = starts[:, None] + jnp.arange(WINDOW)

    def clip(hops):
        spectrum = jnp.fft.rfft(hops.ravel()[samples] * window)
        power = spectrum.real**2 + spectrum.imag**2
        return jnp.matmul(power, filterbank, precision=jax.lax.Precision.HIGHEST)

    return jax.lax.map(clip, hops, batch_size=2)


# By itself XLA would gather the whole batch onto every device, for the FFT and for the loop.
_partitioned_by_fft = custom_partitioning(_clips_by_fft)
_partitioned_by_fft.def_partition(
    partition=lambda mesh, arguments, result: (
        mesh,
        _clips_by_fft,
        result.sharding,
        tuple(argument.sharding for argument in arguments),
    ),
    sharding_rule="batch hop sample, window, bin mel -> batch frame mel",
    need_replication_factors=("hop", "sample", "window", "bin", "mel", "frame"),
)


def hann_window() -> np.ndarray:
    """Periodic Hann window, float32, [512]."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)).astype(np.float32)


def _windowed_fourier_basis() -> np.ndarray:
    """Hann window times [cos | sin], zero beyond the window, [4 hops, 160 samples, 2 * 257]."""
    phase = 2 * np.pi / WINDOW * np.outer(np.arange(WINDOW), np.arange(_BINS))
    basis = hann_window()[:, None] * np.concatenate([np.cos(phase), np.sin(phase)], axis=1)
    basis = np.pad(basis, ((0, _HOPS_PER_WINDOW * HOP - WINDOW), (0, 0)))
    return basis.reshape(_HOPS_PER_WINDOW, HOP, 2 * _BINS).astype(np.float32)
