"""What a run takes, before it is begun: parameters, clips, FLOPs, time."""

import math
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
from rich.table import Table

from supclap_jax.data import splits
from supclap_jax.data.clotho import read_clotho
from supclap_jax.data.prepared import is_prepared, open_training
from supclap_jax.errors import DataError, DoesNotFit
from supclap_jax.experiments.sweep_file import Planned
from supclap_jax.files import path_of
from supclap_jax.models.dual_encoder import TOWERS
from supclap_jax.planning.compiled_step import abstract_batch
from supclap_jax.planning.flops import train_step_flops
from supclap_jax.planning.planner import plan
from supclap_jax.runs.health import duration
from supclap_jax.runs.mesh import make_mesh, mesh_of
from supclap_jax.runs.states import abstract_states, init_states
from supclap_jax.train.step import make_train_step

TIMED_STEPS = 3


def training_cost(config: ConfigDict) -> dict[str, int]:
    """What training takes from the beginning to `total_steps`, whatever it branches from.

    Returns:
      "encoder_parameters", of both towers without their embedding tables; "parameters", all of the
      dual encoder; "steps"; "clips_seen"; "flops", of all steps.
    """
    params = abstract_states(config, make_mesh(1, config.batch_size)).dual.params
    towers = {tower: params[tower] for tower in TOWERS}
    return {
        "encoder_parameters": _count(towers, lambda path: path[-1].key != "embedding"),
        "parameters": _count(params, lambda path: True),
        "steps": config.total_steps,
        "clips_seen": config.total_steps * config.batch_size,
        "flops": config.total_steps * sum(train_step_flops(config).values()),
    }


def _count(params: dict, counts: Callable) -> int:
    leaves = jax.tree.leaves_with_path(params)
    return sum(math.prod(leaf.shape) for path, leaf in leaves if counts(path))


def dry_run(planned: list[Planned], topology: str | None = None) -> Table:
    """A row a run, before any starts, and their sum.

    Times are from a few steps of each distinct shape on this machine; with a TPU topology they are
    the least that the plan allows. Evaluation and data come on top.

    Raises:
      ConfigError: a plan cannot be made for the topology.
      DoesNotFit: a run does not fit its memory.
    """
    shown = Table(
        title="What each run takes",
        caption="Encoders: parameters of both, without their embedding tables; all: of the dual "
        "encoder. Of a branch: steps after its trunk; epochs from the beginning.",
    )
    shown.add_column("run", overflow="fold")
    for column in ("encoders", "all", "steps", "clips", "epochs", "FLOP", "time"):
        shown.add_column(column, justify="right", no_wrap=True)
    per_step, clips = {}, {}
    steps_in_all, flops_in_all, seconds_in_all = 0, 0.0, 0.0
    for run, config, _ in planned:
        shape = _shape(config)
        if shape not in per_step:
            per_step[shape] = _least_seconds(config, topology) if topology else _measured(config)
        source = (config.data.path, str(config.data.mixture), config.data.languages)
        if source not in clips:
            clips[source] = _training_clips(config)
        cost, count = training_cost(config), clips[source]
        own = config.total_steps - (run.branch_step or 0)
        flops = cost["flops"] / config.total_steps * own
        seconds = own * per_step[shape]
        epochs = f"{cost['clips_seen'] / count:.3g}" if count else ""
        counts = (_short(cost[key]) for key in ("encoder_parameters", "parameters"))
        shown.add_row(
            run.name, *counts, f"{own:,}", _short(own * config.batch_size), epochs,
            f"{flops:.3g}", duration(seconds),
        )  # fmt: skip
        steps_in_all += own
        flops_in_all += flops
        seconds_in_all += seconds
    shown.add_section()
    shown.add_row(
        f"{len(planned)} runs", "", "", f"{steps_in_all:,}", "", "", f"{flops_in_all:.3g}",
        duration(seconds_in_all),
    )  # fmt: skip
    return shown


def _short(count: int) -> str:
    """Three digits and a unit.

    >>> [_short(count) for count in (950, 18_496, 1_050_176)]
    ['950', '18.5k', '1.05M']
    """
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g}{unit}"
    return str(count)


def _shape(config: ConfigDict) -> tuple:
    """Equal for configs whose steps take the same time."""
    names = ("batch_size", "microbatch_size", "compute_dtype", "attention", "remat", "scan_layers")
    options = tuple(config[name] for name in names)
    loss = (config.loss.base, config.loss.block_size, config.loss.svr.radius)
    return (*train_step_flops(config).items(), *options, *loss, *config.mesh.values())


def _measured(config: ConfigDict) -> float:
    """Seconds of a step on silent clips, the median of a few after the first two."""
    mesh = mesh_of(config)
    batch = {
        name: jnp.ones(x.shape, x.dtype, device=x.sharding)
        for name, x in abstract_batch(config, mesh).items()
    }
    batch["audio_lengths"] *= batch["audio"].shape[1]
    states, step, seconds = init_states(config, mesh), make_train_step(config, mesh), []
    for _ in range(2 + TIMED_STEPS):
        began = time.perf_counter()
        states, metrics = step(states, batch)
        jax.block_until_ready((states, metrics))
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[2:])


def _least_seconds(config: ConfigDict, topology: str) -> float:
    result = plan(config, topology)
    if result["memory"] is None:
        raise DoesNotFit(
            f"a run with batch_size {config.batch_size} does not fit the memory of {topology}; see "
            "'supclap plan'"
        )
    return result["floor"]["seconds"]


def _training_clips(config: ConfigDict) -> int | None:
    """As listed, none decoded; None where the data are not there yet."""
    path, data = path_of(config.data.path), config.data
    try:
        if data.mixture or is_prepared(path):
            return len(open_training(path, data.mixture, data.languages))
        return len(read_clotho(path, splits.CLOTHO["train"], data.languages))
    except DataError:
        return None
