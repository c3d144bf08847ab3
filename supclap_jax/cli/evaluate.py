"""Evaluates a checkpoint: retrieval, zero-shot, and against another run."""

import argparse

from supclap_jax.cli.arguments import add_distributed, add_overrides, config_of, run_folder
from supclap_jax.errors import ConfigError
from supclap_jax.files import path_of

EXAMPLE = """\
supclap evaluate --workdir=runs/dynamic --json=result.json
supclap evaluate --workdir=runs/dynamic --against=runs/info_nce
supclap evaluate --workdir=runs/dynamic --data=data/esc50 --prompts=prompts.txt
supclap evaluate --workdir=runs/dynamic --data=data/clotho --metric-style=dcase
supclap evaluate --workdir=runs/dynamic --data=data/wavcaps --split=train
supclap evaluate --model=exported --data=data/clotho --per-clip=answers.csv
supclap evaluate --config=clotho --config.pretrained=ml_clap.safetensors \\
    --config.text.tokenizer=sentencepiece.source.256000.model --config.text.vocab_size=256000 \\
    --config.data.path=data/clotho
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from supclap_jax.evaluate.metric_styles import STYLES

    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("--workdir", type=run_folder, help="folder of a run, or gs://BUCKET/PATH")
    model.add_argument("--model", type=run_folder, help="folder that supclap export wrote")
    model.add_argument(
        "--config",
        help="recipe whose fields name published weights; they are evaluated as they are",
    )
    add_overrides(parser)
    add_distributed(parser)
    parser.add_argument(
        "--step",
        type=int,
        help="checkpoint of the run, or 0 for what it began with; default: the best on validation",
    )
    parser.add_argument(
        "--data", type=path_of, help="data folder; default: the one that the run was trained on"
    )
    parser.add_argument("--split", default="test", help="of the data; default: test")
    parser.add_argument(
        "--languages", help="of captions, such as eng_Latn,fra_Latn; default: those of the run"
    )
    parser.add_argument(
        "--against", type=run_folder, help="folder of a run to compare with, clip by clip"
    )
    parser.add_argument(
        "--prompts", type=path_of, help="zero-shot templates, one with one {} on each line"
    )
    parser.add_argument(
        "--classes",
        type=path_of,
        help="zero-shot classes to choose among, one on each line; default: all in the set's list",
    )
    parser.add_argument(
        "--long-audio",
        choices=("crop", "windows"),
        help="of clips longer than the model hears: their beginning, or the mean of windows; "
        "default: as the run's evaluate.long_audio",
    )
    parser.add_argument(
        "--metric-style",
        action="append",
        default=[],
        choices=STYLES,
        help="show the metrics as this code base computes them, too; may be repeated",
    )
    parser.add_argument(
        "--relevance",
        type=path_of,
        help="of dcase: CSV file with the columns query, audio_filenames (several clips a query)",
    )
    parser.add_argument(
        "--json", type=path_of, help="write the report to this file, a confusion matrix beside it"
    )
    parser.add_argument(
        "--per-clip",
        type=path_of,
        metavar="FILE.csv",
        help="write what each caption and clip found: rank, best wrong answer, both cosines; and "
        "show recall by length of caption and clip, and by number of events",
    )
    parser.add_argument(
        "--figures",
        choices=("png", "pdf"),
        default="png",
        help="pdf: figures as PDF files, too",
    )


def run(options: argparse.Namespace) -> None:
    if options.config and options.step is not None:
        raise ConfigError("--step is of a run's checkpoints; leave it out with --config")
    config = config_of(options) if options.config else None
    from supclap_jax.evaluate.evaluation import Evaluation, evaluate
    from supclap_jax.inference.model import find_model, initial_model, model_of_run
    from supclap_jax.runs.processes import connect

    if options.distributed:
        connect()
    evaluation = Evaluation(
        data=options.data,
        split=options.split,
        languages=tuple(options.languages.split(",")) if options.languages else (),
        prompts=options.prompts,
        classes=options.classes,
        long_audio=options.long_audio,
        metric_styles=tuple(dict.fromkeys(options.metric_style)),
        relevance=options.relevance,
        against=options.against,
    )
    if config:
        model = initial_model(options.config, config)
    elif options.workdir:
        model = model_of_run(options.workdir, options.step)
    else:
        model = find_model(options.model, options.step)
    evaluate(
        model,
        evaluation,
        workdir=None if options.step is not None else options.workdir,
        out=options.json,
        answers=options.per_clip,
        pdf=options.figures == "pdf",
    )
