"""The driver of an evaluation: from a run's checkpoint to tables, JSON and figures."""

import dataclasses
import json
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from supclap_jax.console import console, working
from supclap_jax.data.batches import count_longer
from supclap_jax.data.clips import Clips
from supclap_jax.data.opening import load_clips
from supclap_jax.data.prepared import PreparedSplit, find_leaks, is_prepared
from supclap_jax.data.text_counts import TextCounts, count_captions, told
from supclap_jax.errors import CannotWrite, ConfigError, DataError
from supclap_jax.evaluate import zero_shot
from supclap_jax.evaluate.figures import confusion_figure, similarity_figure, training_figures
from supclap_jax.evaluate.per_clip import write_per_clip
from supclap_jax.evaluate.report import (
    Scores,
    captioned,
    compare,
    estimate,
    report,
    score,
)
from supclap_jax.evaluate.tables import tables
from supclap_jax.files import write_whole
from supclap_jax.inference.embedder import Embedder
from supclap_jax.models.dual_encoder import make_model
from supclap_jax.models.tokens import check_languages
from supclap_jax.runs.mesh import batch_sharding, mesh_at_hand
from supclap_jax.runs.processes import is_first
from supclap_jax.runs.provenance import provenance
from supclap_jax.runs.run import Run
from supclap_jax.runs.states import variables_of

CLIPS_IN_FIGURE = 12


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What to evaluate, beside the best checkpoint on the run's own evaluation split.

    Attributes:
      step: another checkpoint.
      data: another data folder, of one set.
      split: of the data: train, validation, test or another that a prepared set has.
      languages: of captions, others than the run was trained on.
      prompts: file of zero-shot templates.
      long_audio: "crop" or "windows", as of `config.evaluate`, other than the run says.
      classes: file of the classes to choose among, others than the set's list names.
      metric_styles: whose metrics to show beside the correct ones, of `metric_styles.STYLES`.
      relevance: file of annotated queries, for the style "dcase".
      against: folder of a run to compare with, at its best checkpoint.
    """

    step: int | None = None
    data: Path | None = None
    split: str = "test"
    languages: tuple[str, ...] = ()
    prompts: Path | None = None
    classes: Path | None = None
    long_audio: str | None = None
    metric_styles: tuple[str, ...] = ()
    relevance: Path | None = None
    against: Path | None = None


def evaluate_run(
    workdir: Path, evaluation: Evaluation = Evaluation(), out: Path | None = None
) -> None:
    """Prints the tables of a checkpoint.

    The plain evaluation also goes into `workdir`, with figures; any other leaves it as it is.

    Args:
      workdir: of the run.
      evaluation: what to evaluate.
      out: a further file for the JSON; a confusion matrix goes beside it, as `.confusion.png`.

    Raises:
      ConfigError: options do not go together, or `out` cannot be written.
      RunError: as `Run.restore`.
      DataError: the data cannot be read, or differ from those of the run to compare with.
      CannotWrite: the results, which are printed by then, cannot be written.
    """
    if evaluation.relevance and "dcase" not in evaluation.metric_styles:
        raise ConfigError("--relevance is only used by --metric-style=dcase; add that, or leave it")
    if out is not None and (out.is_dir() or not out.parent.is_dir()):
        raise ConfigError(f"cannot write {str(out)!r}; expected a file in an existing folder")
    templates = zero_shot.PROMPTS
    if evaluation.prompts:
        templates = zero_shot.read_prompts(evaluation.prompts)
    classes = zero_shot.read_classes(evaluation.classes) if evaluation.classes else ()
    options = {"templates": templates, "classes": classes, "relevance": evaluation.relevance}

    run = _Subject(workdir, evaluation.step, evaluation)
    other = _Subject(evaluation.against, None, evaluation) if evaluation.against else None
    clips = load_clips(run.config, evaluation.split)
    if (evaluation.prompts or evaluation.classes) and not any(clips.labels):
        raise ConfigError(
            "--prompts and --classes are for clips with labels, and none of these has one"
        )
    if other:
        other.config.evaluate.long_audio = run.config.evaluate.long_audio
        _check_same_clips(run, clips, other, evaluation.split)
    leaks = find_trained_on(run, evaluation.split) if evaluation.data else None
    run.restore()
    with working(f"evaluating step {run.step} on {len(clips):,} clips"):
        scores = score(run.embedder, run.variables, clips, run.config, **options)
        estimates = estimate(scores, run.config)
        styles = evaluation.metric_styles
        result = {"step": run.step, **report(scores, estimates, templates=templates, styles=styles)}
    result["texts"] = run.count_captions(clips, list(scores.retrieval))._asdict()
    result["audio"] = {
        "longer": count_longer(clips, run.config.audio.seconds),
        "long_audio": run.config.evaluate.long_audio,
    }
    result["made_by"] = {
        "run": str(workdir),
        "data": str(run.config.data.path),
        "split": evaluation.split,
        "clips": clips.fingerprint(),
        **provenance(run.config),
    }
    if leaks is not None:
        result["trained_on"] = len(leaks)
    if other:
        other.restore()
        with working(f"evaluating step {other.step} of the other run"):
            their_scores = score(other.embedder, other.variables, clips, other.config, **options)
            result["against"] = {
                "workdir": str(evaluation.against),
                "step": other.step,
                **compare(estimates, estimate(their_scores, run.config)),
            }
    plain = evaluation == Evaluation()
    examples = _similarities(run, clips) if plain else None
    if not is_first():
        return
    _print(result, leaks, run.config)
    try:
        if plain:
            figures = workdir / "figures"
            _write(result, workdir / "evaluation.json", scores, figures / "confusion.png")
            write_per_clip(workdir, clips, scores)
            _tell(training_figures(workdir / "metrics.jsonl", figures))
        if examples:
            _tell([similarity_figure(*examples, figures / "similarity.png")])
        if out is not None:
            _write(result, out, scores, out.with_suffix(".confusion.png"))
    except OSError as error:
        raise CannotWrite(f"the results above cannot be written: {error}") from error


class _Subject:
    """A checkpoint to evaluate: `config` and `step`; once restored `variables` and `embedder`.

    The config's data are those of the evaluation; `training` holds the folders that the run was
    trained on.
    """

    def __init__(self, workdir: Path, step: int | None, evaluation: Evaluation):
        self._run = Run(workdir)
        self.config, self.step = self._run.config, self._run.find_step(step)
        data = self.config.data
        self.training = [Path(data.path) / name for name in data.mixture] or [Path(data.path)]
        if evaluation.data is not None:
            data.update(path=str(evaluation.data), evaluation="")
            data.mixture = ConfigDict()
        if evaluation.languages:
            data.languages = evaluation.languages
        if evaluation.long_audio is not None:
            self.config.evaluate.long_audio = evaluation.long_audio
        check_languages(data.languages, self.config.text.vocab_size)

    def count_captions(self, clips: Clips, languages: list[str]) -> TextCounts:
        """What becomes of the captions that are ranked."""
        captions = (
            {language: clips.captions[language][index] for language in languages}
            for index in captioned(clips, languages)
        )
        return count_captions(captions, self._run.tokenizer, self.config.text.max_tokens)

    def restore(self) -> None:
        """Reads the parameters and the tokenizer."""
        config = self.config
        mesh = mesh_at_hand(config)
        _, states = self._run.restore(self.step, mesh)
        self.variables = variables_of(states.dual, config)
        self.embedder = Embedder(
            make_model(config), self._run.tokenizer, config, batch_sharding(mesh)
        )


def find_trained_on(run: _Subject, split: str) -> list[tuple[str, str]] | None:
    """Training clips of a run whose recording or audio is among what is evaluated.

    Returns:
      As `find_leaks`; None where the two are not all prepared sets, and not to be compared.
    """
    held_out, languages = Path(run.config.data.path), run.config.data.languages
    if not all(is_prepared(folder) for folder in (held_out, *run.training)):
        return None
    training = [PreparedSplit(folder, "train", languages) for folder in run.training]
    return find_leaks(training, [PreparedSplit(held_out, split, languages)])


def _check_same_clips(run: _Subject, clips: Clips, other: _Subject, split: str) -> None:
    if other.config.data == run.config.data:
        return
    theirs = load_clips(other.config, split)
    if clips.fingerprint() != theirs.fingerprint():
        raise DataError(
            f"the two runs have different evaluation clips or captions: {len(clips)} clips with "
            f"{', '.join(clips.captions)} in {run.config.data.path!r}, {len(theirs)} with "
            f"{', '.join(theirs.captions)} in {other.config.data.path!r}; evaluate both on the "
            "same with --data=DIR"
        )


def _print(result: dict, leaks: list[tuple[str, str]] | None, config: ConfigDict) -> None:
    for table in tables(result):
        console.print(table)
    for line in told(TextCounts(**result["texts"]), config.text.max_tokens):
        console.print(line, soft_wrap=True)
    if longer := result["audio"]["longer"]:
        is_crop = config.evaluate.long_audio == "crop"
        become = "their beginning was heard" if is_crop else "they are the mean of their windows"
        console.print(
            f"{longer:,} clips are longer than {config.audio.seconds:g} s; {become} "
            f"(evaluate.long_audio is {config.evaluate.long_audio!r}).",
            soft_wrap=True,
        )
    console.print(f"Checkpoint of step {result['step']}.")
    if leaks:
        console.print(
            f"{len(leaks):,} of the run's training clips are among these, such as {leaks[0][0]!r} "
            f"({leaks[0][1]}).",
            soft_wrap=True,
        )


def _tell(written: list[Path]) -> None:
    for path in written:
        console.print(f"Written: {path}", soft_wrap=True)


def _write(result: dict, path: Path, scores: Scores, figure: Path) -> None:
    """The JSON file, and the confusion matrix where there is one."""
    write_whole(path, json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    _tell([path])
    if scores.zero_shot is None or scores.zero_shot.classification is None:
        return
    figure.parent.mkdir(exist_ok=True)
    names = scores.zero_shot.names
    count = zero_shot.confusion(scores.zero_shot.classification, len(names))
    _tell([confusion_figure(count, names, figure)])


def _similarities(run: _Subject, clips: Clips) -> tuple[np.ndarray, list[str]] | None:
    """First captions of some clips against these clips, and the captions; None without any."""
    language = run.config.data.languages[0]
    captioned = [index for index, texts in enumerate(clips.captions.get(language, ())) if texts]
    if not captioned:
        return None
    few = clips.select(captioned[:CLIPS_IN_FIGURE])
    captions = [texts[0] for texts in few.captions[language]]
    text = run.embedder.text(run.variables, captions, language)
    return text @ run.embedder.audio(run.variables, few).T, captions
