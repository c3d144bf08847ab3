"""What reading costs: clips a second and core, beside a PyTorch DataLoader; scans of large sets.

    python benchmarks/input.py --quick
    python benchmarks/input.py --torch=other-venv/bin/python --out=benchmarks/results/input.json

The files are FLAC, stereo, 44.1 kHz, 20 s; a clip is 10 s of one at a random place, mixed to mono
and resampled to 16 kHz. The DataLoader reads the files. This package reads the set prepared from
them, which is mono at 16 kHz already, and one prepared with --original, where it has the same
samples to decode and resample as the DataLoader. The comparison needs an interpreter that has torch
2.13.0 and soundfile; without --torch it is left out. Both sides run on the same cores, one worker a
core, in turn.
"""

import argparse
import csv
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import numpy as np
import soundfile
from absl import flags
from rich.console import Console
from rich.table import Table

from supclap_jax.config import default
from supclap_jax.data.batches import training_batches
from supclap_jax.data.flac import Form
from supclap_jax.data.layouts import read_layout
from supclap_jax.data.preparation import prepare
from supclap_jax.data.prepared import PreparedSplit, find_leaks, open_training
from supclap_jax.data.rows import Options
from supclap_jax.data.text import Tokenizer, train_tokenizer
from supclap_jax.train.loop import train

RATE, FILE_SECONDS, SECONDS, BATCH = 44_100, 20, 10.0, 16
ENGLISH = ("eng_Latn",)
MIB = 2**20


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few clips, under 2 minutes")
    parser.add_argument("--torch", help="a Python interpreter that has torch 2.13.0 and soundfile")
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    parser.add_argument("--scan", type=Path, help=argparse.SUPPRESS)  # this process only scans
    options = parser.parse_args()
    flags.FLAGS.mark_as_parsed()
    if options.scan:
        print(json.dumps(scan(options.scan)))
        return

    results = {"processors": os.cpu_count()}
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        files = write_files(folder / "files", 240)
        for name in ("set", "original"):
            shards = read_layout("table", folder / "files", Options())
            prepare(shards, folder / name, form=Form(original=name == "original"))
        results["reading"] = reading(folder, files, options)
        show("Training clips of 10 s", results["reading"])
        results["training"] = waiting(folder, steps=4 if options.quick else 16)
        show("A training run, CED-Tiny on this machine", [results["training"]])
        results["scan"] = scan_in_process(folder, 2_000 if options.quick else 100_000)
        show("A set prepared, then scanned", [results["scan"]])
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(results, indent=2) + "\n")


def write_files(folder: Path, count: int) -> list[str]:
    """Filtered noise, which FLAC packs about as well as field recordings.

    The training files repeat 22, for Grain takes a millisecond to shuffle a clip of so few.
    """
    folder.mkdir()
    rng = np.random.default_rng(0)
    rows = [("path", "caption", "split")]
    for number in range(count):
        split = ("validation", "test", "train")[min(number, 2)]
        path = folder / f"{number}.flac"
        if number < 24:
            noise = rng.normal(size=(RATE * FILE_SECONDS, 2)).astype(np.float32)
            smooth = noise[4:] + noise[3:-1] + noise[2:-2] + noise[1:-3] + noise[:-4]
            soundfile.write(path, 0.05 * smooth, RATE)
        else:
            shutil.copy(folder / f"{number - 22}.flac", path)
        rows.append(
            (f"{number}.flac", f"Wind {number} blows over a field while birds sing.", split)
        )
    with (folder / "clips.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return [str(path) for path in sorted(folder.glob("*.flac"))]


def reading(folder: Path, files: list[str], options) -> list[dict]:
    """Both sides in turn, on one core and on all; medians over the turns."""
    batches, turns = (8, 1) if options.quick else (32, 5)
    peer = Torch(options.torch) if options.torch else None
    rows = []
    for cores in sorted({1, os.cpu_count()}):
        os.sched_setaffinity(0, range(cores))
        mine, theirs = {"set": [], "original": []}, []
        for _ in range(turns):
            for name, speeds in mine.items():
                speeds.append(clips_per_second(folder / name, cores, batches))
            if peer:
                theirs.append(peer.clips_per_second(files, cores, batches))
        for name, speeds in mine.items():
            row = {"cores": cores, "stored": "default" if name == "set" else "--original"}
            row["clips/s/core"] = statistics.median(speeds) / cores
            if peer:
                row["torch clips/s/core"] = statistics.median(theirs) / cores
                ratios = [a / b for a, b in zip(speeds, theirs, strict=True)]
                row["ratio"] = statistics.median(ratios)
                row["lowest ratio"] = min(ratios)
            rows.append(row)
    os.sched_setaffinity(0, range(os.cpu_count()))
    if peer:
        peer.close()
    return rows


def clips_per_second(prepared: Path, workers: int, batches: int) -> float:
    """Of the training stream: records, captions, crops, resampling and tokens."""
    config = default()
    config.batch_size, config.audio.seconds, config.data.workers = BATCH, SECONDS, workers
    training = open_training(prepared, {}, ENGLISH)
    captions = training.some_captions(1_000)
    tokenizer = Tokenizer(train_tokenizer(captions, 300), 300)
    stream = training_batches(training, tokenizer, config)
    for _ in itertools.islice(stream, 8 * workers):
        pass
    began = time.perf_counter()
    for _ in itertools.islice(stream, batches):
        pass
    seconds = time.perf_counter() - began
    stream.close()
    return BATCH * batches / seconds


def waiting(folder: Path, steps: int) -> dict:
    """Share of a run's time in which the device waits for clips, after the first steps."""
    config = default()
    config.batch_size, config.total_steps, config.log_every = 8, steps, 1
    config.audio.update(dim=192, heads=3)
    config.text.update(dim=64, depth=2, heads=2, ffn_dim=128, vocab_size=300)
    config.data.path = str(folder / "set")
    config.evaluate.update(batch_size=8, resamples=10)
    train(config.lock(), folder / "run")
    logged = (folder / "run" / "metrics.jsonl").read_text().splitlines()
    measured = [line for line in map(json.loads, logged) if "data_wait" in line]
    return {
        "steps": len(measured),
        "clips/s": statistics.median(line["clips_per_second"] for line in measured),
        "device waits": statistics.mean(line["data_wait"] for line in measured),
    }


class Torch:
    """The DataLoader in its own interpreter, on the cores of this process."""

    def __init__(self, python: str):
        self._process = subprocess.Popen(
            [python, str(Path(__file__).with_name("torch_input.py"))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def clips_per_second(self, files: list[str], workers: int, batches: int) -> float:
        os.sched_setaffinity(self._process.pid, os.sched_getaffinity(0))
        request = {"files": files, "seconds": SECONDS, "batch": BATCH}
        request |= {"workers": workers, "batches": batches}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())["clips_per_second"]

    def close(self):
        self._process.stdin.close()
        self._process.wait()


def scan_in_process(folder: Path, clips: int) -> dict:
    """Prepares a table of many short clips and reads it back, in a process of its own."""
    source = folder / "many"
    source.mkdir()
    rng = np.random.default_rng(0)
    for number in range(110):  # the last ten for the clips held out
        noise = 0.1 * rng.normal(size=1_600)
        soundfile.write(source / f"{number}.wav", noise, 16_000)
    with (source / "clips.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "caption", "id", "split"))
        for number in range(clips):
            writer.writerow((f"{number % 100}.wav", f"Sound {number} is heard.", number, "train"))
        for number in range(clips, clips + clips // 100):
            place = 100 + number % 10
            writer.writerow((f"{place}.wav", f"Sound {number} is heard.", number, "test"))
    result = subprocess.run(
        [sys.executable, __file__, f"--scan={source}"], capture_output=True, text=True, check=True
    )
    return json.loads(result.stdout)


def scan(source: Path) -> dict:
    """Prepares, reads every record with its captions, and compares the keys of all clips."""
    began = time.perf_counter()
    report = prepare(read_layout("table", source, Options()), source.with_name("scanned"))
    prepared = time.perf_counter()
    train, test = (
        PreparedSplit(source.with_name("scanned"), split, ENGLISH) for split in ("train", "test")
    )
    clips = train.clips()
    read = time.perf_counter()
    leaks = find_leaks([train], [test])
    return {
        "clips": len(clips),
        "prepared, clips/s": round(report["read"] / (prepared - began)),
        "read back, clips/s": round(len(clips) / (read - prepared)),
        "leaks": len(leaks),
        "peak memory MiB": peak_memory_mib(),
    }


def peak_memory_mib() -> int:
    """Of this process alone: getrusage would count what its parent had when it began."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 // MIB


def show(title: str, rows: list[dict]) -> None:
    table = Table(title=title)
    for name in rows[0]:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*(f"{x:,.2f}" if isinstance(x, float) else str(x) for x in row.values()))
    Console().print(table)


if __name__ == "__main__":
    main()
