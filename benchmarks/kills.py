"""One training run killed again and again at random moments, against the same run left alone.

    python benchmarks/kills.py --kills=5
    python benchmarks/kills.py --out=benchmarks/results/kills.json

Every kill is SIGKILL to the training process and its data workers. Two of three come when the run
has made a random number of steps since its start, the third a random time after its start, while it
imports, compiles or restores. In the end all parameters, optimizer states and losses must be the
same bit for bit. Tiny encoders, a checkpoint at every fifth step; ten minutes on two cores.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from supclap_jax.data.soundscape import Soundscape
from supclap_jax.data.soundscape_files import write_clotho
from supclap_jax.runs.run import Run

RECIPE = Path(__file__).parents[1] / "tests" / "tiny.py"
STEPS_PER_KILL = 40
STARTUP = 8.0  # seconds


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
        moments = [
            kill_once(rng, lambda: start(data, killed, steps), killed, by_time=number % 3 == 2)
            for number in track(range(options.kills), "killing")
        ]
        finish(start(data, killed, steps))
        results = {
            "steps": steps,
            "kills": len([moment for moment in moments if moment is not None]),
            "kills before the first step of a start": moments.count(0),
            "steps done twice": sum(moment or 0 for moment in moments) - steps_kept(killed),
            "checkpoints found damaged": len(list((killed / "damaged").glob("*"))),
            "states equal": states_equal(killed, alone, steps),
            "losses equal": losses(killed) == losses(alone),
        }
    table = Table(title="Killed, against left alone", show_header=False)
    for name, value in results.items():
        table.add_row(name, str(value))
    Console().print(table)
    if options.out:
        options.out.write_text(json.dumps(results, indent=2) + "\n")
    sys.exit(not (results["states equal"] and results["losses equal"]))


def start(data: Path, workdir: Path, steps: int) -> subprocess.Popen:
    keys = {
        "data.path": data, "total_steps": steps, "eval_every": steps, "checkpoint_every": 5,
        "keep_last": 2, "data.workers": 1,
    }  # fmt: skip
    command = [sys.executable, "-m", "supclap_jax.cli", "train", f"--config={RECIPE}:dynamic"]
    command += [f"--workdir={workdir}", *(f"--config.{key}={value}" for key, value in keys.items())]
    return subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL)


def finish(process: subprocess.Popen) -> None:
    if process.wait():
        sys.exit(f"a run ended with code {process.returncode}")


def kill_once(rng: random.Random, begin, workdir: Path, by_time: bool) -> int | None:
    """Steps that this start had made when it was killed; None if it ended before."""
    began, process = time.monotonic(), begin()
    after_steps = 10**9 if by_time else rng.randint(1, 2 * STEPS_PER_KILL)
    after_seconds = rng.uniform(0, STARTUP) if by_time else 10**9
    before, starts = len(Run(workdir).history), None
    made = 0
    while process.poll() is None:
        history = Run(workdir).history
        if len(history) > before:
            starts = history[-1]["step"]
        if starts is not None:
            made = max([line["step"] for line in Run(workdir).metrics()], default=0) - starts
        if made >= after_steps or time.monotonic() - began > after_seconds:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return max(made, 0)
        time.sleep(0.01)
    return None


def steps_kept(workdir: Path) -> int:
    """Steps that the last start found done."""
    return Run(workdir).history[-2]["step"]


def losses(workdir: Path) -> dict[int, float]:
    return {line["step"]: line["loss"] for line in Run(workdir).metrics() if "loss" in line}


def states_equal(workdir: Path, other: Path, step: int) -> bool:
    found = [Run(folder).restore(step)[1] for folder in (workdir, other)]
    pairs = zip(*map(jax.tree.leaves, jax.device_get(found)), strict=True)
    return all(np.array_equal(mine, theirs) for mine, theirs in pairs)


if __name__ == "__main__":
    main()
