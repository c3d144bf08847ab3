"""Sound files of any kind: opened, decoded block by block, and looked through for what is wrong."""

import hashlib
import io
import mmap
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import miniaudio
import numpy as np
import soundfile

from supclap_jax.data.containers import Container, inspect

BLOCK = 1 << 16  # frames decoded at once
LOWEST_RATE, HIGHEST_RATE = 1_000, 1_000_000  # Hz
MOST_CHANNELS = 64
LONGEST = 24 * 3600  # seconds
AGREEMENT = 4 / 2**15  # between two decoders of MP3, after clipping ...
OVERSHOOT = 4.0  # ... of what louder music hardly reaches


class BadAudio(ValueError):
    """An audio file that cannot be used; the message says why in a few words."""


class Survey(NamedTuple):
    """What a sound file holds, all of it decoded.

    Attributes:
      frames: samples of each channel.
      seconds: its length.
      peak: the highest magnitude.
      loudest: the channel of most energy.
      digest: SHA-256 of the file.
    """

    frames: int
    seconds: float
    peak: float
    loudest: int
    digest: bytes


class Stream(soundfile.SoundFile):
    """Read in order: seeking after each read, as its parent does, breaks MP3 and Opus there."""

    def seekable(self):
        return False


def open_sound(audio: Path | bytes) -> Stream:
    """Opens a file, or its bytes, under a header that tells its true length.

    Raises:
      soundfile.LibsndfileError: it cannot be decoded.
    """
    data = _mapped(audio)
    return _open(audio, inspect(data, thoroughly=False))


def open_whole(audio: Path | bytes) -> Stream:
    """As `open_sound`, of what says of itself that it is whole.

    Raises:
      BadAudio: as `survey`, but for what only decoding shows.
    """
    try:
        file = _open(audio, _inspected(audio)[1])
    except soundfile.LibsndfileError as error:
        raise _undecodable(error) from None
    except OSError as error:  # such as for want of rights
        raise BadAudio(f"it cannot be read ({error.strerror or error})") from None
    _check_properties(file)
    return file


def survey(audio: Path | bytes) -> Survey:
    """Decodes all of a file.

    Raises:
      BadAudio: the file is no sound, is cut or damaged, or holds no samples or NaN, or is absurd:
        a rate below 1 kHz or above 1 MHz, more than 64 channels, or more than a day.
    """
    try:
        data, container = _inspected(audio)
        with _open(audio, container) as file:
            _check_properties(file)
            return _decode_all(file, container)._replace(digest=hashlib.sha256(data).digest())
    except (soundfile.LibsndfileError, OSError) as error:
        raise _undecodable(error) from None


def _undecodable(error: Exception) -> BadAudio:
    reason = getattr(error, "error_string", "") or "its format is not known"
    return BadAudio(f"it cannot be decoded ({reason})")


def blocks(file: Stream, dtype: str, frames: int | None = None) -> Iterator[np.ndarray]:
    """What there is from here on, or so many frames of it, `[frames, channels]` at a time."""
    left = file.frames if frames is None else frames
    while len(block := file.read(min(BLOCK, left), dtype, always_2d=True)):
        left -= len(block)
        yield block


def skip(file: Stream, frames: int) -> None:
    """Goes on by so many frames, decoding them."""
    while frames > 0:
        frames -= len(file.read(min(frames, BLOCK), "float32", always_2d=True)) or frames


def survey_all(
    paths: Iterable[Path], progress: Callable[[int], None] = lambda done: None
) -> list[Survey | BadAudio]:
    """What each file holds, or why it cannot be used.

    `progress` is called with the number of files looked at so far.
    """
    found = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for one in pool.map(_survey_or_fault, paths):
            found.append(one)
            progress(len(found))
    return found


def _survey_or_fault(path: Path) -> Survey | BadAudio:
    try:
        return survey(path)
    except BadAudio as error:
        return error


def _inspected(audio: Path | bytes) -> tuple[bytes | mmap.mmap, Container]:
    """The bytes of a file, and its structure."""
    if isinstance(audio, Path) and not os.path.isfile(audio):
        raise BadAudio("it is not a file" if os.path.exists(audio) else "there is no such file")
    data = _mapped(audio)
    if not data:
        raise BadAudio("the file is empty")
    container = inspect(data)
    if container.problem:
        raise BadAudio(container.problem)
    return data, container


def _mapped(audio: Path | bytes) -> bytes | mmap.mmap:
    if isinstance(audio, bytes) or not audio.stat().st_size:
        return audio if isinstance(audio, bytes) else b""
    with audio.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _open(audio: Path | bytes, container: Container) -> Stream:
    if container.repaired is not None:
        audio = container.repaired
    if isinstance(audio, bytes):
        return Stream(io.BytesIO(audio))
    return Stream(os.open(audio, os.O_RDONLY))  # without its name, by which a format is guessed


def _check_properties(file: Stream) -> None:
    rate, channels, seconds = file.samplerate, file.channels, file.frames / file.samplerate
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise BadAudio(f"its rate is {rate:,} Hz; expected 1 kHz to 1 MHz")
    if channels > MOST_CHANNELS:
        raise BadAudio(f"it has {channels:,} channels; expected at most {MOST_CHANNELS}")
    if file.subtype.startswith("ALAC"):
        raise BadAudio("it is ALAC, whose damage cannot be told; convert it to FLAC")
    if seconds > LONGEST:
        raise BadAudio(f"it is {seconds / 3600:,.0f} hours long; expected at most a day")


def _decode_all(file: Stream, container: Container) -> Survey:
    digest = hashlib.md5(usedforsecurity=False) if container.digest else None
    bits = {"PCM_S8": 8, "PCM_16": 16, "PCM_24": 24}.get(file.subtype)
    second = _Mp3(container.repaired, file.frames) if container.is_mp3 else None
    is_integer = file.subtype.startswith("PCM")
    frames, peak, energy = 0, 0.0, np.zeros(file.channels)
    for block in blocks(file, "int32" if is_integer else "float32"):
        if digest and bits:
            digest.update(_in_bits(block, bits))
        if not is_integer and not np.all(np.isfinite(block)):
            raise BadAudio("it holds NaN or infinite samples")
        if second:
            _compare(block, second.read(len(block)), frames / file.samplerate)
        samples = block * np.float32(2**-31) if is_integer else block
        frames, peak = frames + len(block), max(peak, samples.max(), -samples.min())
        energy += np.einsum("fc,fc->c", samples, samples)
    if frames == 0:
        raise BadAudio("it holds no samples")
    if peak > (OVERSHOOT if second else 2**24):  # of integers in floating point
        raise BadAudio(f"it reaches {peak:.1f} times full scale: it is damaged")
    if second:
        _compare(np.empty((0, file.channels)), second.read(1), frames / file.samplerate)
    if frames != file.frames:
        raise BadAudio(f"the file is truncated: {frames} of {file.frames} samples")
    if digest and bits and digest.digest() != container.digest:
        raise BadAudio("it is damaged: its samples are not those that its checksum is of")
    seconds, loudest = frames / file.samplerate, int(np.argmax(energy))
    return Survey(frames, seconds, float(peak), loudest, b"")


def _in_bits(block: np.ndarray, bits: int) -> bytes:
    """Samples in the upper bits of int32, as FLAC's checksum sees them."""
    width = bits // 8
    return block.astype("<i4").view(np.uint8).reshape(-1, 4)[:, 4 - width :].tobytes()


def _compare(block: np.ndarray, other: np.ndarray, second: float) -> None:
    """MP3 has no checksums: where two decoders hear different things, it is damaged."""
    is_same = other.shape == block.shape and np.all(
        np.abs(np.clip(block, -1, 1) - np.clip(other, -1, 1)) <= AGREEMENT
    )
    if not is_same:
        raise BadAudio(f"two decoders differ after {second:.1f} s: it is damaged")


class _Mp3:
    """The other decoder of MP3, which begins a decoder's delay earlier where no header tells it."""

    DELAY = 529

    def __init__(self, data: bytes, frames: int):
        self._data = data  # of which the decoder keeps but a pointer
        self._decoder = miniaudio.ffi.new("ma_dr_mp3*")
        found = miniaudio.lib.ma_dr_mp3_init_memory(
            self._decoder, data, len(data), miniaudio.ffi.NULL
        )
        if not found:
            raise BadAudio("it cannot be decoded as MP3")
        self._decoder = miniaudio.ffi.gc(self._decoder, miniaudio.lib.ma_dr_mp3_uninit)
        if miniaudio.lib.ma_dr_mp3_get_pcm_frame_count(self._decoder) == frames + self.DELAY:
            self.read(self.DELAY)

    def read(self, frames: int) -> np.ndarray:
        samples = np.empty((frames, self._decoder.channels), np.float32)
        target = miniaudio.ffi.from_buffer("float[]", samples)
        read = miniaudio.lib.ma_dr_mp3_read_pcm_frames_f32(self._decoder, frames, target)
        return samples[:read]
