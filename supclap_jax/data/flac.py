"""Any sound file as FLAC, the form in which prepared sets store audio."""

import dataclasses
import hashlib
import io
from collections.abc import Iterable, Iterator
from pathlib import Path

import miniaudio
import numpy as np
import soundfile
import soxr

from supclap_jax.data.audio import SAMPLE_RATE, to_mono
from supclap_jax.data.sound_files import BLOCK, BadAudio, Stream, blocks, open_sound, skip, survey

LEVEL = 0.25  # 2 of 8 in FLAC's terms: quick to decode, for it does without long predictors
BEYOND = 0.1  # seconds by which a clip may end after its file
NOTHING = np.zeros(0, np.float32)


@dataclasses.dataclass(frozen=True)
class Form:
    """How audio is stored.

    Attributes:
      original: in its own rate and channels, not mono at 16 kHz and 16 bit, as training reads it.
      channels: what becomes mono: the "mean" of all, the "first", or the "loudest".
    """

    original: bool = False
    channels: str = "mean"


AS_TRAINING_READS = Form()


@dataclasses.dataclass(frozen=True)
class Flac:
    """An audio file as FLAC.

    Attributes:
      data: of the FLAC file.
      sample_rate: Hz.
      duration: seconds.
      digest: of the original's rate, channels and samples, whatever its format; hexadecimal.
      silent: why all stored samples are zero: "silent" like the file, "channels cancel", or the
        one that was taken is a "silent channel", "above 8 kHz", "below 16 bits"; or "".
    """

    data: bytes
    sample_rate: int
    duration: float
    digest: str
    silent: str


def to_flac(
    audio: Path | bytes,
    form: Form = AS_TRAINING_READS,
    start: float = 0.0,
    end: float | None = None,
) -> Flac:
    """Decodes a file, block by block, and stores it as FLAC.

    In its original form integer samples are kept exactly, of 32 bit the upper 24; floating-point
    ones are rounded to 24 bit (MP3 and OGG to 16), after division by the peak where that is above
    one. The digest does not depend on the form. What was stored is decoded again and compared.

    Args:
      audio: a file, or its bytes.
      form: how to store it.
      start, end: of the part that is stored, in seconds; by default all.

    Raises:
      BadAudio: the file cannot be used, see `survey`, is too short to leave a sample, or does
        not reach from start to end.
    """
    found, flac = survey(audio), io.BytesIO()
    with open_sound(audio) as file:
        rate, channels = file.samplerate, file.channels
        if form.original and (channels > 8 or rate > 655_350):
            raise BadAudio(f"FLAC cannot hold {channels} channels at {rate} Hz")
        is_short = file.subtype in ("PCM_16", "PCM_S8", "PCM_U8") or file.format in ("MP3", "OGG")
        bits = 16 if is_short else 24
        first, frames = _part(found.frames, rate, start, end)
        skip(file, first)
        digest = hashlib.blake2b(f"{rate} {channels}".encode(), digest_size=16)
        pieces, levels = _integers(file, frames, bits, found.peak, digest), _Levels()
        kind = (rate, channels, f"PCM_{bits}")
        if not form.original:
            chosen = {"mean": slice(None), "first": slice(1), "loudest": [found.loudest]}
            pieces = _resampled(pieces, rate, chosen[form.channels], levels)
            kind = (SAMPLE_RATE, 1, "PCM_16")
        written, audible = hashlib.blake2b(), False
        with soundfile.SoundFile(flac, "w", *kind, format="FLAC", compression_level=LEVEL) as out:
            for piece in pieces:
                written.update(piece.tobytes())
                audible = audible or bool(piece.any())
                out.write(piece)
    _check(flac.getvalue(), written.digest())
    silent = "" if audible else _silence(found.peak, levels, form)
    return Flac(flac.getvalue(), kind[0], frames / rate, digest.hexdigest(), silent)


@dataclasses.dataclass
class _Levels:
    """Highest magnitudes, of all channels and of what became mono."""

    all: float = 0.0
    mono: float = 0.0


def _integers(file: Stream, frames: int, bits: int, peak: float, digest) -> Iterator[np.ndarray]:
    """Samples in the upper bits of int32, at most 24 of them, which the digest takes in."""
    is_integer = file.subtype.startswith("PCM")
    for block in blocks(file, "int32" if is_integer else "float64", frames):
        block = block >> 8 << 8 if is_integer else _rounded(block / max(1.0, peak), bits)
        digest.update((block >> 8).tobytes())
        yield block


def _resampled(pieces: Iterable, rate: int, channels, levels: _Levels) -> Iterator[np.ndarray]:
    """The chosen channels' mean at 16 kHz, in the upper 16 bits."""
    resampler = soxr.ResampleStream(rate, SAMPLE_RATE, 1)
    for piece in pieces:
        samples = (piece / 2.0**31).astype(np.float32)
        mono = to_mono(samples[:, channels])
        levels.all = max(levels.all, np.abs(samples).max())
        levels.mono = max(levels.mono, np.abs(mono).max())
        yield _rounded(resampler.resample_chunk(mono), 16)
    yield _rounded(resampler.resample_chunk(NOTHING, last=True), 16)


def _part(frames: int, rate: int, start: float, end: float | None) -> tuple[int, int]:
    """First frame and number of frames of a part; its end may lie a little after the file's."""
    seconds = frames / rate
    for name, time in (("begins", start), ("ends", end or 0.0)):
        if time > seconds + BEYOND:
            raise BadAudio(f"the clip {name} at {time:g} s, but its file ends at {seconds:.2f} s")
    first, last = round(start * rate), frames if end is None else min(round(end * rate), frames)
    if last <= first:
        raise BadAudio("it holds no samples")
    return first, last - first


def _silence(peak: float, levels: _Levels, form: Form) -> str:
    """Why nothing is left of a file with this peak."""
    if peak == 0:
        return "silent"
    if levels.mono >= 2**-15:
        return "above 8 kHz"
    if levels.all < 2**-15:
        return "below 16 bits"
    return "channels cancel" if form.channels == "mean" else "silent channel"


def _check(data: bytes, expected: bytes) -> None:
    """Decodes what was stored, by another library than it was encoded by."""
    library, read, frames = miniaudio.lib, hashlib.blake2b(), 0
    decoder = library.ma_dr_flac_open_memory(data, len(data), miniaudio.ffi.NULL)
    if not decoder:
        raise BadAudio("it is too short: not a sample is left")
    try:
        samples = np.empty((BLOCK, decoder.channels), np.int32)
        target = miniaudio.ffi.from_buffer("int[]", samples)
        while count := library.ma_dr_flac_read_pcm_frames_s32(decoder, BLOCK, target):
            read.update(samples[:count].tobytes())
            frames += count
    finally:
        library.ma_dr_flac_close(decoder)
    if not frames:
        raise BadAudio("it is too short: not a sample is left")
    if read.digest() != expected:
        raise BadAudio("its FLAC cannot be read back as it was written")


def _rounded(samples: np.ndarray, bits: int) -> np.ndarray:
    """Samples in [-1, 1], rounded to `bits`, in the upper bits of int32."""
    full = 2.0 ** (bits - 1)
    return np.clip(np.round(samples * full), -full, full - 1).astype(np.int32) << (32 - bits)
