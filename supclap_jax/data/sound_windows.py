"""Sounds of any length as windows at 16 kHz, read in order and a piece at a time."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import soxr

from supclap_jax.data.audio import LENGTH_TOLERANCE, SAMPLE_RATE, to_mono
from supclap_jax.data.sound_files import (
    HIGHEST_RATE,
    LOWEST_RATE,
    MOST_CHANNELS,
    BadAudio,
    open_whole,
    skip,
)

LOUDEST = 100.0  # where 1 is full scale; what is above is no waveform, or of another unit
CANCELLED = 1e-8  # share of the channels' energy that is left in their mean: 80 dB below


class Window(NamedTuple):
    """A stretch of a sound.

    Attributes:
      start, end: in the sound, in seconds.
      audio: float32 `[samples]`, mono at 16 kHz, nothing padded.
    """

    start: float
    end: float
    audio: np.ndarray


def read_windows(
    sound: Path | bytes | np.ndarray,
    seconds: float,
    hop: float | None = None,
    rate: int = SAMPLE_RATE,
) -> Iterator[Window]:
    """Windows that cover all of a sound; of a shorter one, all of it.

    Never more than a few windows are in memory, decoded; of MP3 the packed file is.

    Args:
      sound: a file, or the bytes of one, of any rate and number of channels (averaged); or samples
        `[frames]` or `[frames, channels]`, floats about [-1, 1] or int16 or int32.
      seconds: length of a window.
      hop: seconds from one to the next, at most a window to hear all; the last one ends with the
        sound. None: as few as cover it, evenly spaced, as evaluation has them.
      rate: of samples, in Hz.

    Raises:
      BadAudio: it is no sound, is cut, empty, not finite or far above full scale, or its channels
        cancel in their mean.
    """
    if isinstance(sound, np.ndarray):
        yield from _windows(_Samples(sound, rate), seconds, hop)
        return
    try:
        with open_whole(sound) as file:
            yield from _windows(file, seconds, hop)
    except soundfile.LibsndfileError as error:
        raise BadAudio(f"it cannot be decoded ({error.error_string})") from None


def starts_of(frames: int, wanted: int, hop: int | None) -> list[int]:
    """First frames of windows of `wanted` frames that cover `frames`."""
    last = max(frames - wanted, 0)
    if hop is not None:
        starts = list(range(0, last + 1, hop))
        return starts if starts[-1] == last else [*starts, last]
    count = max(int(np.ceil(frames / wanted * (1 - LENGTH_TOLERANCE))), 1)
    return [int(min(i / max(count - 1, 1), np.nextafter(1, 0)) * (last + 1)) for i in range(count)]


class _Samples:
    """An array that is read as a file is."""

    def __init__(self, samples: np.ndarray, rate: int):
        if not LOWEST_RATE <= rate <= HIGHEST_RATE:
            raise BadAudio(f"its rate is {rate:,} Hz; expected 1 kHz to 1 MHz")
        if samples.ndim not in (1, 2) or (samples.ndim == 2 and samples.shape[1] > MOST_CHANNELS):
            raise BadAudio(f"its samples are {list(samples.shape)}; expected [frames, channels]")
        if samples.dtype in (np.int16, np.int32):  # as decoders give them
            samples = samples / -float(np.iinfo(samples.dtype).min)
        elif not np.issubdtype(samples.dtype, np.floating):
            raise BadAudio(f"its samples are {samples.dtype}; expected floats, int16 or int32")
        self._left = np.asarray(samples[:, None] if samples.ndim == 1 else samples, np.float32)
        self.frames, self.channels = self._left.shape
        self.samplerate = rate

    def read(self, frames: int, dtype: str, always_2d: bool) -> np.ndarray:
        read, self._left = self._left[:frames], self._left[frames:]
        return read


def _windows(file, seconds: float, hop: float | None) -> Iterator[Window]:
    rate, frames = file.samplerate, file.frames
    if not frames or not file.channels:
        raise BadAudio("it holds no samples")
    wanted = round(seconds * rate)
    starts = starts_of(frames, wanted, None if hop is None else max(round(hop * rate), 1))
    of_channels = of_mean = 0.0
    held, place = np.empty((0, file.channels), np.float32), 0
    for start in starts:
        skip(file, start - place - len(held))
        held, place = held[start - place :], start
        needed = min(wanted, frames - start)
        held = np.concatenate([held, file.read(needed - len(held), "float32", always_2d=True)])
        if len(held) < needed:
            raise BadAudio(f"the file is truncated: {place + len(held):,} of {frames:,} samples")
        if not np.isfinite(held).all():
            raise BadAudio("it holds NaN or infinite samples")
        if held.size and (loudest := float(np.abs(held).max())) > LOUDEST:
            raise BadAudio(f"its samples reach {loudest:.2g}; expected -1 to 1")
        mono = to_mono(held)
        of_channels += float(np.mean(held.astype(np.float64) ** 2))
        of_mean += float(np.mean(mono.astype(np.float64) ** 2))
        if rate != SAMPLE_RATE:
            mono = soxr.resample(mono, rate, SAMPLE_RATE)
        audio = mono[: round(seconds * SAMPLE_RATE)]
        yield Window(start / rate, (start + needed) / rate, audio)
    if file.channels > 1 and of_mean < CANCELLED * of_channels:
        raise BadAudio("its channels cancel each other in their mean; give one of them")


def read_part(sound: Path | bytes, start: float, seconds: float) -> np.ndarray:
    """float32 `[samples]`, mono at 16 kHz, from `start` on; fewer where the sound ends before.

    Raises:
      BadAudio: it is no sound, or is cut.
    """
    try:
        with open_whole(sound) as file:
            skip(file, round(start * file.samplerate))
            held = file.read(round(seconds * file.samplerate), "float32", always_2d=True)
            rate = file.samplerate
    except soundfile.LibsndfileError as error:
        raise BadAudio(f"it cannot be decoded ({error.error_string})") from None
    mono = to_mono(held)
    return mono if rate == SAMPLE_RATE else soxr.resample(mono, rate, SAMPLE_RATE)
