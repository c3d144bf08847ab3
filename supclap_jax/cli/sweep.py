"""Runs many trainings that one file names; continues where it was, and tabulates what they found.

FILE.py holds `get_sweep(arg=None)`, which yields runs, each a
supclap_jax.experiments.sweep_file.SweepRun: a name, a recipe with its argument, fields that are
otherwise, and for a branch the run and the step that it starts from. Each is trained as by
`supclap train`, trunks first. A finished run is not run again, an interrupted one continues
exactly, and one that fails does not stop the others, nor is the exit code another then.
DIR/results.csv has a row for each that has ended, DIR/runs/NAME is its folder, and
DIR/logs/NAME.log holds what it printed.
"""

import argparse

from supclap_jax.errors import CannotWrite, ConfigError
from supclap_jax.files import path_of

EXAMPLE = """\
supclap sweep variants --out=runs/variants --dry-run
supclap sweep variants --out=runs/variants
supclap sweep variants --out=runs/variants --index=2 --of=8
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "sweep",
        metavar="FILE",
        help="sweep: FILE.py or the name of one of ours, and :argument",
    )
    parser.add_argument(
        "--out", type=path_of, required=True, metavar="DIR", help="folder of the sweep"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="show what each run takes, and start none"
    )
    parser.add_argument(
        "--topology", help="of --dry-run: least times on this TPU slice, such as v5e:2x4"
    )
    parser.add_argument(
        "--status", action="store_true", help="show how far the runs are, and start none"
    )
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", help="of all runs these, with the trunks they need"
    )
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time; default: 1")
    parser.add_argument("--index", type=int, metavar="I", help="of an array: from 0, this part")
    parser.add_argument("--of", type=int, metavar="N", help="of an array: how many parts there are")


def run(options: argparse.Namespace) -> None:
    import jax

    if not options.dry_run or options.topology:
        jax.config.update("jax_platforms", "cpu")  # accelerators are for the runs
    from supclap_jax.console import console, working
    from supclap_jax.experiments.sweep_file import families, read_sweep

    _check(options)
    everything = read_sweep(options.sweep, options.out)
    chosen = _chosen(everything, options.only)
    if options.of:
        parts = families(chosen)[options.index :: options.of]
        chosen = [plan for part in parts for plan in part]
    if options.dry_run:
        from supclap_jax.experiments.costs import dry_run

        with working("timing each shape"):
            table = dry_run(chosen, options.topology)
        console.print(table)
    elif options.status:
        from supclap_jax.experiments.sweep_results import table
        from supclap_jax.experiments.sweep_runner import states

        console.print(table(chosen, options.out, states(chosen, options.out)))
    else:
        _run(everything, chosen, options)


def _check(options: argparse.Namespace) -> None:
    if (options.index is None) != (options.of is None):
        raise ConfigError("--index and --of go together: part I, from 0, of N parts")
    if options.of is not None and not 0 <= options.index < options.of:
        raise ConfigError(
            f"--index is {options.index} and --of is {options.of}; expected 0 to {options.of} - 1"
        )
    if options.jobs < 1:
        raise ConfigError(f"--jobs is {options.jobs}; expected at least 1")
    if options.dry_run and options.status:
        raise ConfigError("--dry-run and --status are given; expected one of them")
    if options.topology and not options.dry_run:
        raise ConfigError("--topology is only used by --dry-run; add that, or leave it")


def _chosen(everything: list, only: list[str] | None) -> list:
    """The runs that are named, and the trunks they need; by default all."""
    if only is None:
        return everything
    by_name = {plan.run.name: plan for plan in everything}
    needed, names = set(), list(only)
    while names:
        name = names.pop()
        if name not in by_name:
            raise ConfigError(f"the sweep has no run {name!r}; it has {', '.join(by_name)}")
        needed.add(name)
        if by_name[name].run.trunk:
            names.append(by_name[name].run.trunk)
    return [plan for plan in everything if plan.run.name in needed]


def _run(everything: list, chosen: list, options: argparse.Namespace) -> None:
    from rich.live import Live

    from supclap_jax.console import console
    from supclap_jax.experiments.sweep_results import Results, table
    from supclap_jax.experiments.sweep_runner import alone, run_sweep

    results, told = Results(everything, options.out), {}

    def show(states: dict[str, str]) -> None:
        changed = {name: state for name, state in states.items() if told.get(name) != state}
        told.update(changed)
        if any(state == "done" or state.startswith("failed") for state in changed.values()):
            results.write()
        if console.is_terminal:
            live.update(table(chosen, options.out, states))
            return
        for name, state in changed.items():
            if state != "waiting":
                console.print(f"{name}: {state}", soft_wrap=True)

    try:
        with alone(options.out, options.index or 0, options.of or 1) as locks:
            with Live(console=console, auto_refresh=console.is_terminal, transient=True) as live:
                states = run_sweep(chosen, options.out, options.jobs, show, locks)
            results.write()
    except OSError as error:
        raise CannotWrite(f"cannot write in {options.out}: {error}") from error
    console.print(table(chosen, options.out, states))
    for name in (name for name, state in states.items() if "failed" in state):
        log = options.out / "logs" / f"{name}.log"
        said = log.read_text().splitlines() if log.is_file() else []
        console.print(f"{name}: {said[-1] if said else states[name]}", soft_wrap=True)
    console.print(f"Written: {results.path}", soft_wrap=True)
