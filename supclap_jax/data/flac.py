"""Any sound file as FLAC, the form in which prepared sets store audio."""

import dataclasses
import hashlib
import io
from pathlib import Path

import miniaudio
import numpy as np
import soundfile
import soxr

from supclap_jax.data.audio import SAMPLE_RATE, to_mono
from supclap_jax.data.sound_files import BLOCK, BadAudio, blocks, open_sound, skip, survey

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
    found = survey(audio)
    with open_sound(audio) as file:
        rate, count = file.samplerate, file.channels
        first, frames = _part(found.frames, rate, start, end)
        skip(file, first)
        if form.original and (count > 8 or rate > 655_350):
            raise BadAudio(f"FLAC cannot hold {count} channels at {rate} Hz")
        is_integer = file.subtype.startswith("PCM")
        bits = 16 if file.subtype in ("PCM_16", "PCM_S8", "PCM_U8") else 24
        if file.format in ("MP3", "OGG"):
            bits = 16
        chosen = {"mean": slice(None), "first": slice(1), "loudest": [found.loudest]}[form.channels]
        digest = hashlib.blake2b(f"{rate} {count}".encode(), digest_size=16)
        written, audible, loudest, mono_loudest = hashlib.blake2b(), False, 0.0, 0.0
        flac = io.BytesIO()
        kind = (rate, count, f"PCM_{bits}") if form.original else (SAMPLE_RATE, 1, "PCM_16")
        resampler = soxr.ResampleStream(rate, SAMPLE_RATE, 1)
        stored = {"format": "FLAC", "compression_level": LEVEL}
        with soundfile.SoundFile(flac, "w", *kind, **stored) as out:

            def write(samples):
                nonlocal audible
                written.update(samples.tobytes())
                audible = audible or bool(samples.any())
                out.write(samples)

            for block in blocks(file, "int32" if is_integer else "float64", frames):
                block = (
                    block >> 8 << 8  # of 32 bits the upper 24
                    if is_integer
                    else _to_integers(block / max(1.0, found.peak), bits)
                )
                digest.update((block >> 8).tobytes())
                if form.original:
                    write(block)
                    continue
                samples = (block / 2.0**31).astype(np.float32)
                mono = to_mono(samples[:, chosen])
                loudest = max(loudest, np.abs(samples).max())
                mono_loudest = max(mono_loudest, np.abs(mono).max())
                write(_to_integers(resampler.resample_chunk(mono), 16))
            if not form.original:
                write(_to_integers(resampler.resample_chunk(NOTHING, last=True), 16))
    _check(flac.getvalue(), written.digest())
    silent = ""
    if not audible:
        silent = _silence(found.peak, loudest, mono_loudest, form)
    return Flac(flac.getvalue(), kind[0], frames / rate, digest.hexdigest(), silent)


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


def _silence(peak: float, loudest: float, mono_loudest: float, form: Form) -> str:
    """Why nothing is left, from the magnitudes of the file, of its part, and of what was mono."""
    if peak == 0:
        return "silent"
    if mono_loudest >= 2**-15:
        return "above 8 kHz"
    if loudest < 2**-15:
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


def _to_integers(samples: np.ndarray, bits: int) -> np.ndarray:
    """Samples in [-1, 1], rounded to `bits`, in the upper bits of int32."""
    full = 2.0 ** (bits - 1)
    return np.clip(np.round(samples * full), -full, full - 1).astype(np.int32) << (32 - bits)
