"""How far a run is and whether it is well, from the files in its folder alone."""

import json
import time
from pathlib import Path

from rich.table import Table

from supclap_jax.errors import RunError
from supclap_jax.runs.bucket import COMMITTED, entries, home_of, name_of, reaching, size_and_time
from supclap_jax.runs.checkpoint_files import step_folders
from supclap_jax.runs.history import FINISHED, read_history
from supclap_jax.runs.metrics import read_metrics

CONFIG = "config.json"
PATIENCE = 600.0  # seconds without a line in which compilation or evaluation may take place


def config_file(workdir: Path) -> Path:
    """The file that makes a folder a run.

    Raises:
      RunError: there is no run.
    """
    path = workdir / CONFIG
    if not path.is_file():
        raise RunError(f"{workdir} holds no run (no {CONFIG}); see 'supclap train --help'")
    return path


def _settings(path: Path) -> dict:
    """What is told of the config, which is not checked here."""
    try:
        values = json.loads(path.read_text())
        return {name: int(values[name]) for name in ("log_every", "total_steps")}
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} is no config of a run; restore it") from error


def status(workdir: Path) -> dict:
    """Progress, last checkpoint and health of the run in `workdir`.

    Health is "finished"; "training"; "silent", where nothing was written for ten minutes or ten
    times the usual interval, as after a kill; "stopped", with a reason; or "not started".

    Returns:
      What `--json` writes. Times are in seconds since 1970; what is not known yet is None.

    Raises:
      RunError: there is no run.
    """
    config = _settings(config_file(workdir))
    history = read_history(workdir)
    lines = read_metrics(workdir)
    steps = [line for line in lines if "loss" in line]
    last = steps[-1] if steps else {}
    timed = next((line for line in reversed(steps) if "step_seconds" in line), {})
    validations = [line for line in lines if any(key.startswith("validation/") for key in line)]
    step = last.get("step", 0)
    rate = timed.get("steps_per_second")
    files = (workdir / "metrics.jsonl", workdir / "history.jsonl")
    seen = max((path.stat().st_mtime for path in files if path.is_file()), default=None)
    interval = config["log_every"] * timed.get("step_seconds_max", 0.0)
    health, reason = _health(history, seen, max(PATIENCE, 10 * interval))
    return {
        "workdir": name_of(workdir),
        "health": health,
        "reason": reason,
        "step": step,
        "total_steps": config["total_steps"],
        "seconds_left": (config["total_steps"] - step) / rate if rate else None,
        "steps_per_second": rate,
        "clips_per_second": timed.get("clips_per_second"),
        "data_wait": timed.get("data_wait"),
        "goodput": timed.get("goodput"),
        "starts": sum(line["event"] == "start" for line in history),
        "last_sign": seen,
        "loss": last.get("loss"),
        "skipped_in_a_row": last.get("skipped_in_a_row", 0),
        "validation": validations[-1] if validations else None,
        **_checkpoints(workdir),
    }


def table(status: dict) -> Table:
    """The same for people."""

    def share(value):
        return "" if value is None else f"{value:.0%}"

    rows = Table(title=status["workdir"], show_header=False)
    reason = f": {status['reason']}" if status["reason"] else ""
    rows.add_row("health", f"{status['health']}{reason}")
    done = status["step"] / status["total_steps"]
    rows.add_row("steps", f"{status['step']:,} of {status['total_steps']:,} ({done:.0%})")
    if status["steps_per_second"]:
        rows.add_row(
            "speed",
            f"{status['steps_per_second']:.3g} steps/s, {status['clips_per_second']:.4g} clips/s",
        )
        if status["health"] == "training":
            rows.add_row("time left", duration(status["seconds_left"]))
    rows.add_row("waiting for data", share(status["data_wait"]))
    rows.add_row("goodput", share(status["goodput"]))
    rows.add_row("starts", str(status["starts"]))
    if status["last_sign"]:
        rows.add_row("last sign of life", f"{duration(time.time() - status['last_sign'])} ago")
    if status["loss"] is not None:
        rows.add_row("loss", f"{status['loss']:.4f}")
    if status["skipped_in_a_row"]:
        rows.add_row("not finite", f"the last {status['skipped_in_a_row']:.0f} steps")
    validation = status["validation"]
    if validation:
        rows.add_row(
            "validation R@1",
            f"{validation['validation/text_to_audio/R@1']:.1f} % text → audio, "
            f"{validation['validation/audio_to_text/R@1']:.1f} % audio → text, "
            f"step {validation['step']:,}",
        )
    checkpoint = status["checkpoint"]
    rows.add_row(
        "checkpoint",
        f"step {checkpoint['step']:,}, {duration(time.time() - checkpoint['time'])} ago"
        if checkpoint
        else "none",
    )
    if status["damaged_checkpoints"]:
        rows.add_row("damaged", f"{status['damaged_checkpoints']} checkpoints were put away")
    return rows


def _health(history: list[dict], seen: float | None, patience: float) -> tuple[str, str]:
    if not history:
        return "not started", ""
    if history[-1]["event"] == "end":
        reason = history[-1]["reason"]
        return ("finished", "") if reason == FINISHED else ("stopped", reason)
    silence = time.time() - seen
    if silence < patience:
        return "training", ""
    return "silent", f"nothing written for {duration(silence)}; it was killed or hangs"


def _checkpoints(workdir: Path) -> dict:
    """Step and time of the newest one, and how many were put away."""
    home, newest = home_of(workdir), None
    with reaching(workdir, RunError):
        steps = step_folders(home / "checkpoints")
        if steps:
            last = max(steps, key=lambda path: int(path.name))
            committed = last / COMMITTED  # folders of a bucket have no times
            dated = committed if committed.exists() else last
            newest = {"step": int(last.name), "time": size_and_time(dated)[1]}
        damaged = len(entries(home / "damaged"))
    return {"checkpoint": newest, "damaged_checkpoints": damaged}


def duration(seconds: float) -> str:
    """Two units at most: 45 s, 12 min, 3 h 20 min, 2 d 3 h."""
    minutes, hours, days = (int(seconds // size) for size in (60, 3600, 86400))
    if days:
        return f"{days} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min" if minutes else f"{int(seconds)} s"
