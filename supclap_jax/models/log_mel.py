"""Log-mel spectrogram: the front end of the CED audio encoder, on the device and in float32."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.custom_partitioning import custom_partitioning

from supclap_jax.models.encoder import SAMPLE_RATE

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
    waveform = waveform.astype(jnp.float32)
    if samples is None:
        samples = jnp.full(waveform.shape[0], waveform.shape[1])
    if isinstance(waveform.shape[0], int):
        mel = jax.lax.platform_dependent(
            waveform, samples, cpu=_mel_by_fft, default=_mel_by_convolution
        )
    else:  # a symbolic batch, of a program for any platform
        mel = _mel_by_convolution(waveform, samples)
    decibels = 10 * jnp.log10(jnp.maximum(mel, MIN_POWER))
    valid = HOP * jnp.arange(decibels.shape[1]) <= samples[:, None]
    axes = (1, 2) if clamp == "clip" else None
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


def _mel_by_convolution(waveform: jax.Array, samples: jax.Array) -> jax.Array:
    """mel @ |STFT|^2, [batch, frames, 64]; hops of the waveform are a convolution's channels."""
    padded = _reflect(waveform, samples)
    hops = frame_count(waveform.shape[1]) - 1 + _HOPS_PER_WINDOW
    padded = jnp.pad(padded, ((0, 0), (0, max(0, hops * HOP - padded.shape[1]))))
    spectrum = jax.lax.conv_general_dilated(
        padded[:, : hops * HOP].reshape(-1, hops, HOP),
        _windowed_fourier_basis(),
        window_strides=(1,),
        padding="VALID",
        dimension_numbers=("NWC", "WIO", "NWC"),
        precision=jax.lax.Precision.HIGHEST,
    )
    power = spectrum[..., :_BINS] ** 2 + spectrum[..., _BINS:] ** 2
    return jnp.matmul(power, mel_filterbank(), precision=jax.lax.Precision.HIGHEST)


def _reflect(waveform: jax.Array, samples: jax.Array) -> jax.Array:
    """Mirrors half a window at both ends of each clip, then zeros; [batch, samples + 512]."""
    edge = WINDOW // 2
    padded = jnp.pad(waveform, ((0, 0), (0, edge)))
    padded = jnp.concatenate([waveform[:, edge:0:-1], padded], axis=1)

    def mirror_end(clip, length):
        end = edge + length
        mirrored = jax.lax.dynamic_slice(clip, (length - 1,), (edge,))[::-1]
        blank = jnp.zeros_like(clip)
        moved = jnp.concatenate([blank, mirrored, blank])
        moved = jax.lax.dynamic_slice(moved, (len(clip) - end,), (len(clip),))
        return jnp.where(jnp.arange(len(clip)) < end, clip, moved)

    return jax.vmap(mirror_end)(padded, samples)


@jax.custom_vjp
def _mel_by_fft(waveform: jax.Array, samples: jax.Array) -> jax.Array:
    """As by convolution, on each device its own clips; on a CPU in half the time."""
    return _partitioned_by_fft(waveform, samples, hann_window(), mel_filterbank())


_mel_by_fft.defvjp(
    lambda *clips: (_mel_by_fft(*clips), clips),
    lambda clips, cotangent: jax.vjp(_mel_by_convolution, *clips)[1](cotangent),
)


def _clips_by_fft(
    waveform: jax.Array, samples: jax.Array, window: jax.Array, filterbank: jax.Array
) -> jax.Array:
    """A few clips at a time, whose frames stay in the cache."""
    starts = HOP * jnp.arange(frame_count(waveform.shape[1])) - WINDOW // 2
    places = jnp.abs(starts[:, None] + jnp.arange(WINDOW))

    def clip(waveform, length):
        mirrored = jnp.where(places < length, places, 2 * (length - 1) - places)
        spectrum = jnp.fft.rfft(waveform.at[mirrored].get(mode="clip") * window)
        power = spectrum.real**2 + spectrum.imag**2
        return jnp.matmul(power, filterbank, precision=jax.lax.Precision.HIGHEST)

    return jax.lax.map(lambda of_clip: clip(*of_clip), (waveform, samples), batch_size=2)


# By itself XLA would gather the whole batch onto every device, for the FFT and for the loop.
_partitioned_by_fft = custom_partitioning(_clips_by_fft)
_partitioned_by_fft.def_partition(
    partition=lambda mesh, arguments, result: (
        mesh,
        _clips_by_fft,
        result.sharding,
        tuple(argument.sharding for argument in arguments),
    ),
    sharding_rule="batch sample, batch, window, bin mel -> batch frame mel",
    need_replication_factors=("sample", "window", "bin", "mel", "frame"),
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
