"""Embeds all sounds of a folder, of a list of files or of a prepared set, into an index."""

import os
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.progress import TextColumn

from supclap_jax.console import console, progress_bar, working
from supclap_jax.data.prepared import PreparedSplit, is_prepared, split_names
from supclap_jax.data.sound_files import BadAudio
from supclap_jax.data.sound_windows import Window, read_windows
from supclap_jax.errors import DataError
from supclap_jax.inference.loaded_model import LoadedModel
from supclap_jax.inference.sound_index import FAILED, Row, SoundIndex
from supclap_jax.runs.provenance import provenance

ENDINGS = {".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aif", ".aiff", ".aifc", ".w64",
           ".caf", ".au"}  # fmt: skip
QUEUED = 64  # windows that are decoded and wait
ROWS_IN_SHARD, SECONDS_OF_SHARD = 20_000, 60.0
SHOWN = 5
UNLISTED = "it cannot be listed"


class Source(NamedTuple):
    """A sound to embed.

    Attributes:
      path: its name in the index.
      audio: the file, or a prepared set's split and the clip's number in it.
      size, modified: of the file; zero in a prepared set, which does not change.
    """

    path: str
    audio: Path | tuple[PreparedSplit, int]
    size: int = 0
    modified: int = 0


class Decoded(NamedTuple):
    """What comes of a sound: a window, what is wrong with it, or None after its last window."""

    source: Source
    content: Window | BadAudio | None


def embed_folder(
    model: LoadedModel,
    source: Path,
    out: Path,
    *,
    windows: bool = False,
    window: float | None = None,
    hop: float | None = None,
    workers: int = 1,
    dtype: str = "float16",
) -> None:
    """Embeds what is not in the index yet; go on with the same call after a kill.

    What has changed is embedded again, and what is no longer there leaves the index.

    Args:
      model: whose vectors they are.
      source: a folder, walked without following links to folders; a file; or a prepared set.
      out: folder of the index.
      windows: a row a window, with its start and end, rather than one a sound, their mean.
      window: length of a window in seconds; by default the longest that the model hears.
      hop: from one to the next; by default as few as cover the sound, evenly spaced.
      workers: threads that decode.
      dtype: of the stored vectors: "float16" or "float32".

    Raises:
      ConfigError: `out` is no index of such vectors.
      DataError: there is nothing to embed, or none of it can be used.
    """
    with working(f"listing {source}"):
        sources, failed = list_sources(source)
    description = {
        "space": model.space,
        "source": os.path.abspath(source),
        "digest": digest_of(source),
        "windows": windows,
        "window": window or model.seconds,
        "hop": hop,
        "dtype": dtype,
        "dim": model.dim,
        "model": model.name if "://" in model.name else os.path.abspath(model.name),
        "step": model.step,
        **provenance(model.config),
    }
    index = SoundIndex.claim(out, description)
    with index.locked():
        known = index.known()
        changed = {s.path for s in sources if known.get(s.path, s[2:]) != s[2:]}
        is_all_listed = not any(reason.startswith(UNLISTED) for reason in failed.values())
        gone = known.keys() - {s.path for s in sources} if is_all_listed else set()
        if changed or gone:
            index.forget(changed | gone)
        left = [s for s in sources if s.path not in known or s.path in changed]
        failed |= _embed(model, index, left, windows, description["window"], hop, workers)
        index.write_failed(failed)
        if not index.shards:
            raise DataError(f"none of the sounds of {source} can be used; {out / FAILED} says why")
        index.vectors()  # the map, which those who search may have no right to write
    embedded = len(left) - sum(s.path in failed for s in left)
    console.print(
        f"Written: {out}, {embedded:,} sounds embedded, {len(sources) - len(left):,} as they were"
        + (f", {len(gone):,} gone." if gone else "."),
        soft_wrap=True,
    )
    if failed:
        console.print(f"{len(failed):,} cannot be used ({out / FAILED}), such as", soft_wrap=True)
    for path, reason in sorted(failed.items())[:SHOWN]:
        console.print(f"  {path!r}: {reason}", soft_wrap=True)


def list_sources(source: Path) -> tuple[list[Source], dict[str, str]]:
    """All sounds of a folder, file or prepared set; and why others cannot be listed, by name.

    Raises:
      DataError: there are none.
    """
    found, failed = [], {}
    if is_prepared(source):
        return _of_prepared(source), failed
    if source.is_file():
        paths, folder = [source], source.parent
    elif source.is_dir():
        folder, unlisted = source, []
        paths = sorted(
            Path(place, name)
            for place, _, names in os.walk(source, onerror=unlisted.append)
            for name in names
            if Path(name).suffix.lower() in ENDINGS
        )
        for error in unlisted:
            failed[_shown(error.filename)] = f"{UNLISTED} ({error.strerror})"
    else:
        raise DataError(f"there is no file or folder {str(source)!r} to embed")
    if not paths:
        kinds = ", ".join(sorted(ending[1:] for ending in ENDINGS))
        raise DataError(f"{source} holds no sounds; expected files of the kinds {kinds}")
    for path in paths:
        name = str(path.relative_to(folder))
        shown = _shown(name)
        try:
            status = path.stat()
        except OSError as error:
            failed[shown] = error.strerror or str(error)
            continue
        if shown != name:
            failed[shown] = "its name is not UTF-8; rename it"
        else:
            found.append(Source(name, path, status.st_size, status.st_mtime_ns))
    return found, failed


def _shown(name: str) -> str:
    """A file's name as text, whatever its bytes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def digest_of(source: Path) -> str:
    """Of a prepared set, whose clips may be others under the same ids; else ""."""
    if not is_prepared(source):
        return ""
    splits = (PreparedSplit(source, name, ()) for name in split_names(source))
    return " ".join(split.fingerprint() for split in splits)


def _of_prepared(folder: Path) -> list[Source]:
    return [
        Source(f"{name}/{split.record(number)['id']}", (split, number))
        for name in split_names(folder)
        for split in [PreparedSplit(folder, name, ())]
        for number in range(len(split))
    ]


def _embed(model, index, sources, windows, seconds, hop, workers) -> dict[str, str]:
    """Embeds and stores; returns why sounds could not be, by path."""
    failed: dict[str, str] = {}
    parts: dict[str, list[tuple[Window, np.ndarray]]] = {}
    done: list[Source] = []
    rows: list[Row] = []
    stored = time.monotonic()
    with progress_bar(TextColumn("{task.fields[status]}")) as bar:
        task = bar.add_task("embedding", total=len(sources), status="")
        stream = decode(sources, seconds, hop, workers)
        while batch := list(islice(stream, model.batch_size)):
            heard = [item for item in batch if isinstance(item.content, Window)]
            vectors = model.encode_windows(item.content.audio for item in heard) if heard else ()
            for item, vector in zip(heard, vectors, strict=True):
                place = item.content._replace(audio=None)
                parts.setdefault(item.source.path, []).append((place, vector))
            for item in batch:
                if isinstance(item.content, BadAudio):
                    failed[item.source.path] = str(item.content)
                    parts.pop(item.source.path, None)
                elif item.content is None:
                    done.append(item.source)
            for source in done:
                rows += rows_of(source, parts.pop(source.path), windows)
            finished = sum(not isinstance(item.content, Window) for item in batch)
            speed = bar.tasks[0].speed
            bar.update(task, advance=finished, status=f"{speed:,.1f} files/s" if speed else "")
            done.clear()
            if len(rows) >= ROWS_IN_SHARD or time.monotonic() - stored > SECONDS_OF_SHARD:
                index.append(rows)
                rows, stored = [], time.monotonic()
    index.append(rows)
    return failed


def rows_of(
    source: Source, parts: Sequence[tuple[Window, np.ndarray]], windows: bool
) -> Iterator[Row]:
    """A row a window, or one of their normalised mean."""
    duration = max(window.end for window, _ in parts)
    if windows:
        for window, vector in parts:
            yield Row(source.path, window.start, window.end, duration, *source[2:], vector)
        return
    vector = parts[0][1]
    if len(parts) > 1:
        mean = np.mean([vector for _, vector in parts], axis=0, dtype=np.float64)
        vector = (mean / np.linalg.norm(mean)).astype(np.float32)
    yield Row(source.path, 0.0, duration, duration, *source[2:], vector)


def decode(
    sources: Sequence[Source], seconds: float, hop: float | None, workers: int
) -> Iterator[Decoded]:
    """Windows of all sounds from several threads, a bounded number ahead; each sound in order."""
    waiting: queue.Queue[Source | None] = queue.Queue()
    for source in sources:
        waiting.put(source)
    ready: queue.Queue[Decoded | BaseException | None] = queue.Queue(QUEUED)
    stopped = threading.Event()

    def put(item) -> None:
        while not stopped.is_set():
            try:
                ready.put(item, timeout=0.1)
                return
            except queue.Full:
                continue

    def work() -> None:
        try:
            while not stopped.is_set():
                source = waiting.get_nowait()
                try:
                    for window in read_windows(_audio_of(source), seconds, hop):
                        put(Decoded(source, window))
                        if stopped.is_set():
                            return
                    put(Decoded(source, None))
                except BadAudio as error:
                    put(Decoded(source, error))
        except queue.Empty:
            put(None)
        except BaseException as error:
            put(error)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(max(workers, 1))]
    for thread in threads:
        thread.start()
    try:
        at_work = len(threads)
        while at_work:
            item = ready.get()
            if isinstance(item, BaseException):
                raise item
            if item is None:
                at_work -= 1
            else:
                yield item
    finally:
        stopped.set()
        for thread in threads:
            thread.join()


def _audio_of(source: Source) -> Path | bytes:
    if isinstance(source.audio, Path):
        return source.audio
    split, number = source.audio
    return split.record(number)["audio"]
