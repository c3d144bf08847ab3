"""What sounds are made of: tones, pulses, filtered noise, envelopes; vectorised numpy."""

import dataclasses
from collections.abc import Callable

import numpy as np


@dataclasses.dataclass(frozen=True)
class Voice:
    """What a synthesis function needs: factors around 1, a length in seconds, a rate in Hz."""

    pitch: float
    speed: float
    seconds: float
    rate: int

    @property
    def samples(self) -> int:
        return round(self.seconds * self.rate)

    @property
    def time(self) -> np.ndarray:
        """Seconds since the start, float32 `[samples]`."""
        return np.arange(self.samples, dtype=np.float32) / np.float32(self.rate)

    def lasting(self, seconds: float) -> "Voice":
        """The same voice for another time."""
        return dataclasses.replace(self, seconds=seconds)


def loudest(sound: np.ndarray, rate: int) -> float:
    """The RMS of the loudest 25 ms of `sound [samples]`."""
    window = rate // 40
    frames = np.pad(sound, (0, -len(sound) % window)).reshape(-1, window)
    return float(np.sqrt(np.square(frames).mean(axis=1).max()))


def fast_length(samples: int) -> int:
    """The least length with a fast FFT that holds `samples`."""
    return min(m << max(0, int(np.ceil(np.log2(samples / m)))) for m in (1, 3, 5, 9, 15))


def filtered_noise(
    rng: np.random.Generator, samples: int, rate: int, gain: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Gaussian noise, float32 `[samples]`, RMS 1; `gain` maps frequencies in Hz to amplitudes."""
    length = fast_length(samples)
    amplitude = gain(_frequencies(length, rate)).astype(np.float32)
    spectrum = rng.standard_normal(2 * len(amplitude), dtype=np.float32).view(np.complex64)
    noise = np.fft.irfft(spectrum * amplitude, length)[:samples]
    return noise / np.sqrt(np.square(noise).mean())


def convolve(sound: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Linear convolution of `[samples]` with `[taps]`, cut to the length of `sound`."""
    length = fast_length(len(sound) + len(response) - 1)
    product = np.fft.rfft(sound, length) * np.fft.rfft(response, length)
    return np.fft.irfft(product, length)[: len(sound)]


def faded(sound: np.ndarray, rate: int, seconds: float = 0.03) -> np.ndarray:
    """Fades `sound [samples]` in and out, in `seconds` each or half its length."""
    ramp = np.linspace(0, 1, min(round(seconds * rate), len(sound) // 2), dtype=np.float32)
    sound = sound.copy()
    sound[: len(ramp)] *= ramp
    sound[-len(ramp) :] *= ramp[::-1]
    return sound


def _frequencies(length: int, rate: int) -> np.ndarray:
    return np.fft.rfftfreq(length, 1 / rate).astype(np.float32)


def _peak(frequencies: np.ndarray, centre: float, q: float) -> np.ndarray:
    """Amplitude response of a resonance at `centre` Hz with quality `q`."""
    ratio = np.maximum(frequencies, 1) / centre
    return 1 / np.sqrt(1 + np.square(q * (ratio - 1 / ratio)))


def band(rng: np.random.Generator, voice: Voice, centre: float, q: float) -> np.ndarray:
    """Noise around `centre` Hz, the narrower the larger the quality `q`."""
    return filtered_noise(rng, voice.samples, voice.rate, lambda f: _peak(f, centre, q) ** 2)


def resonate(sound: np.ndarray, rate: int, *resonances: tuple[float, float]) -> np.ndarray:
    """Passes `sound` through parallel resonances given as (centre in Hz, quality)."""
    length = fast_length(len(sound))
    frequencies = _frequencies(length, rate)
    gain = sum(_peak(frequencies, centre, q) ** 2 for centre, q in resonances)
    return np.fft.irfft(np.fft.rfft(sound, length) * gain, length)[: len(sound)]


def _phase(frequency: float | np.ndarray, voice: Voice) -> np.ndarray:
    """Radians, float32 `[samples]`, of an oscillator at `frequency` Hz (scalar or per sample)."""
    cycles = np.cumsum(np.broadcast_to(frequency, voice.samples), dtype=np.float64) / voice.rate
    return (2 * np.pi * (cycles % 1)).astype(np.float32)


def tone(frequency: float | np.ndarray, voice: Voice) -> np.ndarray:
    """A sine, float32 `[samples]`, at `frequency` Hz (scalar or per sample)."""
    return np.sin(_phase(frequency, voice))


def pulses(frequency: float | np.ndarray, voice: Voice, sharpness: float) -> np.ndarray:
    """A periodic pulse with about sqrt(`sharpness`) strong harmonics, without a mean."""
    train = np.exp(sharpness * (np.cos(_phase(frequency, voice)) - 1))
    return train - train.mean()


def decay(voice: Voice, seconds: float) -> np.ndarray:
    """An exponential that falls by 60 dB in `seconds`."""
    return np.exp(-6.9 * voice.time / seconds)


def hump(voice: Voice) -> np.ndarray:
    """A smooth rise and fall over the whole length."""
    return np.sqrt(np.sin(np.pi * voice.time / voice.seconds).clip(0))


def plateau(voice: Voice) -> np.ndarray:
    """One, but for short fades at both ends."""
    return faded(np.ones(voice.samples, np.float32), voice.rate)


def swell(rng: np.random.Generator, voice: Voice, frequency: float) -> np.ndarray:
    """A sine between 0 and 1 at `frequency` Hz from a random phase."""
    return 0.5 + 0.5 * np.sin(2 * np.pi * (frequency * voice.time + rng.random()))


def clicks(
    rng: np.random.Generator, voice: Voice, per_second: float, regular: bool = True
) -> np.ndarray:
    """Unit impulses with slightly random heights, evenly spaced or at random times."""
    count = max(1, int(per_second * voice.seconds))
    if regular:
        times = (np.arange(count) + rng.uniform(0.1, 0.2) + rng.uniform(0, 0.1, count)) / per_second
    else:
        times = rng.uniform(0, voice.seconds, count)
    train = np.zeros(voice.samples, np.float32)
    heights = rng.uniform(0.7 if regular else 0.3, 1, count)
    train[(times * voice.rate).astype(int).clip(0, voice.samples - 1)] = heights
    return train
