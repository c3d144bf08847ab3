"""A PyTorch DataLoader that decodes, crops and resamples: the other side of `input.py`.

Runs in an environment of its own (`pip install torch==2.13.0 numpy soundfile==0.14.0`). Reads one
JSON request a line, `{"files": [...], "seconds": s, "batch": b, "workers": w, "batches": n}`;
answers with `{"clips_per_second": ...}`. Resampling is the windowed sinc of torchaudio's
defaults, with its kernels kept between calls.
"""

import functools
import json
import math
import sys
import time

import numpy as np
import soundfile
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

RATE = 16_000
WIDTH, ROLLOFF = 6, 0.99


@functools.cache
def kernels(old, new):
    """`[new, 1, taps]` for rates without a common factor, and how far they reach to each side."""
    cutoff = min(old, new) * ROLLOFF
    reach = math.ceil(WIDTH * old / cutoff)
    position = torch.arange(-reach, reach + old, dtype=torch.float64) / old
    shift = torch.arange(0, -new, -1, dtype=torch.float64)[:, None] / new
    t = ((shift + position) * cutoff).clamp(-WIDTH, WIDTH)
    taps = torch.sinc(t) * torch.cos(t * math.pi / WIDTH / 2) ** 2 * cutoff / old
    return taps[:, None].float(), reach


def resample(samples, rate):
    factor = math.gcd(rate, RATE)
    old, new = rate // factor, RATE // factor
    taps, reach = kernels(old, new)
    padded = F.pad(samples[None, None], (reach, reach + old))
    strided = F.conv1d(padded, taps, stride=old)
    return strided.transpose(1, 2).reshape(-1)[: math.ceil(new * len(samples) / old)]


class Clips(Dataset):
    def __init__(self, files, seconds):
        self.files, self.seconds = files, seconds

    def __len__(self):
        return 10**9

    def __getitem__(self, index):
        rng = np.random.default_rng(index)
        with soundfile.SoundFile(self.files[rng.integers(len(self.files))]) as file:
            wanted = round(self.seconds * file.samplerate)
            file.seek(int(rng.random() * (max(file.frames - wanted, 0) + 1)))
            samples = file.read(wanted, dtype="float32", always_2d=True)
            samples = torch.from_numpy(samples).mean(dim=1)
            if file.samplerate != RATE:
                samples = resample(samples, file.samplerate)
        clip = torch.zeros(round(self.seconds * RATE))
        clip[: len(samples)] = samples[: len(clip)]
        return clip


def measure(files, seconds, batch, workers, batches):
    torch.set_num_threads(1)
    loader = iter(DataLoader(Clips(files, seconds), batch, num_workers=workers, prefetch_factor=4))
    for _ in range(8 * workers):
        next(loader)
    began = time.perf_counter()
    for _ in range(batches):
        next(loader)
    return {"clips_per_second": batch * batches / (time.perf_counter() - began)}


def check():
    """A tone stays that tone."""
    t = np.arange(44_100) / 44_100
    tone = torch.from_numpy(np.sin(2 * np.pi * 1_000 * t).astype(np.float32))
    expected = np.sin(2 * np.pi * 1_000 * np.arange(RATE) / RATE)
    assert np.abs(resample(tone, 44_100).numpy() - expected)[100:-100].max() < 1e-2


if __name__ == "__main__":
    check()
    for line in sys.stdin:
        print(json.dumps(measure(**json.loads(line))), flush=True)
