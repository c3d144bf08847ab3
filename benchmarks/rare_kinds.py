"""How runs do on kinds of sound that were rare in their training, and on common ones.

    python benchmarks/rare_kinds.py runs/study_data --data=runs/soundscape --out=rare_kinds.csv

For every run of a sweep on soundscapes: single sounds among the test clips of `--data`, which has
all kinds alike often, whatever the run was trained on. The rare half of the kinds are those of a
high rank in a skewed set. Zero-shot accuracy, and R@1 of both directions among all test clips, in
percent; a column `difference` beside each is to the run of the same seed without SVR. The table has
means over seeds, and of the differences Student's t intervals of 95 %.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import numpy as np

from paired import write
from supclap_jax.data.opening import load_clips
from supclap_jax.data.sound_events import KINDS
from supclap_jax.evaluate.scoring import score
from supclap_jax.inference.embedder import Embedder
from supclap_jax.models.dual_encoder import make_model
from supclap_jax.runs.mesh import batch_sharding, make_mesh
from supclap_jax.runs.run import Run
from supclap_jax.runs.states import variables_of

HALF = len(KINDS) // 2
METRICS = ("accuracy", "R@1_text_to_audio", "R@1_audio_to_text")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sweep", type=Path, help="its folder")
    parser.add_argument("--data", required=True, help="soundscape with all kinds alike often")
    parser.add_argument("--out", type=Path, required=True, help="CSV file")
    options = parser.parse_args()
    rows = []
    for workdir in sorted((options.sweep / "runs").iterdir()):
        if (workdir / "evaluation.json").is_file():
            rows += measure(Run(workdir), options.data)
            print(*rows[-2:], sep="\n")
    write(rows, options.out, METRICS, ("data", "kinds", "seed"))


def measure(run: Run, data: str) -> list[dict]:
    """A row for the common kinds, one for the rare ones."""
    config = run.config.copy_and_resolve_references()
    trained_on, config.data.path = config.data.path, data
    clips = load_clips(config, "test")
    sharding = batch_sharding(make_mesh(1, config.evaluate.batch_size))
    embedder = Embedder(make_model(config), run.tokenizer, config, sharding)
    states = run.restore()[1]
    scores = score(embedder, variables_of(states.dual, config), clips, config)
    retrieval = scores.retrieval[config.data.languages[0]]
    rank = np.array([KINDS.index(labels[0]) if labels else -1 for labels in clips.labels])
    rows = []
    for kinds, chosen in (("common", (rank >= 0) & (rank < HALF)), ("rare", rank >= HALF)):
        found = scores.zero_shot.classification
        of_classified = chosen[rank >= 0]
        rows.append(
            {
                "name": run.workdir.name,
                "data": Path(trained_on).name,
                "radius": config.loss.svr.radius,
                "seed": config.seed,
                "kinds": kinds,
                "clips": int(chosen.sum()),
                "accuracy": 100 * float(found.correct[of_classified].mean()),
                **{
                    f"R@1_{direction}": 100 * float((q.rank == 1)[chosen[q.clip]].mean())
                    for direction, q in retrieval._asdict().items()
                },
            }
        )
    return rows


if __name__ == "__main__":
    main()
