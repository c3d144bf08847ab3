"""What can be heard in a sound of 16 kHz: levels, spectra, rhythms."""

import itertools

import numpy as np

RATE = 16_000


def envelope(sound, window=160):
    frames = sound[: len(sound) // window * window].reshape(-1, window)
    return np.sqrt(np.square(frames).mean(axis=1))


def centroid(values, positions):
    return (values * positions).sum() / values.sum()


def spectral_centroid(sound):
    power = np.abs(np.fft.rfft(sound)) ** 2
    frequencies = np.fft.rfftfreq(len(sound), 1 / RATE)
    return np.exp(centroid(power[1:], np.log(frequencies[1:])))


def band_energies(sound):
    power = np.abs(np.fft.rfft(sound)) ** 2
    edges = np.geomspace(50, 8000, 41)
    bands = np.searchsorted(np.fft.rfftfreq(len(sound), 1 / RATE), edges)
    energies = [power[a : max(b, a + 1)].sum() for a, b in itertools.pairwise(bands)]
    profile = np.log(np.array(energies) / np.sum(energies) + 1e-6)
    level = envelope(sound)
    return np.append(profile, 5 * np.log(level.mean() / level.max()))


def onsets(sound, window=RATE // 48):
    level = envelope(sound, window)
    loud, armed, count = 0.4 * level.max(), True, 0
    for value in level:
        if armed and value > loud:
            count, armed = count + 1, False
        armed = armed or value < 0.6 * loud
    return count


def bursts(sound):
    return onsets(sound, 80)


def sweeping(sound):
    """How fast the spectral centroid moves."""
    frames = sound[: len(sound) // 800 * 800].reshape(-1, 800)
    return np.abs(np.diff([np.log(spectral_centroid(frame)) for frame in frames])).mean()
