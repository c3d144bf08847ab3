"""Captions of soundscape scenes in eight languages, built from phrase tables.

Every event becomes a noun phrase (a clause in Japanese), the events are joined in order, and a
sentence frame goes around them.
"""

import numpy as np

from supclap_jax.config import LANGUAGES
from supclap_jax.data.sound_events import Event
from supclap_jax.data.soundscape import Scene
from supclap_jax.data.soundscape_grammar import Noun
from supclap_jax.data.soundscape_phrases import PHRASES, Language

_STREAM = 100  # of a clip's randomness; language i uses stream 100 + i


def captions(scene: Scene, language: str) -> list[str]:
    """Describes a scene in five different sentences, a pure function of (scene, language).

    Everything said is true of the scene. A caption may leave out one attribute of each event and
    may call three or four strikes "several"; one of the five leaves out the background.

    Args:
        scene: the scene.
        language: one of `LANGUAGES`.
    """
    if language not in LANGUAGES:
        raise ValueError(f"language is {language!r}; expected one of {', '.join(LANGUAGES)}.")
    rng = np.random.default_rng([*scene.key, _STREAM + LANGUAGES.index(language)])
    tables = PHRASES[language]
    frames = rng.permutation(tables.frames)
    if scene.background:
        frames = rng.permutation([*rng.permutation(tables.background_frames)[:4], frames[0]])
    return [_sentence(rng, scene, tables, str(frame)) for frame in frames]


def _sentence(rng: np.random.Generator, scene: Scene, tables: Language, frame: str) -> str:
    orders = (("{}",), tables.pairs, tables.triples)[len(scene.events) - 1]
    events = _pick(rng, orders).format(*(_phrase(rng, event, tables) for event in scene.events))
    background = _phrase(rng, scene.background, tables) if scene.background else ""
    sentence = frame.format(events=events, background=background)
    return sentence[0].upper() + sentence[1:]


def _phrase(rng: np.random.Generator, event: Event, tables: Language) -> str:
    noun = Noun.parse(_pick(rng, tables.nouns[event.kind].split("; ")))
    values = [v for v in (event.speed, event.loudness, event.pitch) if v]
    if values and rng.random() < 0.5:
        values.pop(rng.integers(len(values)))
    adjectives = [_pick(rng, tables.adjectives[value]) for value in values]
    return tables.phrase(noun, _quantity(rng, event.number, tables), adjectives)


def _quantity(rng: np.random.Generator, number: int | None, tables: Language) -> str:
    if number is None:
        return ""
    vague = number >= 3 and rng.random() < 0.2
    return tables.several if vague else tables.numerals[number - 1]


def _pick(rng: np.random.Generator, options):
    return options[rng.integers(len(options))]
