"""The driver of an evaluation: from a run's checkpoint to tables, JSON and figures.

Figures are imported where they are drawn: matplotlib takes half a second.
"""

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
from supclap_jax.data.splits import CLOTHO
from supclap_jax.data.text_counts import TextCounts, count_captions, told
from supclap_jax.errors import CannotWrite, ConfigError, DataError
from supclap_jax.evaluate import zero_shot
from supclap_jax.evaluate.answers import best_answers, write_answers
from supclap_jax.evaluate.figure_style import Print
from supclap_jax.evaluate.per_clip import write_per_clip
from supclap_jax.evaluate.report import compare, estimate, report
from supclap_jax.evaluate.retrieval import Retrieval
from supclap_jax.evaluate.scoring import Scores, captioned, score
from supclap_jax.evaluate.tables import recall_tables, tables
from supclap_jax.files import check_output, path_of, write_whole
from supclap_jax.inference import prompts
from supclap_jax.inference.embedder import Embedder
from supclap_jax.inference.model import Model, find_model, model_of_run
from supclap_jax.models.dual_encoder import make_model
from supclap_jax.models.tokens import check_languages
from supclap_jax.runs.bucket import push
from supclap_jax.runs.mesh import batch_sharding, mesh_at_hand
from supclap_jax.runs.processes import is_first
from supclap_jax.runs.provenance import provenance

CLIPS_IN_FIGURE = 12


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What to evaluate a model on, other than the test split of the run's own data.

    Attributes:
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

    data: Path | None = None
    split: str = "test"
    languages: tuple[str, ...] = ()
    prompts: Path | None = None
    classes: Path | None = None
    long_audio: str | None = None
    metric_styles: tuple[str, ...] = ()
    relevance: Path | None = None
    against: Path | None = None


def evaluate_run(workdir: Path) -> None:
    """The plain evaluation of a run: its best checkpoint on its own test split.

    Raises:
      As `evaluate` and `model_of_run`.
    """
    evaluate(model_of_run(workdir), workdir=workdir)


def evaluate(
    model: Model,
    evaluation: Evaluation = Evaluation(),
    *,
    workdir: Path | None = None,
    out: Path | None = None,
    answers: Path | None = None,
    pdf: bool = False,
) -> None:
    """Prints the tables of a model.

    The plain evaluation of a run also goes into its folder, with figures; any other leaves it as it
    is.

    Args:
      model: what to evaluate.
      evaluation: on what, and how.
      workdir: of the run that the model is of.
      out: a further file for the JSON; a confusion matrix goes beside it, as `.confusion.png`.
      answers: a CSV file for what each caption and clip found, as `answers.write_answers`.
      pdf: whether figures are written as PDF files, too.

    Raises:
      ConfigError: options do not go together, or `out` or `answers` cannot be written.
      RunError: the model's weights cannot be read.
      DataError: the data cannot be read, or differ from those of the run to compare with.
      CannotWrite: the results, which are printed by then, cannot be written.
    """
    if evaluation.relevance and "dcase" not in evaluation.metric_styles:
        raise ConfigError("--relevance is only used by --metric-style=dcase; add that, or leave it")
    check_output(out)
    check_output(answers)
    plain = workdir is not None and evaluation == Evaluation()
    if pdf and not plain and out is None:
        raise ConfigError(
            "--figures=pdf is of the plain evaluation of a run, or of --json=FILE beside which a "
            "figure goes; add that, or leave it"
        )
    templates = prompts.PROMPTS
    if evaluation.prompts:
        templates = prompts.read_prompts(evaluation.prompts)
    classes = prompts.read_classes(evaluation.classes) if evaluation.classes else ()
    options = {"templates": templates, "classes": classes, "relevance": evaluation.relevance}

    run = _Subject(model, evaluation)
    other = _Subject(find_model(evaluation.against), evaluation) if evaluation.against else None
    clips = load_clips(run.config, evaluation.split)
    if (evaluation.prompts or evaluation.classes) and not any(clips.labels):
        raise ConfigError(
            "--prompts and --classes are for clips with labels, and none of these has one"
        )
    if not evaluation.data and not evaluation.languages and evaluation.split in CLOTHO:
        model.check(evaluation.split, clips)
    if other:
        other.config.evaluate.long_audio = run.config.evaluate.long_audio
        _check_same_clips(run, clips, other, evaluation.split)
    with working("comparing with the training clips"):
        leaks = find_trained_on(run, evaluation.split) if evaluation.data else None
    run.restore()
    with working(f"evaluating step {model.step} on {len(clips):,} clips"):
        scores = score(run.embedder, run.variables, clips, run.config, **options)
        estimates = estimate(scores, run.config)
        styles = evaluation.metric_styles
        measured = report(scores, estimates, templates=templates, styles=styles)
        result = {"step": model.step, **measured}
        result["texts"] = run.count_captions(clips, list(scores.retrieval))._asdict()
    result["audio"] = {
        "longer": count_longer(clips, run.config.audio.seconds),
        "long_audio": run.config.evaluate.long_audio,
    }
    result["made_by"] = {
        "run": model.name,
        "data": str(run.config.data.path),
        "split": evaluation.split,
        "clips": clips.fingerprint(),
        **provenance(run.config),
    }
    if leaks is not None:
        result["trained_on"] = len(leaks)
    if other:
        other.restore()
        with working(f"evaluating step {other.model.step} of the other run"):
            their_scores = score(other.embedder, other.variables, clips, other.config, **options)
            result["against"] = {
                "workdir": str(evaluation.against),
                "step": other.model.step,
                **compare(estimates, estimate(their_scores, run.config)),
            }
    style = Print(
        f"{model.name}, step {model.step} · {run.config.data.path}, {evaluation.split}: "
        f"{result['clips']:,} clips",
        pdf,
    )
    examples = _similarities(run, clips) if plain else None
    if not is_first():
        return
    _print(result, leaks, run.config)
    if answers is not None:
        for table in recall_tables(result["recall_by"]):
            console.print(table)
    try:
        if plain:
            figures = workdir / "figures"
            _write(result, workdir / "evaluation.json")
            write_per_clip(workdir, clips, scores)
            with working("drawing figures"):
                from supclap_jax.evaluate.matrix_figures import similarity_figure
                from supclap_jax.evaluate.training_figures import training_figures

                of_run = style._replace(note=f"{workdir} · {run.config.data.path}")
                _tell(training_figures(workdir / "metrics.jsonl", figures, of_run))
                _draw_confusion(scores, figures / "confusion.png", style)
                if examples:
                    _tell(similarity_figure(*examples, figures / "similarity.png", style))
            push(workdir, of_evaluation=True)
        if out is not None:
            _write(result, out)
            _draw_confusion(scores, out.with_suffix(".confusion.png"), style)
        if answers is not None:
            _write_answers(answers, scores)
    except OSError as error:
        raise CannotWrite(f"the results above cannot be written: {error}") from error


class _Subject:
    """A model with the data to evaluate it on; once restored `variables` and `embedder`."""

    def __init__(self, model: Model, evaluation: Evaluation):
        self.model = model
        self.config = model.config.copy_and_resolve_references()
        data = self.config.data
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
        return count_captions(captions, self.model.tokenizer, self.config.text.max_tokens)

    def restore(self) -> None:
        """Reads the parameters."""
        config = self.config
        mesh = mesh_at_hand(config)
        with working(f"reading the weights of {self.model.name}"):
            self.variables = self.model.variables(mesh)
        self.embedder = Embedder(
            make_model(config), self.model.tokenizer, config, batch_sharding(mesh)
        )


def find_trained_on(run: _Subject, split: str) -> list[tuple[str, str]] | None:
    """Training clips of a run whose recording or audio is among what is evaluated.

    Returns:
      As `find_leaks`; None where the two are not all prepared sets, and not to be compared.
    """
    held_out, languages = path_of(run.config.data.path), run.config.data.languages
    training = run.model.training
    if not training or not all(is_prepared(folder) for folder in (held_out, *training)):
        return None
    training = [PreparedSplit(folder, "train", languages) for folder in training]
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
    step = result["step"]
    console.print(f"Checkpoint of step {step}." if step else "Before the first step of training.")
    if leaks:
        console.print(
            f"{len(leaks):,} of the run's training clips are among these, such as {leaks[0][0]!r} "
            f"({leaks[0][1]}).",
            soft_wrap=True,
        )


def _tell(written: list[Path]) -> None:
    for path in written:
        console.print(f"Written: {path}", soft_wrap=True)


def _write(result: dict, path: Path) -> None:
    write_whole(path, json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    _tell([path])


def _write_answers(path: Path, scores: Scores) -> None:
    if scores.pairs is None:
        console.print(f"No captions were ranked, so {path} is not written.", soft_wrap=True)
        return
    clips, language, audio, text, owner = scores.pairs
    one_each = np.arange(len(audio))
    with working("looking for the best wrong answers"):
        found = Retrieval(
            best_answers(text, audio, owner, one_each), best_answers(audio, text, one_each, owner)
        )
        write_answers(path, clips, scores.retrieval[language], found, language)
    _tell([path])


def _draw_confusion(scores: Scores, path: Path, style: Print) -> None:
    """The confusion matrix, where clips have one label each."""
    if scores.zero_shot is None or scores.zero_shot.classification is None:
        return
    from supclap_jax.evaluate.matrix_figures import confusion_figure

    path.parent.mkdir(exist_ok=True)
    names = scores.zero_shot.names
    count = zero_shot.confusion(scores.zero_shot.classification, len(names))
    _tell(confusion_figure(count, names, path, style))


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
