"""Opens the data that a config names: prepared sets, mixtures of them, or a folder as it is."""

from pathlib import Path

from ml_collections import ConfigDict

from supclap_jax.console import console, progress_bar
from supclap_jax.data import splits
from supclap_jax.data.clips import Clips, without_bad_clips
from supclap_jax.data.clotho import read_clotho
from supclap_jax.data.prepared import (
    Mixture,
    PreparedSplit,
    find_leaks,
    is_prepared,
    open_training,
)
from supclap_jax.errors import ConfigError, DataError
from supclap_jax.files import path_of


def load_training(config: ConfigDict) -> Clips | Mixture:
    """The training clips: a prepared set or a mixture of some, or files as `load_clips`.

    Raises:
      DataError: clips are in the validation or evaluation split too, or as `load_clips`.
    """
    path, data = path_of(config.data.path), config.data
    if data.mixture or is_prepared(path):
        training = open_training(path, data.mixture, data.languages)
        _check_leaks(training, path / data.evaluation, config)
        return training
    if data.buckets:
        raise ConfigError(
            "data.buckets needs the lengths of all clips; run 'supclap prepare' and set "
            "data.path to what it writes, or leave data.buckets empty"
        )
    return load_clips(config, "train")


def load_clips(config: ConfigDict, split: str) -> Clips:
    """Reads one split, files with a decoding of each; prints what is skipped.

    Args:
      config: of a run; what `data` says is read.
      split: "train", "validation", "test", whatever Clotho calls them, or another of the set.

    Raises:
      DataError: as `read_clotho`, `without_bad_clips` and `PreparedSplit`.
    """
    if not config.data.path:
        raise ConfigError(
            "data.path is not set; pass --config.data.path=DIR, a prepared data set or a folder in "
            "Clotho 2.1's layout"
        )
    folder = path_of(config.data.path) / config.data.evaluation
    if config.data.mixture or is_prepared(folder):
        return PreparedSplit(folder, split, config.data.languages).clips()
    name = splits.CLOTHO.get(split, split)
    clips = read_clotho(folder, name, config.data.languages)
    with progress_bar() as bar:
        task = bar.add_task(f"checking {name} audio", total=len(clips))
        clips, bad = without_bad_clips(
            clips, config.data.on_bad_clip, lambda done: bar.update(task, completed=done)
        )
    for path, problem in bad.items():
        console.print(f"skipped {path}: {problem}", soft_wrap=True)
    if bad:
        console.print(f"{len(bad)} bad audio files skipped, {len(clips)} {name} clips left.")
    return clips


def _check_leaks(training: Mixture, evaluation: Path, config: ConfigDict) -> None:
    """Refuses training clips that are held out too, or warns, as the config says."""
    held_out = [
        PreparedSplit(evaluation, split, config.data.languages) for split in splits.SPLITS[1:]
    ]
    leaks = find_leaks(training.splits, held_out)
    if not leaks:
        return
    message = (
        f"{len(leaks):,} training clips are in the evaluation data too, such as "
        f"{leaks[0][0]!r} ({leaks[0][1]}); "
    )
    if config.data.on_leak == "error":
        raise DataError(
            f"{message}prepare the set again with --exclude={evaluation}, or set "
            "data.on_leak='warn'"
        )
    console.print(f"{message}training goes on, since data.on_leak is 'warn'.", soft_wrap=True)
