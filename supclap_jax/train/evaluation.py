"""Evaluation of a run's checkpoint on the evaluation split: tables, JSON and figures."""

import json
from pathlib import Path

from supclap_jax.evaluate.embed import Embedder
from supclap_jax.evaluate.figures import similarity_figure, training_figures
from supclap_jax.evaluate.report import evaluate, tables
from supclap_jax.train.checkpoint import open_run
from supclap_jax.train.logging import console
from supclap_jax.train.loop import load_clips, variables_of
from supclap_jax.train.mesh import batch_sharding, make_mesh
from supclap_jax.train.state import abstract_states, make_model
from supclap_jax.train.workdir import load_tokenizer

CLIPS_IN_FIGURE = 12


def evaluate_run(workdir: Path, step: int | None = None, out: Path | None = None) -> None:
    """Prints the tables of a checkpoint; those of the best one go into `workdir`, with figures.

    Args:
      workdir: of the run.
      step: of the checkpoint; by default the best on validation. A checkpoint asked for leaves
        `workdir` as it is.
      out: a further file for the JSON.

    Raises:
      ConfigError: there is no run, or no such checkpoint.
      DataError: the data of the run cannot be read.
    """
    best = step is None
    config, checkpoints, step = open_run(workdir, step)
    clips = load_clips(config, "evaluation")
    mesh = make_mesh(config.mesh.data, config.batch_size)
    state, _ = checkpoints.restore(step, abstract_states(config, mesh))
    checkpoints.close()
    variables = variables_of(state, config)
    tokenizer = load_tokenizer(config, workdir)
    embedder = Embedder(make_model(config), tokenizer, config, batch_sharding(mesh))

    with console.status(f"evaluating step {step} on {len(clips):,} clips"):
        report = {"step": step, **evaluate(embedder, variables, clips, config)}
    for table in tables(report):
        console.print(table)
    console.print(f"Checkpoint of step {step}.")
    reports = [workdir / "evaluation.json"] * best + [out] * (out is not None)
    for path in reports:
        path.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    figures = _draw(workdir, config, embedder, variables, clips) if best else []
    for path in [*reports, *figures]:
        console.print(f"Written: {path}", soft_wrap=True)


def _draw(workdir: Path, config, embedder: Embedder, variables: dict, clips) -> list[Path]:
    folder = workdir / "figures"
    figures = training_figures(workdir / "metrics.jsonl", folder)
    few = clips.select(range(min(CLIPS_IN_FIGURE, len(clips))))
    language = config.data.languages[0]
    captions = [texts[0] for texts in few.captions[language]]
    similarity = embedder.text(variables, captions, language) @ embedder.audio(variables, few).T
    return [*figures, similarity_figure(similarity, captions, folder / "similarity.png")]
