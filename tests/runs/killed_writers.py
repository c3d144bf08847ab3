"""Kills writers of files between the last byte and the rename, each in a process of its own.

    python -m tests.runs.killed_writers FOLDER SOUNDSCAPE

Every subfolder of FOLDER is called as the file that is being written into it. A place where the
writer is not killed is an error.
"""

import os
import signal
import sys
from contextlib import closing
from pathlib import Path

import jax.numpy as jnp

from supclap_jax.config import load
from supclap_jax.data.opening import load_clips
from supclap_jax.data.splits import SPLITS
from supclap_jax.evaluate.evaluation import evaluate_run
from supclap_jax.inference.weights_export import export_weights
from supclap_jax.runs.checkpoints import Checkpoints
from supclap_jax.runs.metrics import MetricsWriter
from supclap_jax.runs.run import Run
from supclap_jax.runs.states import States
from tests import tiny


def claim(folder: Path, soundscape: Path) -> None:
    config = tiny.get_config("info_nce")
    config.data.path = str(soundscape)
    clips = load_clips(config, "validation")
    Run(folder).claim(config, dict.fromkeys(SPLITS, clips))


def claim_again(folder: Path, soundscape: Path) -> None:
    """With one of the fields that may change."""
    config = load(folder / "config.json").copy_and_resolve_references()
    config.keep_last += 1
    Run(folder).claim(config, {})


def small_states() -> States:
    return States(dual={"w": jnp.arange(3.0)}, radius={})


def save(folder: Path, _: Path) -> None:
    with closing(Checkpoints(folder, keep_last=2)) as checkpoints:
        checkpoints.save(small_states(), 1)


WRITERS = {
    "config.json": claim,
    "config.json again": claim_again,
    "data.json": claim,
    "tokenizer.model": claim,
    "metrics.jsonl": lambda folder, _: MetricsWriter(folder, start_step=4),
    "sums.json": save,
    "evaluation.json": lambda folder, _: evaluate_run(folder),
    "dual.safetensors": lambda folder, _: export_weights(folder, folder / "out", None, "ml-clap"),
}


def kill_while_replacing(name: str) -> None:
    """From now on this process dies where it would have put the finished file in its place."""
    replace = os.replace

    def replace_or_die(source, target):
        if Path(target).name == name:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)

    os.replace = replace_or_die


def main(folder: Path, soundscape: Path) -> None:
    for name, write in WRITERS.items():
        child = os.fork()  # before anything of JAX has started a thread
        if not child:
            kill_while_replacing(name.removesuffix(" again"))
            write(folder / name, soundscape)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGKILL:
            sys.exit(f"{name}: the writer was not killed, but ended with {status}")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
