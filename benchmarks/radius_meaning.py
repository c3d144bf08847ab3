"""What predicted radii follow: Spearman correlations over the test clips of the runs of a sweep.

    python benchmarks/radius_meaning.py runs/study_scratch --out=benchmarks/results/study/radii.csv

Of each checkpoint in `keep_steps` of a run with dynamic radii: test clips and their first captions
are embedded, dealt into batches of the training's size, and each query's radius is predicted from
its batch. It is correlated with the distance of the pair, with how similar its hardest negative is
(the greatest cosine), with the density of hard negatives (how many of its batch come within 0.1 of
the own pair's cosine, or above), and with how wrong it is: its rank among all test clips.
"""

import argparse
import csv
import os
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import numpy as np
from scipy.stats import spearmanr

from supclap_jax.data.opening import load_clips
from supclap_jax.inference.embedder import Embedder
from supclap_jax.models.dual_encoder import make_model
from supclap_jax.models.radius import make_radius_model
from supclap_jax.runs.mesh import batch_sharding, make_mesh
from supclap_jax.runs.run import Run
from supclap_jax.runs.states import variables_of

NEAR = 0.1  # of the own pair's cosine
WITH = ("distance", "hardest_negative", "hard_negatives", "rank")
COLUMNS = ("name", "step", "query", "mean", "deviation", *WITH)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sweep", type=Path, help="its folder")
    parser.add_argument("--out", type=Path, required=True, help="CSV file")
    options = parser.parse_args()
    with options.out.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for workdir in sorted((options.sweep / "runs").iterdir()):
            run = Run(workdir)
            is_done = (workdir / "evaluation.json").is_file()
            if not is_done or run.config.loss.svr.radius != "dynamic":
                continue
            for row in measure(run):
                writer.writerow([workdir.name, *row])
                print(workdir.name, *(f"{x:.3g}" if isinstance(x, float) else x for x in row))


def measure(run: Run):
    """What `COLUMNS` names, from "step" on."""
    config = run.config
    mesh = make_mesh(1, config.batch_size)
    clips = load_clips(config, "test")
    embedder = Embedder(make_model(config), run.tokenizer, config, batch_sharding(mesh))
    language = config.data.languages[0]
    captions = [texts[0] for texts in clips.captions[language]]
    order = np.random.default_rng(0).permutation(len(clips))
    batches = order[: len(order) // config.batch_size * config.batch_size]
    batches = batches.reshape(-1, config.batch_size)
    for step in config.keep_steps:
        states = run.restore(step, mesh)[1]
        variables = variables_of(states.dual, config)
        audio = embedder.audio(variables, clips)
        text = embedder.text(variables, captions, language)
        scale = embedder.logit_scale(variables)
        whole = audio @ text.T
        ranks = {
            "text": 1 + (whole > np.diag(whole)).sum(axis=0),
            "audio": 1 + (whole > np.diag(whole)[:, None]).sum(axis=1),
        }
        model = make_radius_model(config)
        found = {"text": [], "audio": []}
        for batch in batches:
            cosines = whole[np.ix_(batch, batch)]
            radii = model.apply({"params": states.radius.params}, scale * cosines)
            for query, of_query in (("audio", cosines), ("text", cosines.T)):
                own = np.diag(of_query)
                others = of_query[~np.eye(len(batch), dtype=bool)].reshape(len(batch), -1)
                found[query].append(
                    [
                        np.asarray(radii[f"{query}_radius"]),
                        np.sqrt(2 - 2 * own),
                        others.max(axis=1),
                        (others > own[:, None] - NEAR).sum(axis=1),
                        ranks[query][batch],
                    ]
                )
        for query, parts in found.items():
            radius, *rest = np.concatenate(parts, axis=1)
            correlations = [float(spearmanr(radius, other).statistic) for other in rest]
            yield [step, query, float(radius.mean()), float(radius.std()), *correlations]


if __name__ == "__main__":
    main()
