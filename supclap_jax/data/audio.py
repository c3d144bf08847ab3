"""Reading audio: decode, resample with soxr, crop or pad; find bad files; store as FLAC."""

import dataclasses
import hashlib
import io
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import miniaudio
import numpy as np
import soundfile
import soxr

SAMPLE_RATE = 16_000
NOTHING = np.zeros(0, np.float32)
BLOCK = 1 << 18  # frames decoded at once
MIN_SAMPLES = 2_400  # 0.15 s: the audio encoder's smallest input, one patch of 16 frames
FLAC_LEVEL = 0.25  # 2 of 8 in FLAC's terms: quick to decode, for it does without long predictors


def read_clip(audio: Path | bytes, seconds: float, position: float = 0.0) -> tuple[np.ndarray, int]:
    """Reads a mono crop of an audio file at 16 kHz.

    Args:
      audio: a WAV, FLAC, OGG, MP3 or AIFF file, or the bytes of a FLAC file; any sample rate, any
        number of channels (averaged). Only the crop is decoded.
      seconds: length of the crop; a shorter file is zero-padded on the right.
      position: in [0, 1), where the crop starts, as a share of what does not fit into it.

    Returns:
      float32 `[round(16000 seconds)]`, and how many of these samples are the clip's own. The zeros
      that fill a clip up to 0.15 s count among them.

    Raises:
      soundfile.LibsndfileError: the file cannot be decoded.
      BadAudio: the bytes cannot be decoded.
    """
    decode = _decode_flac if isinstance(audio, bytes) else _decode_file
    samples, rate = decode(audio, seconds, position)
    samples = _mono(samples)
    if rate != SAMPLE_RATE:
        samples = soxr.resample(samples, rate, SAMPLE_RATE)
    size = round(seconds * SAMPLE_RATE)
    missing = max(size - len(samples), 0)
    clip = np.pad(samples, (0, missing)) if missing else samples[:size]
    return clip, min(max(size - missing, MIN_SAMPLES), size)


def _decode_file(path: Path, seconds: float, position: float) -> tuple[np.ndarray, int]:
    """A crop's samples, float32 `[frames, channels]`, and their rate."""
    with soundfile.SoundFile(path) as file:
        first, count = _crop(file.frames, file.samplerate, seconds, position)
        file.seek(first)
        return file.read(count, dtype="float32", always_2d=True), file.samplerate


def _decode_flac(data: bytes, seconds: float, position: float) -> tuple[np.ndarray, int]:
    """As `_decode_file`, in two thirds of the time or less.

    Damage inside goes unnoticed, unlike missing samples: the hashes of the record tell of it.
    """
    library = miniaudio.lib
    decoder = library.ma_dr_flac_open_memory(data, len(data), miniaudio.ffi.NULL)
    if not decoder:
        raise BadAudio("it is not a FLAC file")
    try:
        rate, channels = decoder.sampleRate, decoder.channels
        first, count = _crop(decoder.totalPCMFrameCount, rate, seconds, position)
        samples = np.empty((count, channels), np.float32)
        target = miniaudio.ffi.from_buffer("float[]", samples)
        found = library.ma_dr_flac_seek_to_pcm_frame(decoder, first)
        decoded = library.ma_dr_flac_read_pcm_frames_f32(decoder, count, target) if found else 0
    finally:
        library.ma_dr_flac_close(decoder)
    if decoded < count:
        raise BadAudio(f"its FLAC data are damaged: {decoded} of {count} samples from {first} on")
    return samples, rate


def _crop(frames: int, rate: int, seconds: float, position: float) -> tuple[int, int]:
    """First frame of a crop, and how many."""
    wanted = round(seconds * rate)
    return int(position * (max(frames - wanted, 0) + 1)), min(wanted, frames)


@dataclasses.dataclass(frozen=True)
class Flac:
    """An audio file as FLAC.

    Attributes:
      data: of the FLAC file.
      sample_rate: Hz.
      duration: seconds.
      digest: of the original's rate, channels and samples, whatever its format; hexadecimal.
      silent: whether all samples are zero.
    """

    data: bytes
    sample_rate: int
    duration: float
    digest: str
    silent: bool


class BadAudio(ValueError):
    """An audio file that cannot be used; the message says why in a few words."""


def to_flac(audio: Path | bytes, original: bool = False) -> Flac:
    """Decodes a whole file, block by block, and stores it as FLAC: mono, 16 kHz, 16 bit.

    If `original`, in its own rate and channels instead. Integer samples are then kept exactly, of
    32 bit the upper 24; floating-point ones are rounded to 24 bit (MP3 and OGG to 16), after
    division by the peak where that is above one. The digest is the same either way.

    Raises:
      BadAudio: the file cannot be decoded, is cut, or holds no samples or NaN.
    """
    if isinstance(audio, Path) and not audio.is_file():
        raise BadAudio("it is not a file" if audio.exists() else "there is no such file")
    problem = find_problem(audio)
    if problem is not None:
        raise BadAudio(problem)
    with _open(audio) as file:
        rate, channels, frames = file.samplerate, file.channels, file.frames
        if original and (channels > 8 or rate > 655_350):
            raise BadAudio(f"FLAC cannot hold {channels} channels at {rate} Hz")
        is_integer = file.subtype.startswith("PCM")
        bits = 16 if file.subtype in ("PCM_16", "PCM_S8", "PCM_U8") else 24
        if file.format in ("MP3", "OGG"):
            bits = 16
        peak = 1.0
        if not is_integer:
            peak = max(1.0, *(np.abs(block).max() for block in file.blocks(BLOCK, dtype="float32")))
            file.seek(0)
        digest = hashlib.blake2b(f"{rate} {channels}".encode(), digest_size=16)
        silent = True
        flac = io.BytesIO()
        form = (rate, channels, f"PCM_{bits}") if original else (SAMPLE_RATE, 1, "PCM_16")
        resampler = soxr.ResampleStream(rate, SAMPLE_RATE, 1)
        stored = {"format": "FLAC", "compression_level": FLAC_LEVEL}
        with soundfile.SoundFile(flac, "w", *form, **stored) as out:
            dtype = "int32" if is_integer else "float64"
            for block in file.blocks(BLOCK, dtype=dtype, always_2d=True):
                if not is_integer:
                    block = _to_integers(block / peak, bits)
                silent = silent and not block.any()
                digest.update((block >> 8).tobytes())
                if original:
                    out.write(block)
                else:
                    mono = resampler.resample_chunk(_mono((block / 2.0**31).astype(np.float32)))
                    out.write(_to_integers(mono, 16))
            if not original:
                out.write(_to_integers(resampler.resample_chunk(NOTHING, last=True), 16))
    return Flac(flac.getvalue(), form[0], frames / rate, digest.hexdigest(), silent)


def find_problem(path: Path | bytes) -> str | None:
    """Decodes a whole audio file; returns what is wrong with it in a few words, or None."""
    try:
        size = len(path) if isinstance(path, bytes) else path.stat().st_size
        if size == 0:
            return "the file is empty"
        if _is_cut(path, size):
            return "the file is truncated: shorter than its header says"
        with _open(path) as file:
            decoded = 0
            for block in file.blocks(BLOCK, dtype="float32"):
                if not np.all(np.isfinite(block)):
                    return "it holds NaN or infinite samples"
                decoded += len(block)
            if decoded == 0:
                return "it holds no samples"
            if decoded != file.frames:
                return f"the file is truncated: {decoded} of {file.frames} samples"
    except (soundfile.LibsndfileError, OSError, ValueError) as error:
        return f"it cannot be decoded ({getattr(error, 'error_string', error)})"
    return None


def find_bad_clips(
    paths: Iterable[Path], progress: Callable[[int], None] = lambda done: None
) -> dict[Path, str]:
    """The files among `paths` with a problem, and the problem of each.

    `progress` is called with the number of files looked at so far.
    """
    bad = {}
    paths = list(paths)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for done, (path, problem) in enumerate(
            zip(paths, pool.map(find_problem, paths), strict=True), 1
        ):
            if problem is not None:
                bad[path] = problem
            progress(done)
    return bad


def _mono(samples: np.ndarray) -> np.ndarray:
    """Mean of the channels of `[frames, channels]`; 30 times as fast as `samples.mean(axis=1)`."""
    return sum(samples.T[1:], samples[:, 0]) / np.float32(samples.shape[1])


def _open(audio: Path | bytes) -> soundfile.SoundFile:
    return soundfile.SoundFile(io.BytesIO(audio) if isinstance(audio, bytes) else audio)


def _to_integers(samples: np.ndarray, bits: int) -> np.ndarray:
    """Samples in [-1, 1], rounded to `bits`, in the upper bits of int32."""
    full = 2.0 ** (bits - 1)
    return np.clip(np.round(samples * full), -full, full - 1).astype(np.int32) << (32 - bits)


def _is_cut(path: Path | bytes, size: int) -> bool:
    """libsndfile reads a cut WAV or AIFF without complaint, so its length is checked here.

    A WAV written into a pipe does not know its length: it says 2^32 - 1.
    """
    if isinstance(path, bytes):
        head = path[:8]
    else:
        with path.open("rb") as file:
            head = file.read(8)
    if head[:4] not in (b"RIFF", b"FORM"):
        return False
    length = int.from_bytes(head[4:8], "little" if head[:4] == b"RIFF" else "big")
    return len(head) < 8 or (length != 2**32 - 1 and length + 8 > size)
