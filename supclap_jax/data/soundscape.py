"""A procedural soundscape: an endless audio-caption data set that needs no download.

A clip is a pure function of (seed, split, index). Here it is drawn what happens in it;
`soundscape_rendering` turns that into audio, `soundscape_captions` describes it in eight languages,
and `soundscape_files` writes a data set to disk.
"""

import dataclasses
from collections.abc import Iterator
from itertools import count, pairwise

import numpy as np

from supclap_jax.data import splits
from supclap_jax.data.sound_events import CATALOGUE, KINDS, LOUDNESS, MOST, Event

SPLITS = tuple(splits.CLOTHO.values())  # by the names of the layout in which it is written
SCENE_STREAM, WRONG_STREAM, RENDER_STREAM = range(3)  # of a clip's randomness, beside the captions'


@dataclasses.dataclass(frozen=True)
class Soundscape:
    """The configuration of a soundscape.

    Attributes:
        seed: root of all randomness, at least 0.
        seconds: length of a scene, 2 to 10.
        sample_rate: in Hz, 16,000 to 48,000.
        zipf: skew of the event frequencies, at least 0: the kind of rank r in `KINDS` is drawn
            with weight r**-zipf, so 0 is uniform (a background is drawn among sustained kinds).
        wrong_captions: share, 0 to 1, of development scenes whose captions describe another one.
        scenes: in a clip, one after the other; its captions are theirs, in order.
    """

    seed: int = 0
    seconds: float = 4.0
    sample_rate: int = 16_000
    zipf: float = 0.0
    wrong_captions: float = 0.0
    scenes: int = 1

    def __post_init__(self):
        require(self.seed >= 0, "seed", self.seed, "an integer of at least 0")
        require(2 <= self.seconds <= 10, "seconds", self.seconds, "a length from 2 to 10")
        require(
            16_000 <= self.sample_rate <= 48_000,
            "sample_rate",
            self.sample_rate,
            "a rate from 16000 to 48000 Hz",
        )
        require(0 <= self.zipf < np.inf, "zipf", self.zipf, "a finite exponent of at least 0")
        require(
            0 <= self.wrong_captions <= 1,
            "wrong_captions",
            self.wrong_captions,
            "a share from 0 to 1",
        )
        require(1 <= self.scenes <= 100, "scenes", self.scenes, "a number from 1 to 100")

    @property
    def samples(self) -> int:
        """Samples per scene."""
        return round(self.seconds * self.sample_rate)


@dataclasses.dataclass(frozen=True)
class Scene:
    """What happens in one clip.

    Attributes:
        key: (seed, number of the split, index); the root of the clip's randomness.
        events: one to three events, one after the other.
        background: a sustained event under all of them, or None. A scene has at most three events
            with the background counted.
    """

    key: tuple[int, int, int]
    events: tuple[Event, ...]
    background: Event | None = None

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds in order, the background last."""
        background = (self.background,) if self.background else ()
        return tuple(event.kind for event in self.events + background)


def scene(config: Soundscape, split: str, index: int) -> Scene:
    """Draws the scene of one clip, a pure function of (config, split, index).

    A third of the scenes has one event, a third two, a third three; in half of the latter two
    groups the last event is a background.
    """
    require(split in SPLITS, "split", split, f"one of {', '.join(SPLITS)}")
    require(index >= 0, "index", index, "an integer of at least 0")
    return _draw_scene(config, (config.seed, SPLITS.index(split), index))


def described(config: Soundscape, split: str, index: int) -> Scene:
    """Returns the scene that the captions of a clip describe: its own, or a wrong one.

    A wrong scene has other kinds than the clip's own. The clips with wrong captions at a small
    share are a subset of those at a larger share.
    """
    own = scene(config, split, index)
    lot = np.random.default_rng([*own.key, WRONG_STREAM]).random()
    if split != "development" or lot >= config.wrong_captions:
        return own
    others = (_draw_scene(config, (config.seed, place, index)) for place in count(len(SPLITS)))
    return next(other for other in others if set(other.kinds) != set(own.kinds))


def require(holds: bool, name: str, given: object, expected: str) -> None:
    """Raises ValueError, which says what was given and what is expected, unless it `holds`."""
    if not holds:
        raise ValueError(f"{name} is {given!r}; expected {expected}.")


def _draw_scene(config: Soundscape, key: tuple[int, int, int]) -> Scene:
    rng = np.random.default_rng([*key, SCENE_STREAM])
    total = rng.integers(1, 4)
    has_background = total > 1 and rng.random() < 0.5
    kinds = list(KINDS)
    background = None
    if has_background:
        kind = _draw_kind(rng, config.zipf, [k for k in kinds if not CATALOGUE[k].struck])
        kinds.remove(kind)
        background = _draw_event(rng, kind, 0.0, config.seconds, loudness=None)
    events = []
    for onset, seconds in _slots(rng, config.seconds, total - has_background):
        kinds.remove(kind := _draw_kind(rng, config.zipf, kinds))
        events.append(_draw_event(rng, kind, onset, seconds, _either(rng, LOUDNESS)))
    return Scene(key, tuple(events), background)


def _draw_kind(rng: np.random.Generator, zipf: float, kinds: list[str]) -> str:
    ranks = np.array([1.0 + KINDS.index(kind) for kind in kinds])
    weights = (ranks / ranks.min()) ** -zipf
    return kinds[rng.choice(len(kinds), p=weights / weights.sum())]


def _draw_event(
    rng: np.random.Generator, kind: str, onset: float, seconds: float, loudness: str | None
) -> Event:
    attributes = CATALOGUE[kind].attributes
    spacing = CATALOGUE[kind].spacing
    return Event(
        kind=kind,
        onset=onset,
        seconds=seconds,
        number=int(rng.integers(1, _most(seconds, spacing) + 1)) if spacing else None,
        pitch=_either(rng, ("low", "high")) if "pitch" in attributes else None,
        speed=_either(rng, ("slow", "fast")) if "speed" in attributes else None,
        loudness=loudness,
    )


def _most(seconds: float, spacing: float) -> int:
    return int(np.clip(seconds / spacing, 1, MOST))


def _either(rng: np.random.Generator, options) -> str:
    return tuple(options)[rng.integers(2)]


def _slots(rng: np.random.Generator, seconds: float, count: int) -> Iterator[tuple[float, float]]:
    """Yields (onset, seconds) of `count` events in a row that leave small gaps."""
    shares = rng.uniform(0.8, 1.2, count)
    edges = np.concatenate([[0.0], np.cumsum(shares / shares.sum())]) * (seconds - 0.1) + 0.05
    for start, end in pairwise(edges):
        length = (end - start) * rng.uniform(0.8, 0.92)
        yield float(start + rng.random() * (end - start - length)), float(length)
