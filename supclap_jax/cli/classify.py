"""Tells which of some labels each sound is, by the similarity of sound and label.

A sound longer than the model hears is the mean of its windows. The shares of a sound add up to
100 %: some label is always the likeliest, also where none fits. Files that cannot be used are
listed with the reason.
"""

import argparse
import json
import os

from supclap_jax.cli.arguments import run_folder
from supclap_jax.files import check_output, path_of

EXAMPLE = """\
supclap classify --model=runs/quickstart --labels=labels.txt dog.wav street.flac
supclap classify --model=runs/quickstart --labels=labels.txt --json=tags.json recordings/*.wav
supclap classify --model=runs/quickstart --labels=labels.txt street.flac --over-time=street.png
"""
SHOWN = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", type=path_of, metavar="FILE", help="a sound")
    parser.add_argument(
        "--model",
        type=run_folder,
        required=True,
        help="folder of a run, or of an export; or gs://BUCKET/PATH",
    )
    parser.add_argument("--step", type=int, help="checkpoint; default: the best on validation")
    parser.add_argument("--labels", type=path_of, required=True, help="text file, one a line")
    parser.add_argument(
        "--prompts", type=path_of, help="templates, one with one {} on each line; default: ours"
    )
    parser.add_argument(
        "--over-time",
        type=path_of,
        metavar="FIGURE.png",
        help="draw the shares of windows of one FILE; they are then in the JSON, too",
    )
    parser.add_argument("--json", type=path_of, help="write all shares to this file")


def run(options: argparse.Namespace) -> None:
    check_output(options.json)
    check_output(options.over_time)
    from rich.table import Table

    from supclap_jax.console import console, printable, progress_bar
    from supclap_jax.errors import ConfigError, DataError
    from supclap_jax.files import write_whole
    from supclap_jax.inference import load
    from supclap_jax.inference.prompts import PROMPTS, read_classes, read_prompts

    if options.over_time and (len(options.files) > 1 or options.over_time.suffix != ".png"):
        raise ConfigError("--over-time draws one FILE as a .png; give one of each")
    labels = read_classes(options.labels)
    templates = read_prompts(options.prompts) if options.prompts else PROMPTS
    model = load(options.model, options.step)
    classes = model.encode_classes(labels, templates)
    shares, failed = {}, {}
    with progress_bar() as bar:
        for path in bar.track(options.files, description="listening"):
            name = os.fsencode(path).decode("utf-8", "backslashreplace")
            try:
                (row,) = model.shares(model.encode_audio([path]), classes)
            except DataError as error:
                failed[name] = str(error).encode(errors="backslashreplace").decode()
            else:
                shares[name] = dict(zip(labels, row.tolist(), strict=True))
    if not shares:
        raise DataError(next(iter(failed.values())))
    table = Table("sound", "likeliest")
    for name, row in shares.items():
        best = sorted(row, key=row.get, reverse=True)[:SHOWN]
        table.add_row(printable(name), ", ".join(f"{key} {100 * row[key]:.1f} %" for key in best))
    console.print(table)
    for reason in failed.values():
        console.print(printable(reason), soft_wrap=True)
    found = {"shares": shares, "failed": failed}
    if options.over_time:
        from supclap_jax.evaluate.matrix_figures import over_time_figure

        times, of_windows = model.classify_over_time(options.files[0], labels, templates)
        over_time_figure(times, of_windows, labels, options.over_time)
        found["over_time"] = [
            {"start": start, "end": end, "shares": dict(zip(labels, row, strict=True))}
            for (start, end), row in zip(times.tolist(), of_windows.tolist(), strict=True)
        ]
        console.print(f"Written: {options.over_time}", soft_wrap=True)
    if options.json:
        write_whole(options.json, json.dumps(found, indent=2, ensure_ascii=False) + "\n")
