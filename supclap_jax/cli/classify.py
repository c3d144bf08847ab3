"""Tells which of some labels each sound is, by the similarity of sound and label.

A sound longer than the model hears is the mean of its windows. The shares of a sound add up to
100 %: some label is always the likeliest, also where none fits.
"""

import argparse
import json
import os

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
        "--model", type=path_of, required=True, help="folder of a run, or of supclap export"
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

    from supclap_jax.console import console, working
    from supclap_jax.errors import ConfigError
    from supclap_jax.files import write_whole
    from supclap_jax.inference import load
    from supclap_jax.inference.prompts import PROMPTS, read_classes, read_prompts

    if options.over_time and (len(options.files) > 1 or options.over_time.suffix != ".png"):
        raise ConfigError("--over-time draws one FILE as a .png; give one of each")
    labels = read_classes(options.labels)
    templates = read_prompts(options.prompts) if options.prompts else PROMPTS
    model = load(options.model, options.step)

    def named(row) -> dict[str, float]:
        return dict(zip(labels, map(float, row), strict=True))

    with working(f"listening to {len(options.files):,} sounds"):
        shares = model.classify(options.files, labels, templates)
    table = Table("sound", "likeliest")
    for path, row in zip(options.files, shares, strict=True):
        best = sorted(range(len(labels)), key=lambda place: -row[place])[:SHOWN]
        told = ", ".join(f"{labels[place]} {100 * row[place]:.1f} %" for place in best)
        table.add_row(str(path), told)
    console.print(table)
    found = {
        os.fsencode(path).decode("utf-8", "backslashreplace"): named(row)
        for path, row in zip(options.files, shares, strict=True)
    }
    if options.over_time:
        from supclap_jax.evaluate.matrix_figures import over_time_figure

        times, of_windows = model.classify_over_time(options.files[0], labels, templates)
        over_time_figure(times, of_windows, labels, options.over_time)
        found["over_time"] = [
            {"start": start, "end": end, "shares": named(row)}
            for (start, end), row in zip(times.tolist(), of_windows, strict=True)
        ]
        console.print(f"Written: {options.over_time}", soft_wrap=True)
    if options.json:
        write_whole(options.json, json.dumps(found, indent=2, ensure_ascii=False) + "\n")
