"""The sounds of an index, to hear and to see."""

import io
from pathlib import Path

import numpy as np
import soundfile

from supclap_jax.data.audio import SAMPLE_RATE
from supclap_jax.data.prepared import is_prepared
from supclap_jax.data.sound_windows import read_part
from supclap_jax.errors import DataError
from supclap_jax.inference.folder_embedder import digest_of, list_sources
from supclap_jax.inference.nearest import Hit
from supclap_jax.inference.sound_index import SoundIndex
from supclap_jax.models.log_mel import HOP, MIN_POWER, WINDOW, hann_window, mel_filterbank

LONGEST = 30.0  # seconds of a sound that are played
RANGE = 80.0  # decibels below the loudest that are drawn
QUIET = 0.0  # what counts as loud in a sound that is quieter


class IndexedSounds:
    """Reads what an index was made of.

    Args:
      index: whose sounds.

    Raises:
      DataError: it is of a prepared set that has changed since.
    """

    def __init__(self, index: SoundIndex):
        source = Path(index.description["source"])
        self._folder = source.parent if source.is_file() else source
        self._clips = None
        if is_prepared(source):
            if digest_of(source) != index.description["digest"]:
                raise DataError(f"{source} holds other clips than {index.folder} was made of")
            self._clips = {clip.path: clip.audio for clip in list_sources(source)[0]}

    def read(self, hit: Hit) -> np.ndarray:
        """The first 30 s of a hit, float32 `[samples]`, mono at 16 kHz.

        Raises:
          BadAudio: it cannot be read any more.
          DataError: what the index says cannot be: a path out of its folder, no such clip, no time.
        """
        if not 0 <= hit.start <= hit.end:
            raise DataError(f"{hit.path!r} has no part from {hit.start} to {hit.end} s")
        if self._clips is None:
            path = Path(hit.path)
            if path.is_absolute() or ".." in path.parts:
                raise DataError(f"{hit.path!r} is not in {self._folder}")
            audio = self._folder / path
        else:
            if hit.path not in self._clips:
                raise DataError(f"there is no clip {hit.path!r} any more")
            split, number = self._clips[hit.path]
            audio = split.record(number)["audio"]
        return read_part(audio, hit.start, min(hit.end - hit.start, LONGEST))


def to_flac(samples: np.ndarray) -> bytes:
    """A file of mono samples at 16 kHz, for a player."""
    file = io.BytesIO()
    soundfile.write(file, np.clip(samples, -1, 1), SAMPLE_RATE, "PCM_16", format="FLAC")
    return file.getvalue()


def spectrogram(samples: np.ndarray) -> bytes:
    """A PNG file of the log-mel spectrogram, 64 pixels high, a pixel for 10 ms."""
    from matplotlib.image import imsave

    padded = np.pad(samples, (0, max(WINDOW - len(samples), 0)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP] * hann_window()
    power = np.abs(np.fft.rfft(frames)) ** 2 @ mel_filterbank()
    decibels = 10 * np.log10(np.maximum(power, MIN_POWER))
    file = io.BytesIO()
    top = max(decibels.max(), QUIET)
    imsave(file, decibels.T, vmin=top - RANGE, vmax=top, cmap="magma", origin="lower", format="png")
    return file.getvalue()
