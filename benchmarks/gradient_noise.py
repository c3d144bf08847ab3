"""How much gradients differ between batches, at the kept checkpoints of the runs of a sweep.

    python benchmarks/gradient_noise.py runs/study_scratch --out=benchmarks/results/study/noise.csv

Of each checkpoint in `keep_steps` of a run that is evaluated: parameters frozen, dropout as in
training, the gradient of the dual encoder's parameters on 16 batches of training clips, from a part
of the stream that no run reached. The mean of these has a length, and around it a variance, the
trace of the covariance; their ratio is the noise scale of arXiv 1812.06162 for one batch. It
continues a file that is there.
"""

import argparse
import csv
import os
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import numpy as np

from supclap_jax.data.batches import training_batches
from supclap_jax.data.opening import load_training
from supclap_jax.runs.mesh import make_mesh, put_batch
from supclap_jax.runs.run import Run
from supclap_jax.runs.states import split_seed
from supclap_jax.train.step import make_gradients

BATCHES = 16
UNSEEN = 1_000_000  # step of the stream that they begin at
COLUMNS = ("name", "step", "length_of_mean", "mean_of_lengths", "variance", "noise_scale")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sweep", type=Path, help="its folder")
    parser.add_argument("--out", type=Path, required=True, help="CSV file")
    options = parser.parse_args()
    done = set()
    if options.out.is_file():
        with options.out.open(newline="") as file:
            done = {(row["name"], int(row["step"])) for row in csv.DictReader(file)}
    else:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(",".join(COLUMNS) + "\n")
    for workdir in sorted((options.sweep / "runs").iterdir()):
        run = Run(workdir)
        if not (workdir / "evaluation.json").is_file():
            continue
        steps = [step for step in run.config.keep_steps if (workdir.name, step) not in done]
        for step, measured in zip(steps, measure(run, steps), strict=True):
            with options.out.open("a", newline="") as file:
                csv.writer(file).writerow([workdir.name, step, *measured])
            print(workdir.name, step, *(f"{x:.4g}" for x in measured), flush=True)


def measure(run: Run, steps: list[int]):
    """What `COLUMNS` names of each step, from "length_of_mean" on."""
    if not steps:
        return
    config = run.config.copy_and_resolve_references()
    config.data.workers = 0
    mesh = make_mesh(1, config.batch_size)
    stream = training_batches(load_training(config), run.tokenizer, config, UNSEEN)
    batches = [put_batch(next(stream), mesh) for _ in range(BATCHES)]
    gradients = make_gradients(config, mesh)

    @jax.jit
    def flat(states, batch, number):
        key = jax.random.fold_in(split_seed(config.seed)[2], number)
        dual = states.dual
        (gradient, _), _, _ = gradients(
            dual.params, states.radius.params, dual.batch_stats, batch, key
        )
        return jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(gradient)])

    for step in steps:
        states = run.restore(step, mesh)[1]
        rows = np.stack(
            [
                np.asarray(flat(states, batch, UNSEEN + i), np.float64)
                for i, batch in enumerate(batches)
            ]
        )
        lengths, mean = np.linalg.norm(rows, axis=1), rows.mean(axis=0)
        variance = float(np.square(rows - mean).sum() / (BATCHES - 1))
        square_of_mean = float(mean @ mean) - variance / BATCHES  # without bias
        yield (
            np.sqrt(max(square_of_mean, 0.0)),
            lengths.mean(),
            variance,
            variance / square_of_mean if square_of_mean > 0 else np.inf,
        )


if __name__ == "__main__":
    main()
