"""Retrieval evaluation of a large set: exact ranks and intervals, in a small amount of memory.

    python benchmarks/evaluation.py --quick
    python benchmarks/evaluation.py --out=benchmarks/results/evaluation.json

20,000 clips and 100,000 captions, unit rows of 1,024 numbers, ranked in both directions and
bootstrapped with 1,000 resamples; a tenth of the clips and their captions are copies of others, so
that there are ties. The ranks of 200 captions and 200 clips are then checked against a plain count
over whole rows of scores. Peak memory is that of the process, libraries and inputs included.
"""

import argparse
import json
import os
import resource
import time
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import numpy as np
from rich.console import Console
from rich.table import Table

from supclap_jax.evaluate.bootstrap import bootstrap_retrieval, interval
from supclap_jax.evaluate.retrieval import exact_similarity, rank_embeddings

DIM = 1024
CHECKED = 200


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="2,000 clips and 10,000 captions")
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    options = parser.parse_args()
    clips = 2_000 if options.quick else 20_000

    audio, text, owner = embeddings(clips)
    before = peak_mebibytes()
    began = time.perf_counter()
    retrieval = rank_embeddings(audio, text, owner)
    ranked = time.perf_counter()
    estimates = bootstrap_retrieval(retrieval, seed=0)
    done = time.perf_counter()
    peak = peak_mebibytes()
    check(retrieval, audio, text, owner)

    result = {
        "clips": clips,
        "captions": len(text),
        "dim": DIM,
        "cores": len(os.sched_getaffinity(0)),
        "ranking_seconds": ranked - began,
        "bootstrap_seconds": done - ranked,
        "peak_mebibytes_before": before,
        "peak_mebibytes": peak,
        "R@1": {direction: interval(metrics["R@1"]) for direction, metrics in estimates.items()},
    }
    table = Table(title=f"{clips:,} clips, {len(text):,} captions, {result['cores']} cores")
    for name in ("ranking", "bootstrap", "peak memory", "of that inputs and libraries"):
        table.add_column(name, justify="right")
    table.add_row(
        f"{ranked - began:.1f} s", f"{done - ranked:.1f} s", f"{peak:,} MiB", f"{before:,} MiB"
    )
    Console().print(table)
    print(f"ranks of {CHECKED} captions and {CHECKED} clips agree with a plain count")
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n")


def embeddings(clips: int):
    """Clips, five captions near each, and the clip of each caption; a tenth are copies."""
    rng = np.random.default_rng(0)
    audio = rng.standard_normal((clips, DIM), np.float32)
    audio /= np.linalg.norm(audio, axis=1, keepdims=True)
    owner = np.repeat(np.arange(clips), 5)
    text = rng.standard_normal((len(owner), DIM), np.float32)
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    for start in range(0, len(text), 4096):
        rows = slice(start, start + 4096)
        text[rows] = 0.985 * text[rows] + 0.17 * audio[owner[rows]]
        text[rows] /= np.linalg.norm(text[rows], axis=1, keepdims=True)
    copies = clips // 10
    audio[-copies:] = audio[:copies]
    text[-5 * copies :] = text[: 5 * copies]
    return audio, text, owner


def check(retrieval, audio, text, owner):
    """Raises AssertionError unless a sample of ranks is as counted from whole rows of scores."""
    rng = np.random.default_rng(1)
    tied = 0
    for caption in rng.choice(len(text), CHECKED, replace=False):
        scores = exact_similarity(text[caption : caption + 1], audio)[0]
        own = owner[caption]
        assert retrieval.text_to_audio.rank[caption] == np.count_nonzero(scores >= scores[own])
        tied += np.count_nonzero(scores == scores[own]) > 1
    for clip in rng.choice(len(audio), CHECKED, replace=False):
        scores = exact_similarity(audio[clip : clip + 1], text)[0]
        own = owner == clip
        best = scores[own].max()
        ahead = np.count_nonzero(scores[~own] >= best)
        assert retrieval.audio_to_text.rank[clip] == 1 + ahead
    assert tied, "the sample holds no tie"


def peak_mebibytes() -> int:
    """Of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    main()
