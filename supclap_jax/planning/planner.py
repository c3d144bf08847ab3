"""What a recipe takes on a TPU slice that is not there."""

import itertools
import time
from collections.abc import Iterator
from copy import deepcopy
from math import sqrt

from ml_collections import ConfigDict

from supclap_jax.models.registry import check_config
from supclap_jax.planning import hlo
from supclap_jax.planning.chips import CHIPS, Chip
from supclap_jax.planning.communication import between_slices, collectives
from supclap_jax.planning.compiled_step import (
    DeviceIsFull,
    abstract_batch,
    compile_step,
    devices_of,
    fits,
    memory_of,
)
from supclap_jax.planning.flops import train_step_flops
from supclap_jax.planning.hosts import host_needs
from supclap_jax.planning.roofline import Sent, floor
from supclap_jax.runs.mesh import mesh_of

WITHIN = 1.1  # of the largest batch that fits, the next one that was tried and does not


def plan(config: ConfigDict, topology: str, search: bool = False, slices: int = 1) -> dict:
    """Compiles a recipe's training step for a topology and derives what it takes.

    Args:
      config: of the recipe; its `mesh` must fit the slice.
      topology: generation and shape, such as "v5e:16x16".
      search: also find the largest batch that fits, within 10 %: by doubling, and then by halving
        the gap. Where the recipe's own does not fit, smaller ones are tried in any case: first
        microbatches down to one row a device, then batches, by halves.
      slices: so many of these slices.

    Returns:
      A dict for JSON; "memory" is None where the step does not fit, and "largest" is None where
      nothing was searched or nothing fits. Bytes, FLOPs and seconds are of one step; memory,
      collectives and "hbm_bytes" of one device.

    Raises:
      ConfigError: libtpu is not installed, it does not know the topology, the recipe's mesh does
        not fit it, or as `check_config`.
    """
    check_config(config)
    devices = devices_of(topology, slices)
    generation = topology.partition(":")[0]
    chip = CHIPS[generation]
    began = time.perf_counter()
    result = {
        "topology": topology,
        "slices": slices,
        "chips": len(devices) // chip.a_chip,
        "devices": len(devices),
        "chip": generation,
        "batch_size": config.batch_size,
        "microbatch_size": config.microbatch_size,
        "compile_seconds": None,
        "memory": None,
        "largest": None,
    }
    try:
        compiled = compile_step(config, devices)
    except DeviceIsFull:
        result["compile_seconds"] = time.perf_counter() - began
        smaller = _smaller(config, len(devices))
        result["largest"] = next((_sizes(x) for x in smaller if fits(x, devices)), None)
        return result
    result["compile_seconds"] = time.perf_counter() - began
    result |= analysis(config, compiled, chip, devices, slices)
    mesh = mesh_of(config, devices)
    result["host"] = host_needs(
        abstract_batch(config, mesh),
        config.audio.seconds,
        result["floor"]["seconds"],
        hosts=len({device.process_index for device in mesh.devices.flat}),
    )
    if search:
        result["largest"] = _sizes(_largest(config, devices))
    return result


def analysis(config: ConfigDict, compiled, chip: Chip, devices: list, slices: int = 1) -> dict:
    """What a compiled step takes of each device: memory, traffic and time."""
    used = mesh_of(config, devices).size
    program = hlo.parse(compiled.as_text())
    flops = train_step_flops(config)
    sent = collectives(program)
    hbm_bytes = hlo.hbm_bytes(program)
    crossing = between_slices(program, slices)
    least = floor(chip, sum(flops.values()) / used, hbm_bytes, _total(sent), _total(crossing))
    hours = config.total_steps * least["seconds"] / 3600
    return {
        "memory": memory_of(compiled, chip.hbm_bytes),
        "collectives": sent,
        "between_slices": crossing,
        "hbm_bytes": hbm_bytes,
        "flops": flops,
        "floor": least,
        "mfu_bound": model_flops(config) / (used * chip.flops * least["seconds"]),
        "clips_per_second": config.batch_size / least["seconds"],
        "recipe": {
            "steps": config.total_steps,
            "hours": hours,
            "chip_hours": hours * len(devices) / chip.a_chip,
        },
    }


def _total(kinds: dict[str, dict[str, int]]) -> Sent:
    return Sent(*(sum(kind[name] for kind in kinds.values()) for name in Sent._fields))


def model_flops(config: ConfigDict) -> int:
    """Operations of a step that computes nothing twice."""
    once = _with(config, config.batch_size, None)
    once.remat, once.loss.block_size = "none", None
    return sum(train_step_flops(once).values())


def _largest(config: ConfigDict, devices: list) -> ConfigDict:
    """The largest batch that fits, where the config's own does."""
    unit = config.microbatch_size or len(devices)
    fitting = config.batch_size
    too_large = next(
        size
        for size in (fitting * 2**power for power in itertools.count(1))
        if not fits(_with(config, size, config.microbatch_size), devices)
    )
    fitting = too_large // 2
    while too_large > max(WITHIN * fitting, fitting + unit):
        size = round(sqrt(fitting * too_large) / unit) * unit
        size = min(max(size, fitting + unit), too_large - unit)
        if fits(_with(config, size, config.microbatch_size), devices):
            fitting = size
        else:
            too_large = size
    return _with(config, fitting, config.microbatch_size)


def _smaller(config: ConfigDict, devices: int) -> Iterator[ConfigDict]:
    microbatch_size = config.microbatch_size or config.batch_size
    while microbatch_size % (2 * devices) == 0:
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


def _sizes(config: ConfigDict) -> dict:
    return {"batch_size": config.batch_size, "microbatch_size": config.microbatch_size}
