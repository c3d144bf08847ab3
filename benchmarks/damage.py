"""Sound files as nobody should have them: is each stored right, or left out? None stored wrong.

    python benchmarks/damage.py --files=300
    python benchmarks/damage.py --out=benchmarks/results/damage.json

Files of many encodings, rates, channels and lengths are written, whole, cut at every tenth, with
flipped bytes and with headers that lie. What `supclap prepare --original` would store of each is
compared with another decoder: miniaudio for libsndfile's WAV, FLAC, Vorbis and MP3; of the other
containers, whose samples lie open in them, with these bytes themselves.
"""

import argparse
import collections
import io
import json
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import miniaudio
import numpy as np
import soundfile
from rich.console import Console
from rich.progress import track
from rich.table import Table

from supclap_jax.data.flac import Form, to_flac
from supclap_jax.data.sound_files import BadAudio

ROUNDING = 5 / 2**15
OPUS_RATES = (8_000, 16_000, 48_000)
FLIPS = 5


class Encoding(NamedTuple):
    """A way to write a file.

    Attributes:
      name: of the row in the results.
      container, subtype: of libsndfile.
      by: how it is decoded again: "miniaudio", "bytes" in which samples lie open, or "nothing".
      finish: what is done to the file then.
      options: of libsndfile.
    """

    name: str
    container: str
    subtype: str
    by: str = "miniaudio"
    finish: Callable[[bytes], bytes] = lambda data: data
    options: Mapping = MappingProxyType({})


class Case(NamedTuple):
    """A file, and what it should be: `expected` samples, or None where it should be left out."""

    encoding: str
    damage: str
    data: bytes
    expected: np.ndarray | None


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=2_400, help="how many; default: 2,400")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    options = parser.parse_args()
    began, results, wrong = time.perf_counter(), collections.defaultdict(collections.Counter), []
    for number, case in enumerate(
        track(cases(options.seed, options.files), "files", options.files)
    ):
        outcome = judge(case)
        results[case.encoding][outcome] += 1
        results[case.encoding]["files"] += 1
        if outcome == "stored wrong":
            wrong.append(f"{number}: {case.encoding}, {case.damage}")
    names = ("files", "stored right", "left out", "left out, though whole", "stored wrong")
    rows = [
        {"encoding": encoding, **{name: counts[name] for name in names}}
        for encoding, counts in results.items()
    ]
    rows.append({"encoding": "all", **{name: sum(row[name] for row in rows) for name in names}})
    table = Table(title=f"{options.files:,} files, {time.perf_counter() - began:.0f} s")
    for name in rows[0]:
        table.add_column(name, justify="left" if name == "encoding" else "right")
    for row in rows:
        table.add_row(*(str(x) for x in row.values()))
    Console().print(table, *wrong, sep="\n")
    if options.out:
        results = {"seed": options.seed, "files": rows, "stored wrong": wrong}
        options.out.write_text(json.dumps(results, indent=2) + "\n")
    raise SystemExit(bool(wrong))


def judge(case: Case) -> str:
    """ "stored right", "left out", "left out, though whole" or "stored wrong"."""
    try:
        stored = to_flac(case.data, Form(original=True)).data
    except BadAudio:
        is_whole = case.damage in ("none", "lie")
        return "left out, though whole" if is_whole else "left out"
    if case.expected is None:
        return "stored wrong"
    found, _ = soundfile.read(io.BytesIO(stored), always_2d=True)
    is_right = _alike(found, case.expected, 1152 if "MP3" in case.encoding else 0)
    return "stored right" if is_right else "stored wrong"


def _alike(found: np.ndarray, expected: np.ndarray, frame: int) -> bool:
    """Within rounding, and one frame of MP3, by which decoders begin earlier or later."""
    if expected.shape[1:] != found.shape[1:] or not 0 <= len(expected) - len(found) <= frame:
        return False
    begins = (0, 529) if len(expected) > len(found) else (0,)
    return any(_same(found, expected[begin : begin + len(found)]) for begin in begins)


def _same(found: np.ndarray, expected: np.ndarray) -> bool:
    """What goes beyond full scale is stored scaled; the other decoder may clip it instead."""
    if found.shape != expected.shape:
        return False
    scaled = expected / max(1.0, np.abs(expected).max(initial=0))
    if np.abs(found - scaled).max(initial=0) <= ROUNDING:
        return True
    inner = np.abs(expected) < 1 - ROUNDING
    gain = np.vdot(expected[inner], found[inner]) / np.vdot(found[inner], found[inner])
    clipped = np.clip(found * gain, -1, 1) - np.clip(expected, -1, 1)
    return bool(not np.all(inner) and np.abs(clipped).max() <= 2 * ROUNDING)


def cases(seed: int, count: int) -> Iterator[Case]:
    """Files in turn of each encoding, each whole and then damaged in every way."""
    rng = np.random.default_rng(seed)
    made = 0
    while made < count:
        for encoding in ENCODINGS:
            for case in cases_of(encoding, rng):
                if made == count:
                    return
                made += 1
                yield case


def cases_of(encoding: Encoding, rng: np.random.Generator) -> Iterator[Case]:
    rate = int(rng.choice(OPUS_RATES if encoding.subtype == "OPUS" else (8_000, 22_050, 44_100)))
    channels, seconds = int(rng.integers(1, 3)), rng.uniform(0.2, 2.0)
    sound = _sound(rng, round(rate * seconds), channels, rate)
    file = io.BytesIO()
    kind = (encoding.subtype or None,)
    soundfile.write(file, sound, rate, *kind, format=encoding.container, **encoding.options)
    whole = encoding.finish(file.getvalue())
    right = decode(encoding, whole, whole)
    yield Case(encoding.name, "none", whole, right)
    for tenth in range(1, 10):
        cut = whole[: len(whole) * tenth // 10]
        expected = decode(encoding, cut, whole) if encoding.by == "miniaudio" else None
        yield Case(encoding.name, f"cut at {tenth} tenths", cut, expected)
    begin, end = _open_samples(whole) if encoding.by == "bytes" else (0, len(whole))
    for place in rng.integers(begin, end, FLIPS):
        flipped = bytearray(whole)
        flipped[place] ^= int(rng.integers(1, 256))
        expected = decode(encoding, bytes(flipped), whole)
        yield Case(encoding.name, f"byte {place} flipped", bytes(flipped), expected)
    for lie in lies(whole):
        yield Case(encoding.name, "lie", lie, right)


def _sound(rng: np.random.Generator, frames: int, channels: int, rate: int) -> np.ndarray:
    """A chord and some noise, another one in each channel."""
    time_ = np.arange(frames)[:, None] / rate
    pitches = rng.uniform(200, 1_500, (3, 1, channels))
    tones = np.sin(2 * np.pi * pitches * time_).sum(0) * rng.uniform(0.05, 0.2)
    return tones + rng.normal(0, 0.02, (frames, channels))


def decode(encoding: Encoding, data: bytes, whole: bytes) -> np.ndarray | None:
    """What another decoder makes of a file; None where it makes nothing of it."""
    if encoding.by == "nothing":
        return soundfile.read(io.BytesIO(whole), always_2d=True)[0] if data is whole else None
    if encoding.by == "bytes":
        begin, end = _open_samples(whole)
        channels = soundfile.info(io.BytesIO(whole)).channels
        return np.frombuffer(data[begin:end], _order(whole)).reshape(-1, channels) / 2.0**15
    read = {
        "MP3": miniaudio.mp3_read_f32,
        "FLAC": miniaudio.flac_read_f32,
        "OGG": miniaudio.vorbis_read,
        "WAV": miniaudio.wav_read_f32,
    }[encoding.container]
    try:
        sound = read(data)
    except miniaudio.DecodeError:
        return None
    samples = np.array(sound.samples)
    scale = 2.0**15 if samples.dtype == np.int16 else 1.0
    return samples.reshape(-1, sound.nchannels) / scale


def _order(whole: bytes) -> str:
    return "<i2" if whole[:4] in (b"riff", b"RF64") else ">i2"


def _open_samples(whole: bytes) -> tuple[int, int]:
    """Where the samples of 16 bit lie in a file."""
    samples = soundfile.read(io.BytesIO(whole), dtype="int16")[0].astype(_order(whole)).tobytes()
    begin = whole.index(samples)
    return begin, begin + len(samples)


def lies(whole: bytes) -> Iterator[bytes]:
    """The same sound under headers that do not tell its length, or tell another."""
    if whole[:4] == b"RIFF":
        place = whole.index(b"data") + 4
        end = place + 4 + struct.unpack_from("<I", whole, place)[0]
        for said in (0, 0x7FFFF000, 0xFFFFFFF0, 0xFFFFFFFF):
            lying = bytearray(whole[:end])
            struct.pack_into("<I", lying, place, said)
            struct.pack_into("<I", lying, 4, said)
            yield bytes(lying)
        for riff in (len(whole), len(whole) + 100):
            yield whole[:4] + struct.pack("<I", riff) + whole[8:]
    if whole[:4] == b"fLaC":
        lying = bytearray(whole)
        lying[21] &= 0xF0
        lying[22:42] = bytes(20)
        yield bytes(lying)
    if whole[:2] == b"\xff\xfb" or whole[:2] == b"\xff\xf3" or whole[:2] == b"\xff\xe3":
        picture = np.random.default_rng(0).bytes(20_000)
        size = bytes(len(picture) >> shift & 0x7F for shift in (21, 14, 7, 0))
        yield b"ID3\x04\x00\x00" + size + picture + whole
    if whole[:4] == b".snd":
        yield whole[:8] + b"\xff" * 4 + whole[12:]
    if whole[:4] == b"caff":
        place = whole.index(b"data") + 4
        yield whole[:place] + b"\xff" * 8 + whole[place + 8 :]


def without_counts(data: bytes) -> bytes:
    """MP3 without its first frame, which holds no sound but says how many follow."""
    return data[data.index(data[:2], 4) :]


def _mp3(name: str, mode: str, **options) -> Encoding:
    return Encoding(name, "MP3", "", options={"bitrate_mode": mode}, **options)


ENCODINGS = (
    Encoding("WAV 16 bit", "WAV", "PCM_16"),
    Encoding("WAV 24 bit", "WAV", "PCM_24"),
    Encoding("WAV float", "WAV", "FLOAT"),
    Encoding("WAV mu-law", "WAV", "ULAW"),
    Encoding("FLAC 16 bit", "FLAC", "PCM_16"),
    Encoding("FLAC 24 bit", "FLAC", "PCM_24"),
    _mp3("MP3", "CONSTANT"),
    _mp3("MP3 of variable rate", "VARIABLE"),
    _mp3("MP3 without counts", "CONSTANT", finish=without_counts),
    _mp3("MP3 of variable rate without counts", "VARIABLE", finish=without_counts),
    Encoding("Vorbis", "OGG", "VORBIS"),
    Encoding("Opus", "OGG", "OPUS", "nothing"),
    Encoding("AIFF", "AIFF", "PCM_16", "bytes"),
    Encoding("AU", "AU", "PCM_16", "bytes"),
    Encoding("CAF", "CAF", "PCM_16", "bytes"),
    Encoding("W64", "W64", "PCM_16", "bytes"),
    Encoding("RF64", "RF64", "PCM_16", "bytes"),
)

if __name__ == "__main__":
    main()
