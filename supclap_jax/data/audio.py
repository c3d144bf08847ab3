"""Reading audio files: decode with soundfile, resample with soxr, crop or pad; find bad files."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import soundfile
import soxr

SAMPLE_RATE = 16_000
MIN_SAMPLES = 2_400  # 0.15 s: the audio encoder's smallest input, one patch of 16 frames


def read_clip(path: Path, seconds: float, position: float = 0.0) -> tuple[np.ndarray, int]:
    """Reads a mono crop of an audio file at 16 kHz.

    Args:
      path: WAV, FLAC, OGG, MP3 or AIFF, any sample rate, any number of channels (averaged).
      seconds: length of the crop; a shorter file is zero-padded on the right.
      position: in [0, 1), where the crop starts, as a share of what does not fit into it.

    Returns:
      float32 `[round(16000 seconds)]`, and how many of these samples are the clip's own. The zeros
      that fill a clip up to 0.15 s count among them.

    Raises:
      soundfile.LibsndfileError: the file cannot be decoded.
    """
    with soundfile.SoundFile(path) as file:
        wanted = round(seconds * file.samplerate)
        file.seek(int(position * (max(file.frames - wanted, 0) + 1)))
        samples = file.read(wanted, dtype="float32", always_2d=True).mean(axis=1)
        if file.samplerate != SAMPLE_RATE:
            samples = soxr.resample(samples, file.samplerate, SAMPLE_RATE)
    clip = np.zeros(round(seconds * SAMPLE_RATE), np.float32)
    samples = samples[: len(clip)]
    clip[: len(samples)] = samples
    return clip, min(max(len(samples), MIN_SAMPLES), len(clip))


def find_problem(path: Path) -> str | None:
    """Decodes a whole audio file; returns what is wrong with it in a few words, or None."""
    try:
        if path.stat().st_size == 0:
            return "the file is empty"
        if _is_cut_wav(path):
            return "the file is truncated: shorter than its header says"
        with soundfile.SoundFile(path) as file:
            decoded = 0
            for block in file.blocks(blocksize=1 << 18, dtype="float32"):
                if not np.all(np.isfinite(block)):
                    return "it holds NaN or infinite samples"
                decoded += len(block)
            if decoded == 0:
                return "it holds no samples"
            if decoded != file.frames:
                return f"the file is truncated: {decoded} of {file.frames} samples"
    except (soundfile.LibsndfileError, OSError) as error:
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


def _is_cut_wav(path: Path) -> bool:
    """libsndfile reads a cut WAV without complaint, so its RIFF length is checked here."""
    with path.open("rb") as file:
        head = file.read(8)
    if head[:4] != b"RIFF":
        return False
    return len(head) < 8 or int.from_bytes(head[4:8], "little") + 8 > path.stat().st_size
