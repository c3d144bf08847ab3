"""Soundscapes on disk, in the layout of Clotho 2.1."""

import csv
import dataclasses
import io
import json
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import soundfile

from supclap_jax.config import LANGUAGES
from supclap_jax.data.clotho import captions_file, metadata_file
from supclap_jax.data.soundscape import SPLITS, Scene, Soundscape, described, require, scene
from supclap_jax.data.soundscape_captions import captions
from supclap_jax.data.soundscape_rendering import render
from supclap_jax.files import write_whole

FILE_FORMATS = ("wav", "flac")
CLIPS_IN_JOB = 25
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


def write_clotho(
    config: Soundscape,
    out: Path,
    clips: int,
    file_format: str = "wav",
    workers: int | None = None,
    progress: Callable[[int], None] | None = None,
    held_out: int | None = None,
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
        held_out: clips of validation, and of evaluation; the rest is for development. None: as
            `split_sizes` divides. The clips that two sizes of a split share are the same.

    Returns:
        The number of clips per split.
    """
    sizes = split_sizes(clips, held_out)
    require(
        file_format in FILE_FORMATS, "file_format", file_format, f"one of {', '.join(FILE_FORMATS)}"
    )
    require(workers is None or workers >= 1, "workers", workers, "None or at least 1")
    out = Path(out)
    content = {**dataclasses.asdict(config), "clips": clips, "file_format": file_format}
    if config.scenes == 1:
        del content["scenes"]  # which older folders do not have
    _claim(out, content if held_out is None else {**content, "held_out": held_out})
    for split in SPLITS:
        (out / split).mkdir(exist_ok=True)
    jobs = [
        (config, out, split, range(size)[start : start + CLIPS_IN_JOB], file_format)
        for split, size in sizes.items()
        for start in range(0, size, CLIPS_IN_JOB)
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
    for left_by_a_kill in out.rglob(".*.part"):
        left_by_a_kill.unlink()
    return sizes


def split_sizes(clips: int, held_out: int | None = None) -> dict[str, int]:
    """Clips of development, validation and evaluation.

    Of `clips` (at least 10) 70, 10 and 20 %; with `held_out` that many of the latter two each.
    """
    most = 10**7
    expected = f"10, so that no split is empty, to {most:,}"
    require(10 <= clips <= most, "clips", clips, expected)
    validation, evaluation = clips // 10, clips // 5
    if held_out is not None:
        expected = f"a number from 1 to {(clips - 1) // 2}, which leaves clips to train on"
        require(held_out >= 1 and 2 * held_out < clips, "held_out", held_out, expected)
        validation = evaluation = held_out
    sizes = (clips - validation - evaluation, validation, evaluation)
    return dict(zip(SPLITS, sizes, strict=True))


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
    write_whole(marker, json.dumps(content, indent=2) + "\n")


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
        places = _scenes_of(config, index)
        if not path.exists():
            parts = [render(config, scene(config, split, place)) for place in places]
            _write_clip(path, np.concatenate(parts), config.sample_rate)
        subjects = [described(config, split, place) for place in places]
        texts.append({language: _joined(subjects, language) for language in LANGUAGES})
    return texts


def _scenes_of(config: Soundscape, index: int) -> range:
    """The scenes of a clip, by their index."""
    return range(index * config.scenes, (index + 1) * config.scenes)


def _joined(subjects: Sequence[Scene], language: str) -> list[str]:
    """Five captions of scenes in a row, a sentence for each."""
    told = (captions(subject, language) for subject in subjects)
    return [" ".join(sentences) for sentences in zip(*told, strict=True)]


def _write_clip(path: Path, clip: np.ndarray, rate: int) -> None:
    """Writes 16-bit audio, which is there whole or not at all unless the machine fails.

    Without waiting for the disk, as `write_whole` does: that would take half as long as rendering.
    """
    unfinished = path.with_name(f".{path.name}.part")
    soundfile.write(unfinished, clip, rate, "PCM_16", format=path.suffix[1:])
    unfinished.replace(path)


def _write_tables(
    config: Soundscape, out: Path, split: str, texts: list[dict[str, list[str]]], file_format: str
) -> None:
    names = [_file_name(split, index, file_format) for index in range(len(texts))]
    for language in LANGUAGES:
        rows = [[name, *text[language]] for name, text in zip(names, texts, strict=True)]
        _write_csv(captions_file(out, split, language), [CAPTION_COLUMNS, *rows], "utf-8")
    metadata = [METADATA_COLUMNS]
    for index, name in enumerate(names):
        scenes = (scene(config, split, place) for place in _scenes_of(config, index))
        keywords = ";".join(dict.fromkeys(kind for each in scenes for kind in each.kinds))
        extent = f"[0, {config.samples * config.scenes}]"
        metadata.append([name, keywords, index, "", extent, "supclap_jax", "synthetic"])
    _write_csv(metadata_file(out, split), metadata, "iso-8859-1")


def _file_name(split: str, index: int, file_format: str) -> str:
    return f"{split}_{index:05d}.{file_format}"


def _write_csv(path: Path, rows: Iterable[Sequence], encoding: str) -> None:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    write_whole(path, text.getvalue().encode(encoding))
