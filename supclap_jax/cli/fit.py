"""Fits a scaling law to runs, and predicts others, with intervals."""

import argparse
import json

from supclap_jax.errors import CannotWrite, ConfigError, DataError
from supclap_jax.files import check_output, path_of

EXAMPLE = """\
supclap fit --points=runs/ladder --x=encoder_parameters,clips_seen --y=entropy_text_to_audio \\
    --law=chinchilla --where='optimizer.schedule == wsd' --where='loss.svr.radius == none' \\
    --hold-out='encoder_parameters > 1e6' --hold-out='clips_seen > 60000' --json=law.json
supclap fit --points=runs.csv --x=gmacs_total --y=imagenet_error --law=power --frontier=5
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--points",
        type=path_of,
        required=True,
        help="CSV file with a row a run, or a folder that holds results.csv",
    )
    parser.add_argument("--x", required=True, help="column, or two for chinchilla: N,D")
    parser.add_argument("--y", required=True, help="column of what falls: an error or a loss")
    parser.add_argument(
        "--law",
        required=True,
        choices=("power", "shifted", "saturating", "chinchilla"),
        help="y = a x^-b; a (x + c)^-b; e + a x^-b; e + a n^-alpha + b d^-beta",
    )
    parser.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="'COLUMN OP VALUE'",
        help="keep the rows for which this holds; may be repeated, all must hold",
    )
    parser.add_argument(
        "--hold-out",
        action="append",
        default=[],
        metavar="'COLUMN OP VALUE'",
        help="predict the rows for which this holds, and leave them out of the fit; may be "
        "repeated, any may hold",
    )
    parser.add_argument(
        "--frontier",
        type=int,
        metavar="BINS",
        help="fit the lowest y in each of so many equal bins of log x",
    )
    parser.add_argument(
        "--budgets", help="of chinchilla: products N x D, such as 1e12,1e13, to divide at best"
    )
    parser.add_argument(
        "--resamples", type=int, default=1000, help="for the intervals; default: 1000"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the resamples; default: 0")
    parser.add_argument("--json", type=path_of, help="write the report to this file")
    parser.add_argument("--figure", type=path_of, help="write a figure to this PNG file")


def run(options: argparse.Namespace) -> None:
    import numpy as np

    from supclap_jax.console import console, working
    from supclap_jax.experiments.huber import DELTA, LEAST_SQUARES
    from supclap_jax.experiments.law_figure import law_figure
    from supclap_jax.experiments.law_fit import fit
    from supclap_jax.experiments.law_report import headline, report, tables
    from supclap_jax.experiments.laws import LAWS
    from supclap_jax.experiments.points import check_points, frontier, read_points
    from supclap_jax.files import write_whole

    columns, budgets = [name.strip() for name in options.x.split(",")], _budgets(options)
    law = LAWS[options.law]
    if len(columns) != law.columns:
        raise ConfigError(
            f"--x={options.x} with --law={options.law}; {law.formula} takes {law.columns} "
            f"column{'s' if law.columns > 1 else ''}"
        )
    if options.resamples < 40 or options.seed < 0:
        raise ConfigError(
            f"--resamples is {options.resamples} and --seed {options.seed}; expected at least 40, "
            "for a 95 % interval, and a seed from 0"
        )
    check_output(options.json)
    check_output(options.figure)
    points = read_points(
        options.points, columns, options.y, where=options.where, hold_out=options.hold_out
    )
    check_points(points, len(law.names))
    delta = DELTA
    if options.frontier is not None:
        points = frontier(points, options.frontier)
        check_points(points, len(law.names))
        delta = LEAST_SQUARES  # few points, off by where they lie in their bins, none of them wrong
    with working(f"fitting, {options.resamples:,} times"):
        fitted = fit(
            options.law,
            points.x,
            points.y,
            resamples=options.resamples,
            seed=options.seed,
            delta=delta,
        )
    told = report(options.law, fitted, points, budgets)
    numbers = [x for value in told["coefficients"].values() for x in value.values()]
    if not np.isfinite(numbers).all():
        raise DataError(
            f"a coefficient of {law.formula} is too large or small for a number; give {options.x} "
            f"or {options.y} in another unit"
        )
    for line in (headline(told), *tables(told)):
        console.print(line, soft_wrap=isinstance(line, str))
    for warning in told["warnings"]:
        console.print(f"Warning: {warning}.", soft_wrap=True)
    try:
        if options.json:
            write_whole(options.json, json.dumps(told, indent=2) + "\n")
        if options.figure:
            write_whole(options.figure, law_figure(told, fitted, points))
    except OSError as error:
        raise CannotWrite(f"a file cannot be written: {error}") from error


def _budgets(options: argparse.Namespace) -> list[float]:
    if options.budgets is None:
        return []
    from supclap_jax.experiments.points import number_of

    budgets = [number_of(text) for text in options.budgets.split(",")]
    if options.law != "chinchilla" or not all(budget and budget > 0 for budget in budgets):
        raise ConfigError(
            f"--budgets={options.budgets} with --law={options.law}; expected numbers above 0, with "
            "--law=chinchilla"
        )
    return budgets
