"""What a recipe takes on a TPU slice that is not there: the very step of training, compiled."""

import importlib.util
import itertools
import os
import time
from collections.abc import Iterator
from copy import deepcopy

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import Mesh
from ml_collections import ConfigDict
from rich.table import Table

from supclap_jax.config.conditions import OFFLINE
from supclap_jax.data.reference_embeddings import open_reference
from supclap_jax.errors import ConfigError
from supclap_jax.models.encoder import SAMPLE_RATE
from supclap_jax.models.registry import check_config
from supclap_jax.planning import hlo
from supclap_jax.planning.chips import CHIPS
from supclap_jax.planning.flops import train_step_flops
from supclap_jax.planning.roofline import floor
from supclap_jax.runs.mesh import batch_sharding, make_mesh
from supclap_jax.runs.states import abstract_states
from supclap_jax.train.step import make_train_step

LIBTPU = "libtpu==0.0.42.1"
# What libtpu would otherwise ask a metadata server for, or complain that it is missing.
ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
}


def plan(config: ConfigDict, topology: str, search: bool = False) -> dict:
    """Compiles a recipe's training step for a topology and derives what it takes.

    Args:
      config: of the recipe; its `mesh` must fit the slice.
      topology: generation and shape, such as "v5e:16x16".
      search: also find the largest batch that fits, by doubling. Where the recipe's own does not
        fit, smaller ones are tried in any case: first microbatches down to one row a device, then
        batches, by halves.

    Returns:
      A dict for JSON; "memory" is None where the step does not fit, and "largest" is None where
      nothing was searched or nothing fits. Bytes, FLOPs and seconds are of one step; memory,
      collectives and "hbm_bytes" of one device.

    Raises:
      ConfigError: libtpu is not installed, it does not know the topology, the recipe's mesh does
        not fit it, or as `check_config`.
    """
    check_config(config)
    generation = topology.partition(":")[0]
    if generation not in CHIPS:
        raise ConfigError(
            f"topology is {topology!r}; expected a generation of {', '.join(CHIPS)} and a shape, "
            "such as v5e:16x16"
        )
    chip, devices = CHIPS[generation], _devices(topology)
    began = time.perf_counter()
    compiled = _compile(config, devices)
    result = {
        "topology": topology,
        "chips": len(devices) // chip.a_chip,
        "devices": len(devices),
        "chip": generation,
        "batch_size": config.batch_size,
        "microbatch_size": config.microbatch_size,
        "compile_seconds": time.perf_counter() - began,
        "memory": None,
        "largest": None,
    }
    if compiled is None:
        result["largest"] = _first_fitting(_smaller(config, len(devices)), devices)
        return result

    program = hlo.parse(compiled.as_text())
    flops = train_step_flops(config)
    collectives = hlo.collectives(program)
    hbm_bytes = hlo.hbm_bytes(program)
    sent = sum(kind["bytes"] for kind in collectives.values())
    least = floor(chip, sum(flops.values()) / len(devices), hbm_bytes, sent)
    hours = config.total_steps * least["seconds"] / 3600
    result |= {
        "memory": _memory(compiled, chip.hbm_bytes),
        "collectives": collectives,
        "hbm_bytes": hbm_bytes,
        "flops": flops,
        "floor": least,
        "mfu_bound": _model_flops(config) / (len(devices) * chip.flops * least["seconds"]),
        "clips_per_second": config.batch_size / least["seconds"],
        "recipe": {
            "steps": config.total_steps,
            "hours": hours,
            "chip_hours": hours * len(devices) / chip.a_chip,
        },
    }
    if search:
        result["largest"] = _last_fitting(_larger(config), devices) or _sizes(config)
    return result


def tables(result: dict) -> Iterator[Table]:
    """A plan as tables; none where the step does not fit."""
    if result["memory"] is None:
        return
    memory = _table("memory of a device", "GiB")
    for name, size in result["memory"].items():
        memory.add_row(name, f"{size / 2**30:.2f}", end_section=name in ("code", "total"))
    yield memory

    sent = _table("collectives of a device", "a step", "GB sent")
    for kind, total in result["collectives"].items():
        sent.add_row(kind, f"{total['count']:,}", f"{total['bytes'] / 1e9:.2f}")
    yield sent

    work = _table("part of a step", "TFLOP, all devices", "%")
    total = sum(result["flops"].values())
    for name, flops in result["flops"].items():
        work.add_row(name, f"{flops / 1e12:,.1f}", f"{100 * flops / total:.1f}")
    work.add_section()
    work.add_row("all", f"{total / 1e12:,.1f}", "100")
    yield work

    least, recipe = result["floor"], result["recipe"]
    time_table = _table("at best", "")
    for part in ("matrix", "hbm", "interconnect"):
        bound = ", the floor of a step" if part == least["bound_by"] else ""
        time_table.add_row(f"{part}{bound}", f"{least[part]:.3f} s")
    time_table.add_section()
    time_table.add_row("MFU", f"{100 * result['mfu_bound']:.0f} %")
    time_table.add_row("clips/s", f"{result['clips_per_second']:,.0f}")
    time_table.add_row(f"{recipe['steps']:,} steps", f"{recipe['hours']:,.1f} hours")
    time_table.add_row("", f"{recipe['chip_hours']:,.0f} chip-hours")
    yield time_table


def _table(*columns: str) -> Table:
    table = Table()
    for place, column in enumerate(columns):
        table.add_column(column, justify="right" if place else "left")
    return table


def _devices(topology: str) -> list:
    if importlib.util.find_spec("libtpu") is None:
        raise ConfigError(
            "plans for TPUs need their compiler: pip install --no-deps --target=.venv/libtpu "
            f"{LIBTPU}, and set PYTHONPATH=.venv/libtpu"
        )
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    options = CHIPS[topology.partition(":")[0]].options
    try:
        return topologies.get_topology_desc(
            platform="tpu", topology_name=topology, **options
        ).devices
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            f"libtpu knows no topology {topology!r}; expected such as v5e:16x16 or v4:4x4x8"
        ) from error


def _compile(config: ConfigDict, devices: list):
    """The compiled step; None if it needs more memory than a chip has.

    Never from a cache: without a chip there is nothing to load a kept program onto.
    """
    mesh = make_mesh(config.mesh.data, config.batch_size, config.mesh.fsdp, devices)
    step = make_train_step(config, mesh)
    lowered = step.lower(abstract_states(config, mesh), abstract_batch(config, mesh))
    cached = jax.config.jax_enable_compilation_cache
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        return lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return None
    finally:
        jax.config.update("jax_enable_compilation_cache", cached)


def abstract_batch(config: ConfigDict, mesh: Mesh) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes, dtypes and shardings of what `training_batches` yields, joined over hosts."""
    rows, sharding = config.batch_size, batch_sharding(mesh)
    samples = round(config.audio.seconds * SAMPLE_RATE)
    shapes = {
        "audio": ((rows, samples), jnp.float32),
        "audio_lengths": ((rows,), jnp.int32),
        "tokens": ((rows, config.text.max_tokens), jnp.int32),
        "group_ids": ((rows,), jnp.int32),
    }
    if OFFLINE.holds(config):
        dim = open_reference(config.loss.svr.reference).audio.shape[1]
        shapes |= {f"reference_{side}": ((rows, dim), jnp.float32) for side in ("audio", "text")}
    return {
        name: jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)
        for name, (shape, dtype) in shapes.items()
    }


def _memory(compiled, capacity: int) -> dict[str, int]:
    """Bytes of a device; what the program gives back in place of an argument counts once."""
    analysis = compiled.memory_analysis()
    parts = {
        "arguments": analysis.argument_size_in_bytes,
        "outputs": analysis.output_size_in_bytes,
        "aliases": -analysis.alias_size_in_bytes,
        "temporaries": analysis.temp_size_in_bytes,
        "code": analysis.generated_code_size_in_bytes,
    }
    return {**parts, "total": sum(parts.values()), "capacity": capacity}


def _model_flops(config: ConfigDict) -> int:
    """Operations of a step that computes nothing twice."""
    once = _with(config, config.batch_size, None)
    once.remat, once.loss.block_size = "none", None
    return sum(train_step_flops(once).values())


def _larger(config: ConfigDict) -> Iterator[ConfigDict]:
    batch_size = config.batch_size
    while True:
        batch_size *= 2
        yield _with(config, batch_size, config.microbatch_size)


def _smaller(config: ConfigDict, chips: int) -> Iterator[ConfigDict]:
    microbatch_size = config.microbatch_size or config.batch_size
    while microbatch_size % (2 * chips) == 0:
        microbatch_size //= 2
        yield _with(config, config.batch_size, microbatch_size)
    batch_size = config.batch_size
    while batch_size % (2 * microbatch_size) == 0:
        batch_size //= 2
        yield _with(config, batch_size, microbatch_size)


def _with(config: ConfigDict, batch_size: int, microbatch_size: int | None) -> ConfigDict:
    changed = deepcopy(config)
    changed.batch_size, changed.microbatch_size = batch_size, microbatch_size
    return changed


def _first_fitting(configs: Iterator[ConfigDict], devices: list) -> dict | None:
    return next((_sizes(config) for config in configs if _compile(config, devices)), None)


def _last_fitting(configs: Iterator[ConfigDict], devices: list) -> dict | None:
    """The last before the first that does not fit."""
    last = None
    for config in itertools.takewhile(lambda config: _compile(config, devices), configs):
        last = _sizes(config)
    return last


def _sizes(config: ConfigDict) -> dict:
    return {"batch_size": config.batch_size, "microbatch_size": config.microbatch_size}
