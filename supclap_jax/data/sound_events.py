"""Sound events synthesised from physics-like parameters.

A kind is either *struck* (it happens one to four times: barks, bells, knocks) or *sustained* (it
fills its time: rain, engines, sirens). Struck sounds are short functions of time; sustained ones
are pulse trains, sweeps or filtered noise. Everything is vectorised numpy.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

PITCH = {"low": 0.62, "high": 1.6}  # factor on every frequency of the event
SPEED = {"slow": 0.55, "fast": 1.8}  # factor on its rate of repetition
LOUDNESS = {"quiet": -31.0, "loud": -17.0}  # dB of full scale, in the loudest 25 ms
MOST = 4  # strikes of one event


@dataclasses.dataclass(frozen=True)
class Event:
    """One sound event of a scene; an attribute that the kind does not have is None.

    Attributes:
        kind: a name from `KINDS`.
        onset: start in seconds from the start of the clip.
        seconds: time that the event may fill.
        number: how often a struck sound happens, 1 to 4; None for a sustained one.
        pitch: "low" or "high".
        speed: "slow" or "fast".
        loudness: "quiet" or "loud"; None for an event in the background.
    """

    kind: str
    onset: float
    seconds: float
    number: int | None = None
    pitch: str | None = None
    speed: str | None = None
    loudness: str | None = None


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


@dataclasses.dataclass(frozen=True)
class Kind:
    """How a kind sounds and which attributes it has.

    Attributes:
        sound: `(rng, voice) -> [samples]`, at any level.
        attributes: those of "pitch" and "speed" that can be told by ear and named naturally.
        spacing: least seconds between two strikes; 0 for a sustained kind.
        ring: seconds until a strike has died away.
    """

    sound: Callable[[np.random.Generator, Voice], np.ndarray]
    attributes: tuple[str, ...] = ()
    spacing: float = 0.0
    ring: float = 0.0

    @property
    def struck(self) -> bool:
        return self.spacing > 0


def synthesize(rng: np.random.Generator, event: Event, rate: int) -> np.ndarray:
    """Returns the event alone: float32 `[samples]` whose loudest 25 ms have an RMS of 1.

    A struck event may ring on beyond `event.seconds`.
    """
    kind = CATALOGUE[event.kind]
    pitch = PITCH.get(event.pitch, 1.0) * 2 ** rng.uniform(-0.25, 0.25)
    speed = SPEED.get(event.speed, 1.0) * 2 ** rng.uniform(-0.25, 0.25)
    if kind.struck:
        sound = _strikes(rng, kind, event, Voice(pitch, speed, kind.ring, rate))
    else:
        sound = _faded(kind.sound(rng, Voice(pitch, speed, event.seconds, rate)), rate)
    return (sound / loudest(sound, rate)).astype(np.float32)


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


def _strikes(rng: np.random.Generator, kind: Kind, event: Event, voice: Voice) -> np.ndarray:
    interval = min(event.seconds / event.number, rng.uniform(1, 2) * kind.spacing)
    slack = event.seconds - (event.number - 1) * interval - kind.spacing
    lead = rng.uniform(0, max(0.0, slack))
    onsets = ((lead + np.arange(event.number) * interval) * voice.rate).astype(int)
    sound = np.zeros(onsets[-1] + voice.samples, np.float32)
    for onset in onsets:
        strike = kind.sound(rng, voice)
        sound[onset : onset + voice.samples] += strike / np.abs(strike).max()
    return sound


def _faded(sound: np.ndarray, rate: int, seconds: float = 0.03) -> np.ndarray:
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


def _band(rng: np.random.Generator, voice: Voice, centre: float, q: float) -> np.ndarray:
    return filtered_noise(rng, voice.samples, voice.rate, lambda f: _peak(f, centre, q) ** 2)


def _resonate(sound: np.ndarray, rate: int, *resonances: tuple[float, float]) -> np.ndarray:
    """Passes `sound` through parallel resonances given as (centre in Hz, quality)."""
    length = fast_length(len(sound))
    frequencies = _frequencies(length, rate)
    gain = sum(_peak(frequencies, centre, q) ** 2 for centre, q in resonances)
    return np.fft.irfft(np.fft.rfft(sound, length) * gain, length)[: len(sound)]


def _phase(frequency: float | np.ndarray, voice: Voice) -> np.ndarray:
    """Radians, float32 `[samples]`, of an oscillator at `frequency` Hz (scalar or per sample)."""
    cycles = np.cumsum(np.broadcast_to(frequency, voice.samples), dtype=np.float64) / voice.rate
    return (2 * np.pi * (cycles % 1)).astype(np.float32)


def _tone(frequency: float | np.ndarray, voice: Voice) -> np.ndarray:
    return np.sin(_phase(frequency, voice))


def _pulses(frequency: float | np.ndarray, voice: Voice, sharpness: float) -> np.ndarray:
    """A periodic pulse with about sqrt(`sharpness`) strong harmonics, without a mean."""
    pulses = np.exp(sharpness * (np.cos(_phase(frequency, voice)) - 1))
    return pulses - pulses.mean()


def _decay(voice: Voice, seconds: float) -> np.ndarray:
    """An exponential that falls by 60 dB in `seconds`."""
    return np.exp(-6.9 * voice.time / seconds)


def _hump(voice: Voice) -> np.ndarray:
    """A smooth rise and fall over the whole length."""
    return np.sqrt(np.sin(np.pi * voice.time / voice.seconds).clip(0))


def _plateau(voice: Voice) -> np.ndarray:
    return _faded(np.ones(voice.samples, np.float32), voice.rate)


def _swell(rng: np.random.Generator, voice: Voice, frequency: float) -> np.ndarray:
    """A sine between 0 and 1 at `frequency` Hz from a random phase."""
    return 0.5 + 0.5 * np.sin(2 * np.pi * (frequency * voice.time + rng.random()))


def _clicks(
    rng: np.random.Generator, voice: Voice, per_second: float, regular: bool = True
) -> np.ndarray:
    """Unit impulses with slightly random heights, evenly spaced or at random times."""
    count = max(1, int(per_second * voice.seconds))
    if regular:
        times = (np.arange(count) + rng.uniform(0.1, 0.2) + rng.uniform(0, 0.1, count)) / per_second
    else:
        times = rng.uniform(0, voice.seconds, count)
    clicks = np.zeros(voice.samples, np.float32)
    heights = rng.uniform(0.7 if regular else 0.3, 1, count)
    clicks[(times * voice.rate).astype(int).clip(0, voice.samples - 1)] = heights
    return clicks


def _grain(voice: Voice, seconds: float) -> Voice:
    return dataclasses.replace(voice, seconds=seconds)


def _dog_bark(rng, voice):
    contour = 1 + 0.35 * np.sin(np.pi * voice.time / voice.seconds)
    throat = _pulses(430 * voice.pitch * contour, voice, 12) + 0.1 * _band(rng, voice, 1500, 0.5)
    mouth = _resonate(throat, voice.rate, (900 * voice.pitch, 2), (2000 * voice.pitch, 3))
    return mouth * _hump(voice) ** 2


def _car_horn(rng, voice):
    pair = [_pulses(f * voice.pitch, voice, 25) for f in (400, 503)]
    return sum(pair) * _plateau(voice)


def _church_bell(rng, voice):
    ratios = (0.5, 1, 1.19, 1.5, 2, 2.66, 3.01, 4.1)
    partials = (
        _tone(420 * voice.pitch * ratio, voice) * _decay(voice, 2.4 / (0.6 + ratio)) / ratio**0.4
        for ratio in ratios
    )
    return sum(partials)


def _door_knock(rng, voice):
    panel = _tone(300 * voice.pitch, voice) + 0.6 * _tone(710 * voice.pitch, voice)
    return panel * _decay(voice, 0.1) + 0.3 * _band(rng, voice, 900 * voice.pitch, 1) * _decay(
        voice, 0.04
    )


def _water_drop(rng, voice):
    bubble = 950 * voice.pitch * (1 + 1.2 * voice.time / voice.seconds)
    return _tone(bubble, voice) * _decay(voice, 0.13) * (1 - np.exp(-voice.time / 0.003))


def _cat_meow(rng, voice):
    course = voice.time / voice.seconds
    throat = _pulses(620 * voice.pitch * (0.85 + 0.4 * np.sin(np.pi * course)), voice, 8)
    closed = _resonate(throat, voice.rate, (900 * voice.pitch, 3))
    opened = _resonate(throat, voice.rate, (1700 * voice.pitch, 3), (3000 * voice.pitch, 4))
    return (closed * course + opened * (1 - course)) * _hump(voice)


def _hand_clap(rng, voice):
    return _band(rng, voice, rng.uniform(1100, 1500), 1) * _decay(voice, 0.09)


def _whistle(rng, voice):
    pea = 1 + 0.04 * np.sin(2 * np.pi * 32 * voice.time)
    blast = _tone(2400 * voice.pitch * pea, voice) * (1 + 0.4 * np.sin(64 * np.pi * voice.time))
    return (blast + 0.1 * _band(rng, voice, 2400 * voice.pitch, 1)) * _plateau(voice)


def _owl_hoot(rng, voice):
    course = voice.time / voice.seconds
    hoot = _tone(390 * voice.pitch * (0.94 + 0.1 * np.sin(np.pi * course)), voice)
    return (hoot + 0.02 * _band(rng, voice, 800, 0.7)) * _hump(voice) ** 2


def _drum_beat(rng, voice):
    skin = _tone(130 * voice.pitch * (1 + 0.8 * np.exp(-voice.time / 0.02)), voice)
    stick = 0.15 * _band(rng, voice, 500 * voice.pitch, 0.5) * _decay(voice, 0.05)
    return skin * _decay(voice, 0.35) + stick


def _frog_croak(rng, voice):
    throat = _pulses(48, voice, 30)
    return _resonate(throat, voice.rate, (750 * voice.pitch, 6), (1900 * voice.pitch, 8)) * _hump(
        voice
    )


def _electronic_beep(rng, voice):
    tone = _tone(1250 * voice.pitch, voice) + 0.3 * _tone(3 * 1250 * voice.pitch, voice)
    return tone * _plateau(voice)


def _rain(rng, voice):
    drops = _resonate(_clicks(rng, voice, 300, regular=False), voice.rate, (4500, 1))
    return _band(rng, voice, 5000, 0.6) + 0.7 * drops / drops.std()


def _footsteps(rng, voice):
    step = _grain(voice, 0.2)
    heel = 2 * _tone(110, step) * _decay(step, 0.12)
    sole = _band(rng, step, 900, 0.6) * _decay(step, 0.16) * _hump(step)
    return convolve(_clicks(rng, voice, 2.4 * voice.speed), heel + 0.8 * sole)


def _engine(rng, voice):
    firing = _pulses(30 * voice.speed * (1 + 0.03 * _swell(rng, voice, 0.7)), voice, 40)
    firing = firing * (1 + 0.3 * rng.standard_normal(voice.samples, dtype=np.float32))
    return _resonate(firing, voice.rate, (220 * voice.pitch, 2), (800 * voice.pitch, 2))


def _birdsong(rng, voice):
    notes = voice.time * 5 * voice.speed
    note, course = notes.astype(int), notes % 1
    count = note[-1] + 1
    start = rng.uniform(0.85, 1.2, count)[note]
    glide = rng.uniform(-0.25, 0.25, count)[note]
    sung = (rng.random(count) < 0.85)[note] * np.sin(np.pi * course) ** 2 * (course < 0.75)
    return _tone(2700 * voice.pitch * (start + glide * course), voice) * sung


def _wind(rng, voice):
    gust = _swell(rng, voice, rng.uniform(0.25, 0.5))
    still = _band(rng, voice, 420 * voice.pitch, 4)
    howling = _band(rng, voice, 620 * voice.pitch, 5)
    return (1 - gust) * still + (0.4 + gust) * howling


def _siren(rng, voice):
    sweep = 2 ** (0.7 * _swell(rng, voice, 1.1 * voice.speed) - 0.35)
    return _pulses(820 * voice.pitch * sweep, voice, 3)


def _sea_waves(rng, voice):
    swell = _swell(rng, voice, 0.5 * voice.speed) ** 2
    return (0.15 + swell) * _band(rng, voice, 700, 0.3) + 0.5 * swell**2 * _band(
        rng, voice, 3000, 0.5
    )


def _ticking_clock(rng, voice):
    tick = _grain(voice, 0.05)
    wheel = _tone(2300 * voice.pitch, tick) + 0.7 * _tone(3700 * voice.pitch, tick)
    return convolve(_clicks(rng, voice, 3.6 * voice.speed), wheel * _decay(tick, 0.035))


def _crickets(rng, voice):
    wings = _swell(rng, voice, 30) ** 2
    chirps = _swell(rng, voice, 2.4 * voice.speed) > 0.45
    return _tone(3900 * voice.pitch, voice) * wings * chirps


def _ringing_telephone(rng, voice):
    ring = (1.3 * voice.speed * voice.time + 0.2) % 1 < 0.6
    hammer = (20 * voice.time) % 1 < 0.5
    gongs = np.where(hammer, _tone(1150 * voice.pitch, voice), _tone(1450 * voice.pitch, voice))
    overtone = 0.4 * _tone(2 * 1450 * voice.pitch, voice)
    return (gongs + overtone) * ring * (1 - 0.5 * ((40 * voice.time) % 1))


def _helicopter(rng, voice):
    blades = np.maximum(_pulses(11 * voice.speed, voice, 10), 0)
    return blades * _band(rng, voice, 160, 0.4) + 0.04 * _tone(2900, voice)


def _crackling_fire(rng, voice):
    flames = _band(rng, voice, 120, 1)
    cracks = _resonate(_clicks(rng, voice, 10 * voice.speed, False), voice.rate, (2600, 2))
    return 0.04 * flames + 1.5 * cracks / np.abs(cracks).max()


def _sawing(rng, voice):
    stroke = (1.7 * voice.speed * voice.time) % 1
    push = np.sin(np.pi * stroke) * (0.45 + 0.55 * ((1.7 * voice.speed * voice.time) % 2 < 1))
    teeth = 1 + 0.8 * np.sin(2 * np.pi * 70 * voice.time)
    return _band(rng, voice, 1900 * voice.pitch, 2) * push**2 * teeth


def _buzzing_bee(rng, voice):
    wander = 1 + 0.06 * _swell(rng, voice, 1.3) + 0.04 * _swell(rng, voice, 3.1)
    near = 0.35 + 0.65 * _swell(rng, voice, 0.6)
    return _pulses(185 * voice.pitch * wander, voice, 60) * near


CATALOGUE: dict[str, Kind] = {
    "dog bark": Kind(_dog_bark, ("pitch",), spacing=0.26, ring=0.18),
    "rain": Kind(_rain),
    "footsteps": Kind(_footsteps, ("speed",)),
    "car horn": Kind(_car_horn, ("pitch",), spacing=0.34, ring=0.26),
    "engine": Kind(_engine, ("pitch", "speed")),
    "birdsong": Kind(_birdsong, ("pitch", "speed")),
    "church bell": Kind(_church_bell, ("pitch",), spacing=0.42, ring=1.2),
    "wind": Kind(_wind, ("pitch",)),
    "door knock": Kind(_door_knock, ("pitch",), spacing=0.22, ring=0.15),
    "siren": Kind(_siren, ("pitch", "speed")),
    "water drop": Kind(_water_drop, ("pitch",), spacing=0.25, ring=0.15),
    "sea waves": Kind(_sea_waves, ("speed",)),
    "cat meow": Kind(_cat_meow, ("pitch",), spacing=0.5, ring=0.42),
    "ticking clock": Kind(_ticking_clock, ("pitch", "speed")),
    "hand clap": Kind(_hand_clap, (), spacing=0.22, ring=0.12),
    "crickets": Kind(_crickets, ("pitch", "speed")),
    "whistle": Kind(_whistle, ("pitch",), spacing=0.36, ring=0.28),
    "ringing telephone": Kind(_ringing_telephone, ("pitch", "speed")),
    "owl hoot": Kind(_owl_hoot, ("pitch",), spacing=0.42, ring=0.34),
    "helicopter": Kind(_helicopter, ("speed",)),
    "drum beat": Kind(_drum_beat, ("pitch",), spacing=0.28, ring=0.4),
    "crackling fire": Kind(_crackling_fire, ("speed",)),
    "frog croak": Kind(_frog_croak, ("pitch",), spacing=0.36, ring=0.26),
    "sawing": Kind(_sawing, ("pitch", "speed")),
    "electronic beep": Kind(_electronic_beep, ("pitch",), spacing=0.26, ring=0.16),
    "buzzing bee": Kind(_buzzing_bee, ("pitch",)),
}

KINDS: tuple[str, ...] = tuple(CATALOGUE)
