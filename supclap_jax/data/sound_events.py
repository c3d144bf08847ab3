"""Sound events synthesised from physics-like parameters.

A kind is either *struck* (it happens one to four times: barks, bells, knocks) or *sustained* (it
fills its time: rain, engines, sirens). Struck sounds are short functions of time; sustained ones
are pulse trains, sweeps or filtered noise.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from supclap_jax.data.sound_synthesis import (
    Voice,
    band,
    clicks,
    convolve,
    decay,
    faded,
    hump,
    loudest,
    plateau,
    pulses,
    resonate,
    swell,
    tone,
)

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
        sound = faded(kind.sound(rng, Voice(pitch, speed, event.seconds, rate)), rate)
    return (sound / loudest(sound, rate)).astype(np.float32)


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


def _dog_bark(rng, voice):
    contour = 1 + 0.35 * np.sin(np.pi * voice.time / voice.seconds)
    throat = pulses(430 * voice.pitch * contour, voice, 12) + 0.1 * band(rng, voice, 1500, 0.5)
    mouth = resonate(throat, voice.rate, (900 * voice.pitch, 2), (2000 * voice.pitch, 3))
    return mouth * hump(voice) ** 2


def _car_horn(rng, voice):
    pair = [pulses(f * voice.pitch, voice, 25) for f in (400, 503)]
    return sum(pair) * plateau(voice)


def _church_bell(rng, voice):
    ratios = (0.5, 1, 1.19, 1.5, 2, 2.66, 3.01, 4.1)
    partials = (
        tone(420 * voice.pitch * ratio, voice) * decay(voice, 2.4 / (0.6 + ratio)) / ratio**0.4
        for ratio in ratios
    )
    return sum(partials)


def _door_knock(rng, voice):
    panel = tone(300 * voice.pitch, voice) + 0.6 * tone(710 * voice.pitch, voice)
    return panel * decay(voice, 0.1) + 0.3 * band(rng, voice, 900 * voice.pitch, 1) * decay(
        voice, 0.04
    )


def _water_drop(rng, voice):
    bubble = 950 * voice.pitch * (1 + 1.2 * voice.time / voice.seconds)
    return tone(bubble, voice) * decay(voice, 0.13) * (1 - np.exp(-voice.time / 0.003))


def _cat_meow(rng, voice):
    course = voice.time / voice.seconds
    throat = pulses(620 * voice.pitch * (0.85 + 0.4 * np.sin(np.pi * course)), voice, 8)
    closed = resonate(throat, voice.rate, (900 * voice.pitch, 3))
    opened = resonate(throat, voice.rate, (1700 * voice.pitch, 3), (3000 * voice.pitch, 4))
    return (closed * course + opened * (1 - course)) * hump(voice)


def _hand_clap(rng, voice):
    return band(rng, voice, rng.uniform(1100, 1500), 1) * decay(voice, 0.09)


def _whistle(rng, voice):
    pea = 1 + 0.04 * np.sin(2 * np.pi * 32 * voice.time)
    blast = tone(2400 * voice.pitch * pea, voice) * (1 + 0.4 * np.sin(64 * np.pi * voice.time))
    return (blast + 0.1 * band(rng, voice, 2400 * voice.pitch, 1)) * plateau(voice)


def _owl_hoot(rng, voice):
    course = voice.time / voice.seconds
    hoot = tone(390 * voice.pitch * (0.94 + 0.1 * np.sin(np.pi * course)), voice)
    return (hoot + 0.02 * band(rng, voice, 800, 0.7)) * hump(voice) ** 2


def _drum_beat(rng, voice):
    skin = tone(130 * voice.pitch * (1 + 0.8 * np.exp(-voice.time / 0.02)), voice)
    stick = 0.15 * band(rng, voice, 500 * voice.pitch, 0.5) * decay(voice, 0.05)
    return skin * decay(voice, 0.35) + stick


def _frog_croak(rng, voice):
    throat = pulses(48, voice, 30)
    return resonate(throat, voice.rate, (750 * voice.pitch, 6), (1900 * voice.pitch, 8)) * hump(
        voice
    )


def _electronic_beep(rng, voice):
    beep = tone(1250 * voice.pitch, voice) + 0.3 * tone(3 * 1250 * voice.pitch, voice)
    return beep * plateau(voice)


def _rain(rng, voice):
    drops = resonate(clicks(rng, voice, 300, regular=False), voice.rate, (4500, 1))
    return band(rng, voice, 5000, 0.6) + 0.7 * drops / drops.std()


def _footsteps(rng, voice):
    step = voice.lasting(0.2)
    heel = 2 * tone(110, step) * decay(step, 0.12)
    sole = band(rng, step, 900, 0.6) * decay(step, 0.16) * hump(step)
    return convolve(clicks(rng, voice, 2.4 * voice.speed), heel + 0.8 * sole)


def _engine(rng, voice):
    firing = pulses(30 * voice.speed * (1 + 0.03 * swell(rng, voice, 0.7)), voice, 40)
    firing = firing * (1 + 0.3 * rng.standard_normal(voice.samples, dtype=np.float32))
    return resonate(firing, voice.rate, (220 * voice.pitch, 2), (800 * voice.pitch, 2))


def _birdsong(rng, voice):
    notes = voice.time * 5 * voice.speed
    note, course = notes.astype(int), notes % 1
    count = note[-1] + 1
    start = rng.uniform(0.85, 1.2, count)[note]
    glide = rng.uniform(-0.25, 0.25, count)[note]
    sung = rng.random(count) < 0.85
    sung[0] |= not sung.any()
    envelope = np.sin(np.pi * course) ** 2 * (course < 0.75)
    return tone(2700 * voice.pitch * (start + glide * course), voice) * sung[note] * envelope


def _wind(rng, voice):
    gust = swell(rng, voice, rng.uniform(0.25, 0.5))
    still = band(rng, voice, 420 * voice.pitch, 4)
    howling = band(rng, voice, 620 * voice.pitch, 5)
    return (1 - gust) * still + (0.4 + gust) * howling


def _siren(rng, voice):
    sweep = 2 ** (0.7 * swell(rng, voice, 1.1 * voice.speed) - 0.35)
    return pulses(820 * voice.pitch * sweep, voice, 3)


def _sea_waves(rng, voice):
    surge = swell(rng, voice, 0.5 * voice.speed) ** 2
    return (0.15 + surge) * band(rng, voice, 700, 0.3) + 0.5 * surge**2 * band(
        rng, voice, 3000, 0.5
    )


def _ticking_clock(rng, voice):
    tick = voice.lasting(0.05)
    wheel = tone(2300 * voice.pitch, tick) + 0.7 * tone(3700 * voice.pitch, tick)
    return convolve(clicks(rng, voice, 3.6 * voice.speed), wheel * decay(tick, 0.035))


def _crickets(rng, voice):
    wings = swell(rng, voice, 30) ** 2
    chirps = swell(rng, voice, 2.4 * voice.speed) > 0.45
    return tone(3900 * voice.pitch, voice) * wings * chirps


def _ringing_telephone(rng, voice):
    ring = (1.3 * voice.speed * voice.time + 0.2) % 1 < 0.6
    hammer = (20 * voice.time) % 1 < 0.5
    gongs = np.where(hammer, tone(1150 * voice.pitch, voice), tone(1450 * voice.pitch, voice))
    overtone = 0.4 * tone(2 * 1450 * voice.pitch, voice)
    return (gongs + overtone) * ring * (1 - 0.5 * ((40 * voice.time) % 1))


def _helicopter(rng, voice):
    blades = np.maximum(pulses(11 * voice.speed, voice, 10), 0)
    return blades * band(rng, voice, 160, 0.4) + 0.04 * tone(2900, voice)


def _crackling_fire(rng, voice):
    flames = band(rng, voice, 120, 1)
    cracks = resonate(clicks(rng, voice, 10 * voice.speed, False), voice.rate, (2600, 2))
    return 0.04 * flames + 1.5 * cracks / np.abs(cracks).max()


def _sawing(rng, voice):
    stroke = (1.7 * voice.speed * voice.time) % 1
    push = np.sin(np.pi * stroke) * (0.45 + 0.55 * ((1.7 * voice.speed * voice.time) % 2 < 1))
    teeth = 1 + 0.8 * np.sin(2 * np.pi * 70 * voice.time)
    return band(rng, voice, 1900 * voice.pitch, 2) * push**2 * teeth


def _buzzing_bee(rng, voice):
    wander = 1 + 0.06 * swell(rng, voice, 1.3) + 0.04 * swell(rng, voice, 3.1)
    near = 0.35 + 0.65 * swell(rng, voice, 0.6)
    return pulses(185 * voice.pitch * wander, voice, 60) * near


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
