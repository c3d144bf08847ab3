"""A procedural soundscape: an endless audio-caption data set that needs no download.

A clip is a pure function of (seed, split, index): `scene` draws what happens, `render` turns it
into audio with a room and background noise, `captions` describes it in eight languages.
`write_clotho` renders a data set to disk in the layout of Clotho 2.1.
"""

import csv
import dataclasses
import io
import json
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import count, pairwise
from pathlib import Path

import numpy as np
import soundfile

from supclap_jax.data.clips import SPLITS
from supclap_jax.data.sound_events import (
    CATALOGUE,
    KINDS,
    LOUDNESS,
    MOST,
    Event,
    convolve,
    fast_length,
    filtered_noise,
    synthesize,
)
from supclap_jax.data.soundscape_captions import LANGUAGES, captions

__all__ = [
    "KINDS",
    "LANGUAGES",
    "SPLITS",
    "Event",
    "Scene",
    "Soundscape",
    "captions",
    "described",
    "render",
    "scene",
    "split_sizes",
    "write_clotho",
]

FILE_FORMATS = ("wav", "flac")
CAPTION_COLUMNS = ("file_name", *(f"caption_{i}" for i in range(1, 6)))
METADATA_COLUMNS = (
    "file_name",
    "keywords",
    "sound_id",
    "sound_link",
    "start_end_samples",
    "manufacturer",
    "license",
)
_SCENE, _WRONG, _RENDER = range(3)  # streams of randomness of one clip, beside the captions'


@dataclasses.dataclass(frozen=True)
class Soundscape:
    """The configuration of a soundscape.

    Attributes:
        seed: root of all randomness, at least 0.
        seconds: length of every clip, 2 to 10.
        sample_rate: in Hz, 16,000 to 48,000.
        zipf: skew of the event frequencies, at least 0: the kind of rank r in `KINDS` is drawn
            with weight r**-zipf, so 0 is uniform (a background is drawn among sustained kinds).
        wrong_captions: share, 0 to 1, of development clips whose captions describe another scene.
    """

    seed: int = 0
    seconds: float = 4.0
    sample_rate: int = 16_000
    zipf: float = 0.0
    wrong_captions: float = 0.0

    def __post_init__(self):
        _require(self.seed >= 0, "seed", self.seed, "an integer of at least 0")
        _require(2 <= self.seconds <= 10, "seconds", self.seconds, "a length from 2 to 10")
        _require(
            16_000 <= self.sample_rate <= 48_000,
            "sample_rate",
            self.sample_rate,
            "a rate from 16000 to 48000 Hz",
        )
        _require(0 <= self.zipf < np.inf, "zipf", self.zipf, "a finite exponent of at least 0")
        _require(
            0 <= self.wrong_captions <= 1,
            "wrong_captions",
            self.wrong_captions,
            "a share from 0 to 1",
        )

    @property
    def samples(self) -> int:
        """Samples per clip."""
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
    _require(split in SPLITS, "split", split, f"one of {', '.join(SPLITS)}")
    _require(index >= 0, "index", index, "an integer of at least 0")
    return _draw_scene(config, (config.seed, SPLITS.index(split), index))


def described(config: Soundscape, split: str, index: int) -> Scene:
    """Returns the scene that the captions of a clip describe: its own, or a wrong one.

    A wrong scene has other kinds than the clip's own. The clips with wrong captions at a small
    share are a subset of those at a larger share.
    """
    own = scene(config, split, index)
    lot = np.random.default_rng([*own.key, _WRONG]).random()
    if split != "development" or lot >= config.wrong_captions:
        return own
    others = (_draw_scene(config, (config.seed, place, index)) for place in count(len(SPLITS)))
    return next(other for other in others if set(other.kinds) != set(own.kinds))


def render(config: Soundscape, scene: Scene) -> np.ndarray:
    """Renders a scene to float32 `[config.samples]` with all values inside (-1, 1)."""
    rng = np.random.default_rng([*scene.key, _RENDER])
    levels = [LOUDNESS[event.loudness] + rng.uniform(-3, 3) for event in scene.events]
    dry = np.zeros(config.samples, np.float32)
    for event, level in zip(scene.events, levels, strict=True):
        _add(dry, synthesize(rng, event, config.sample_rate), event.onset, level, config)
    if scene.background:
        sound = synthesize(rng, scene.background, config.sample_rate)
        level = min(-26.0, min(levels) - rng.uniform(3, 7))
        _add(dry, sound, scene.background.onset, level, config)
    clip = convolve(dry, _room(rng, config.sample_rate)) + _hiss(rng, config)
    return (clip / max(1.0, np.abs(clip).max() / 0.95)).astype(np.float32)


def split_sizes(clips: int) -> dict[str, int]:
    """Splits `clips` (at least 10) into 70 % development, 10 % validation, 20 % evaluation."""
    _require(clips >= 10, "clips", clips, "at least 10, so that no split is empty")
    validation, evaluation = clips // 10, clips // 5
    sizes = (clips - validation - evaluation, validation, evaluation)
    return dict(zip(SPLITS, sizes, strict=True))


def write_clotho(
    config: Soundscape,
    out: Path,
    clips: int,
    file_format: str = "wav",
    workers: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> dict[str, int]:
    """Renders a data set to disk in the layout of Clotho 2.1.

    `out` then holds a folder of 16-bit audio per split, `clotho_captions_{split}.csv` (English),
    `clotho_captions_{split}.{language}.csv` for the other languages, `clotho_metadata_{split}.csv`
    with the kinds of each clip as keywords, and `soundscape.json` with the configuration. The
    files do not depend on the number of workers. A run that was cut off can be repeated: it keeps
    the audio that is there and writes the rest.

    Args:
        config: the soundscape.
        out: a folder that is empty, missing, or holds the same data set.
        clips: number of clips in all splits together, at least 10.
        file_format: "wav" or "flac".
        workers: processes; by default one per available core. Processes are spawned, so a script
            that calls this needs the `if __name__ == "__main__":` guard, or `workers=1`.
        progress: called with the number of clips finished so far.

    Returns:
        The number of clips per split.
    """
    sizes = split_sizes(clips)
    _require(
        file_format in FILE_FORMATS, "file_format", file_format, f"one of {', '.join(FILE_FORMATS)}"
    )
    _require(workers is None or workers >= 1, "workers", workers, "None or at least 1")
    out = Path(out)
    _claim(out, {**dataclasses.asdict(config), "clips": clips, "file_format": file_format})
    for split in SPLITS:
        (out / split).mkdir(exist_ok=True)
    jobs = [
        (config, out, split, range(start, min(start + 25, size)), file_format)
        for split, size in sizes.items()
        for start in range(0, size, 25)
    ]
    texts = {split: [] for split in SPLITS}
    done = 0
    for job, chunk in zip(jobs, _run(jobs, workers or _cores()), strict=True):
        texts[job[2]] += chunk
        done += len(chunk)
        if progress:
            progress(done)
    for split in SPLITS:
        _write_tables(config, out, split, texts[split], file_format)
    return sizes


def _require(holds: bool, name: str, given: object, expected: str) -> None:
    if not holds:
        raise ValueError(f"{name} is {given!r}; expected {expected}.")


def _draw_scene(config: Soundscape, key: tuple[int, int, int]) -> Scene:
    rng = np.random.default_rng([*key, _SCENE])
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


def _add(
    clip: np.ndarray, sound: np.ndarray, onset: float, level: float, config: Soundscape
) -> None:
    start = round(onset * config.sample_rate)
    sound = sound[: len(clip) - start]
    clip[start : start + len(sound)] += np.float32(10 ** (level / 20)) * sound


def _room(rng: np.random.Generator, rate: int) -> np.ndarray:
    """The impulse response of a room and a microphone.

    The direct sound and a decaying tail of random reflections, coloured by a smooth random
    frequency response of about +-4 dB.
    """
    reverberation, wet = rng.uniform(0.1, 0.8), rng.uniform(0.05, 0.6)
    lead = rate // 50  # room for what the zero-phase colouring puts before the direct sound
    length = fast_length(lead + round(0.7 * reverberation * rate))
    time = np.arange(length - lead, dtype=np.float32) / rate
    tail = rng.standard_normal(len(time), dtype=np.float32) * np.exp(-6.9 * time / reverberation)
    response = np.zeros(length, np.float32)
    response[lead:] = tail * (wet / np.sqrt(np.square(tail).sum()))
    response[lead] = 1
    octaves = np.log2(np.linspace(0, rate / 2, length // 2 + 1) + 50)
    decibels = sum(
        rng.normal(0, 3) * np.cos(2 * np.pi * (octaves / period + rng.random()))
        for period in (10, 4, 2)
    )
    return np.fft.irfft(np.fft.rfft(response) * 10 ** (decibels / 20), length).astype(np.float32)


def _hiss(rng: np.random.Generator, config: Soundscape) -> np.ndarray:
    """Background noise between white and brown, 46 to 60 dB below full scale."""
    slope, level = rng.uniform(0, 1), rng.uniform(-60, -46)
    noise = filtered_noise(
        rng, config.samples, config.sample_rate, lambda f: np.maximum(f, 40) ** -slope
    )
    return np.float32(10 ** (level / 20)) * noise


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _claim(out: Path, content: dict) -> None:
    """Marks `out` as holding `content`, or refuses if it holds anything else."""
    marker = out / "soundscape.json"
    if marker.exists():
        found = json.loads(marker.read_text(encoding="utf-8"))
        names = [k for k in {**content, **found} if found.get(k) != content.get(k)]
        if names:
            differences = ", ".join(f"{k}={found.get(k)} (not {content.get(k)})" for k in names)
            raise ValueError(
                f"{out} holds a soundscape with {differences}. "
                "Choose another folder, delete this one, or ask for the same values."
            )
        return
    if out.exists() and any(out.iterdir()):
        raise ValueError(
            f"{out} is not empty and holds no soundscape.json. Choose a new or empty folder."
        )
    out.mkdir(parents=True, exist_ok=True)
    _write(marker, json.dumps(content, indent=2).encode() + b"\n")


def _run(jobs: list[tuple], workers: int) -> Iterator[list]:
    if workers == 1:
        yield from map(_write_clips, jobs)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(jobs)), mp_context=context) as pool:
        yield from pool.map(_write_clips, jobs)


def _write_clips(job: tuple[Soundscape, Path, str, range, str]) -> list[dict[str, list[str]]]:
    """Writes the audio of some clips; returns, for each, its captions in every language."""
    config, out, split, indices, file_format = job
    texts = []
    for index in indices:
        path = out / split / _file_name(split, index, file_format)
        if not path.exists():
            clip = render(config, scene(config, split, index))
            buffer = io.BytesIO()
            soundfile.write(
                buffer, clip, config.sample_rate, subtype="PCM_16", format=file_format.upper()
            )
            _write(path, buffer.getvalue())
        subject = described(config, split, index)
        texts.append({language: captions(subject, language) for language in LANGUAGES})
    return texts


def _write_tables(
    config: Soundscape, out: Path, split: str, texts: list[dict[str, list[str]]], file_format: str
) -> None:
    names = [_file_name(split, index, file_format) for index in range(len(texts))]
    for language in LANGUAGES:
        suffix = "" if language == "eng_Latn" else f".{language}"
        rows = [[name, *text[language]] for name, text in zip(names, texts, strict=True)]
        _write_csv(out / f"clotho_captions_{split}{suffix}.csv", [CAPTION_COLUMNS, *rows], "utf-8")
    metadata = [METADATA_COLUMNS]
    for index, name in enumerate(names):
        keywords = ";".join(scene(config, split, index).kinds)
        extent = f"[0, {config.samples}]"
        metadata.append([name, keywords, index, "", extent, "supclap_jax", "synthetic"])
    _write_csv(out / f"clotho_metadata_{split}.csv", metadata, "iso-8859-1")


def _file_name(split: str, index: int, file_format: str) -> str:
    return f"{split}_{index:05d}.{file_format}"


def _write_csv(path: Path, rows: Iterable[Sequence], encoding: str) -> None:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    _write(path, text.getvalue().encode(encoding))


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_bytes(content)
    temporary.replace(path)
