"""What a sweep found: one row a run, in `results.csv` and as a table."""

import csv
import fcntl
import io
import json
from pathlib import Path

from rich.table import Table

from supclap_jax import config as configs
from supclap_jax.experiments.costs import training_cost
from supclap_jax.experiments.sweep_file import Planned, workdir_of
from supclap_jax.experiments.sweep_runner import exit_code
from supclap_jax.files import write_whole
from supclap_jax.runs.health import duration
from supclap_jax.runs.history import read_history
from supclap_jax.runs.metrics import read_metrics

FILE = "results.csv"
COST = "encoder_parameters"  # the first column after the settings
DIRECTIONS = ("text_to_audio", "audio_to_text")
LAST = {  # column -> metric of the last step
    "distance": "distance",
    **{f"radius_{side}": f"radius/{side}_mean" for side in ("text", "audio")},
    **{f"contraction_{side}": f"contraction/{side}" for side in ("text", "audio")},
}


class Results:
    """The file `out/results.csv`, a row for every run of the sweep that has ended.

    A row has the run's name; "argument", the recipe's, where that varies in the sweep, and every
    config value that does, by its key; what training took (`costs.training_cost`), epochs and
    seconds; entropies, R@1, zero-shot accuracy and mAP in percent with the ends of their intervals
    (`_low`, `_high`); distance, radii and contraction of the last step; and the exit code. What a
    run does not have is empty.
    """

    def __init__(self, planned: list[Planned], out: Path):
        self.path = out / FILE
        self._planned, self._out, self._varying = planned, out, _varying(planned)
        self._costs: dict[str, dict] = {}

    def write(self) -> None:
        """Anew, from the folders of the runs.

        Raises:
          OSError: it cannot be written.
        """
        with (self._out / "results.lock").open("a") as lock:  # parts of an array write it, too
            fcntl.flock(lock, fcntl.LOCK_EX)
            codes = {plan.run.name: exit_code(self._out, plan.run.name) for plan in self._planned}
            rows = [self._row(p) for p in self._planned if codes[p.run.name] is not None]
            columns = list(dict.fromkeys(column for row in rows for column in row))
            text = io.StringIO()
            writer = csv.DictWriter(text, columns or ["name"], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
            write_whole(self.path, text.getvalue())

    def _row(self, plan: Planned) -> dict:
        name = plan.run.name
        if name not in self._costs:
            self._costs[name] = training_cost(plan.config)
        settings = configs.flatten(plan.config) | {"argument": _argument(plan)}
        row = {"name": name, **{key: settings[key] for key in self._varying}, **self._costs[name]}
        return row | _found(self._out, plan, row["clips_seen"])


def table(planned: list[Planned], out: Path, states: dict[str, str]) -> Table:
    """State, progress, time left and results of every run."""
    shown = Table()
    shown.add_column("run", overflow="fold")
    shown.add_column("", no_wrap=True)
    for column in ("steps", "time left", "loss", "R@1 t→a", "R@1 a→t"):
        shown.add_column(column, justify="right", no_wrap=True)
    for plan in planned:
        workdir, total = workdir_of(out, plan.run.name), plan.config.total_steps
        lines = [line for line in read_metrics(workdir) if "loss" in line]
        last = lines[-1] if lines else {}
        rate = next((x for line in reversed(lines) if (x := line.get("steps_per_second"))), None)
        step, state = last.get("step", 0), states[plan.run.name]
        left = duration((total - step) / rate) if rate and state == "running" else ""
        recalls = _report(workdir).get("retrieval", {})
        cells = (f"{recalls[d]['R@1']['value']:.1f}" if d in recalls else "" for d in DIRECTIONS)
        loss = f"{last['loss']:.3f}" if last.get("loss") is not None else ""
        shown.add_row(plan.run.name, state, f"{step:,} of {total:,}", left, loss, *cells)
    return shown


def _found(out: Path, plan: Planned, clips_seen: int) -> dict:
    workdir = workdir_of(out, plan.run.name)
    report, clips = _report(workdir), _training_clips(workdir)
    row = {"epochs": clips_seen / clips if clips else None, "seconds": _seconds(workdir)}
    for direction in DIRECTIONS:
        recalls = report.get("retrieval", {}).get(direction, {})
        row |= _interval(f"entropy_{direction}", report.get("entropy", {}).get(direction))
        row |= _interval(f"R@1_{direction}", recalls.get("R@1"))
    row |= _interval("zero_shot", report.get("zero_shot", {}).get("accuracy"))
    row |= _interval("zero_shot_mAP", report.get("zero_shot", {}).get("mAP"))
    lines = [line for line in read_metrics(workdir) if "loss" in line]
    last = lines[-1] if lines else {}
    row |= {column: last.get(metric) for column, metric in LAST.items()}
    return row | {"exit_code": exit_code(out, plan.run.name)}


def _argument(plan: Planned) -> str:
    return plan.run.recipe.partition(":")[2]


def _interval(name: str, estimate: dict | None) -> dict:
    estimate = estimate or {}
    ends = {f"{name}_{end}": estimate.get(end) for end in ("low", "high")}
    return {name: estimate.get("value"), **ends}


def _varying(planned: list[Planned]) -> list[str]:
    """Keys of the config that are not the same in all runs, but where they branch from."""
    flat = [configs.flatten(plan.config) for plan in planned]
    arguments = set(map(_argument, planned))
    return ["argument"] * (len(arguments) > 1) + [
        key
        for key in flat[0]
        if not key.startswith("branch.") and any(other[key] != flat[0][key] for other in flat)
    ]


def _report(workdir: Path) -> dict:
    path = workdir / "evaluation.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def _training_clips(workdir: Path) -> int | None:
    path = workdir / "data.json"
    return json.loads(path.read_text())["development"]["clips"] if path.is_file() else None


def _seconds(workdir: Path) -> float | None:
    """Of all starts that ended by themselves."""
    spent, began = 0.0, None
    for line in read_history(workdir):
        if line["event"] == "start":
            began = line["time"]
        elif began is not None:
            spent, began = spent + line["time"] - began, None
    return spent or None
