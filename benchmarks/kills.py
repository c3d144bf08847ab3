"""One training run killed again and again at random moments, against the same run left alone.

    python benchmarks/kills.py --kills=5
    python benchmarks/kills.py --out=benchmarks/results/kills.json

Every kill is SIGKILL to the training process and its data workers, in turns

- step: when a start has made a random number of steps;
- start-up: a random time after the start, while it imports, compiles or restores;
- checkpoint: while a checkpoint is being written;
- validation: as soon as a step is done after which it validates;

and one of ten, at the end, while the trained model is evaluated. In the end all parameters,
optimizer states, losses and results must be the same bit for bit. Tiny encoders, a checkpoint at
every fifth step.
"""

import argparse
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from supclap_jax.data.soundscape import Soundscape
from supclap_jax.data.soundscape_files import write_clotho
from supclap_jax.runs.checkpoints import UNNAMED
from supclap_jax.runs.run import Run

RECIPE = Path(__file__).parents[1] / "tests" / "tiny.py"
STEPS_PER_KILL = 40
VALIDATE_EVERY = 20
STARTUP = 8.0  # seconds
KINDS = ("step", "start-up", "checkpoint", "validation")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=50, help="default: 50")
    parser.add_argument("--seed", type=int, default=0, help="of the moments; default: 0")
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    steps = options.kills * STEPS_PER_KILL
    with tempfile.TemporaryDirectory() as folder:
        data, killed, alone = (Path(folder) / name for name in ("data", "killed", "alone"))
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", f"{folder}/cache")
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
        write_clotho(Soundscape(seconds=2.0), data, 40, workers=1)
        finish(start(data, alone, steps))
        begin, kinds = partial(start, data, killed, steps), itertools.cycle(KINDS)
        at_the_end = options.kills // 10
        moments = [
            (kind, kill_once(rng, begin, killed, kind))
            for kind in track([next(kinds) for _ in range(options.kills - at_the_end)], "killing")
        ]
        finish(begin())
        for _ in range(at_the_end):
            (killed / "evaluation.json").unlink()
            moments.append(("evaluation", kill_once(rng, begin, killed, "evaluation")))
            finish(begin())
        results = {
            "steps": steps,
            "kills": dict(Counter(kind for kind, made in moments if made is not None)),
            "ended before they were killed": [made for _, made in moments].count(None),
            "kills before the first step of a start": [made for _, made in moments].count(0),
            "checkpoints found damaged": len(list((killed / "damaged").glob("*"))),
            "states equal": states_equal(killed, alone, steps),
            "losses equal": losses(killed) == losses(alone),
            "results equal": evaluation(killed) == evaluation(alone),
        }
    table = Table(title="Killed, against left alone", show_header=False)
    for name, value in results.items():
        table.add_row(name, str(value))
    Console().print(table)
    if options.out:
        options.out.write_text(json.dumps(results, indent=2) + "\n")
    sys.exit(not all(results[f"{what} equal"] for what in ("states", "losses", "results")))


def start(data: Path, workdir: Path, steps: int) -> subprocess.Popen:
    keys = {
        "data.path": data, "total_steps": steps, "eval_every": VALIDATE_EVERY,
        "checkpoint_every": 5,
        "keep_last": 2, "data.workers": 1,
    }  # fmt: skip
    command = [sys.executable, "-m", "supclap_jax.cli", "train", f"--config={RECIPE}:dynamic"]
    command += [f"--workdir={workdir}", *(f"--config.{key}={value}" for key, value in keys.items())]
    return subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL)


def finish(process: subprocess.Popen) -> None:
    if process.wait():
        sys.exit(f"a run ended with code {process.returncode}")


def kill_once(rng: random.Random, begin, workdir: Path, kind: str) -> int | None:
    """Steps that this start had made when it was killed; None if it ended before."""
    run, before = Run(workdir), len(Run(workdir).history)
    began, process = time.monotonic(), begin()
    after_steps, after_seconds = rng.randint(1, 2 * STEPS_PER_KILL), rng.uniform(0, STARTUP)
    made, first = 0, None
    while process.poll() is None:
        if len(run.history) > before and first is None:
            first = run.history[-1]["step"]
        newest = max([line["step"] for line in run.metrics()], default=0)
        made = 0 if first is None else max(newest - first, 0)
        is_due = {
            "step": made >= after_steps,
            "start-up": time.monotonic() - began > after_seconds,
            "checkpoint": made > 0 and any(workdir.glob(f"checkpoints/{UNNAMED}")),
            "validation": made > 0 and newest % VALIDATE_EVERY == 0,
            "evaluation": time.monotonic() - began > STARTUP / 2 + after_seconds,
        }
        if is_due[kind]:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return made
        time.sleep(0.005)
    return None


def losses(workdir: Path) -> list[dict]:
    return [
        {key: value for key, value in line.items() if key == "step" or "loss" in key or "/" in key}
        for line in Run(workdir).metrics()
    ]


def evaluation(workdir: Path) -> dict:
    """What was measured, without where."""
    report = json.loads((workdir / "evaluation.json").read_text())
    return {key: value for key, value in report.items() if key != "made_by"}


def states_equal(workdir: Path, other: Path, step: int) -> bool:
    found = [Run(folder).restore(step)[1] for folder in (workdir, other)]
    pairs = zip(*map(jax.tree.leaves, jax.device_get(found)), strict=True)
    return all(np.array_equal(mine, theirs) for mine, theirs in pairs)


if __name__ == "__main__":
    main()
