"""Compares the runs of a sweep: means over seeds, differences with intervals, figures.

Differences to the baseline are of the same seed and the same clips, run by run; their intervals
cover the chance of the seeds and that of the clips. Where other settings vary too, each of their
values is compared on its own. DIR/comparison.json has all numbers, DIR/comparison.png every run
as a point, DIR/gains.png the differences, and DIR/steps.png recall, forces and contraction over the
steps.
"""

import argparse
import json

from supclap_jax.errors import CannotWrite, ConfigError
from supclap_jax.files import path_of

EXAMPLE = """\
supclap compare runs/variants --by=loss.svr.radius --baseline=none
supclap compare runs/ladder --by=loss.svr.radius --where='total_steps == 2000'
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=path_of, metavar="DIR", help="folder of a sweep")
    parser.add_argument(
        "--by",
        required=True,
        metavar="KEY",
        help="what to compare: a setting that varies, as in the header of DIR/results.csv; "
        "'argument' is the recipe's, 'cell' a run's name without its seed at the end",
    )
    parser.add_argument(
        "--baseline", metavar="VALUE", help="of that setting; default: that of the first run"
    )
    parser.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="'COLUMN OP VALUE'",
        help="compare the runs for which this holds; may be repeated, all must hold",
    )


def run(options: argparse.Namespace) -> None:
    from supclap_jax.console import console, working
    from supclap_jax.experiments.comparison import read_groups
    from supclap_jax.experiments.comparison_figures import figures
    from supclap_jax.experiments.comparison_report import report, tables
    from supclap_jax.files import replacing, write_whole

    groups = read_groups(options.folder, options.by, options.where)
    values = list(dict.fromkeys(group.value for group in groups))
    baseline = options.baseline or values[0]
    if baseline not in values:
        raise ConfigError(
            f"--baseline is {baseline!r}; {options.by!r} is {', '.join(values)} in the sweep"
        )
    with working("resampling seeds and clips"):
        result = report(groups, options.by, baseline)
    for table in tables(result):
        console.print(table)
    for warning in result["warnings"]:
        console.print(f"Warning: {warning}.", soft_wrap=True)
    written = [options.folder / "comparison.json"]
    try:
        write_whole(written[0], json.dumps(result, indent=2) + "\n")
        for name, figure in figures(result, groups, options.folder).items():
            written.append(options.folder / f"{name}.png")
            with replacing(written[-1]) as unfinished:
                figure.savefig(unfinished, dpi=150, format="png", bbox_inches="tight")
    except OSError as error:
        raise CannotWrite(f"cannot write in {options.folder}: {error}") from error
    for path in written:
        console.print(f"Written: {path}", soft_wrap=True)
