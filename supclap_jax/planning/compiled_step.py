"""The very step of training, compiled for a TPU slice that is not there."""

import importlib.util
import os
import re

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import Mesh
from ml_collections import ConfigDict

from supclap_jax.config.conditions import OFFLINE
from supclap_jax.data.augment import changes_values
from supclap_jax.data.reference_embeddings import open_reference
from supclap_jax.errors import ConfigError
from supclap_jax.models.encoder import SAMPLE_RATE
from supclap_jax.planning.chips import CHIPS
from supclap_jax.runs.mesh import batch_sharding, mesh_of
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
UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


class DeviceIsFull(Exception):
    """A step needs more memory than a device has: `used` bytes of temporaries, if that is known."""

    def __init__(self, used: int | None):
        super().__init__(used)
        self.used = used


def devices_of(topology: str, slices: int = 1) -> list:
    """The devices of a slice such as "v5e:16x16", or of several.

    Raises:
      ConfigError: there is no such topology, or no libtpu to know it.
    """
    generation = topology.partition(":")[0]
    if generation not in CHIPS:
        raise ConfigError(
            f"topology is {topology!r}; expected a generation of {', '.join(CHIPS)} and a shape, "
            "such as v5e:16x16"
        )
    if slices > 1 and CHIPS[generation].network_rate is None:
        raise ConfigError(
            f"how fast the network between slices of {generation} is was not published, so that no "
            "plan of several can be made; leave out --slices"
        )
    if importlib.util.find_spec("libtpu") is None:
        raise ConfigError(
            "plans for TPUs need their compiler: pip install --no-deps --target=.venv/libtpu "
            f"{LIBTPU}, and set PYTHONPATH=.venv/libtpu"
        )
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        return topologies.get_topology_desc(
            platform="tpu", topology_name=topology, num_slices=slices, **CHIPS[generation].options
        ).devices
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            f"libtpu knows no topology {topology!r}; expected such as v5e:16x16 or v4:4x4x8"
        ) from error


def compile_step(config: ConfigDict, devices: list) -> jax.stages.Compiled:
    """The compiled step of training.

    Never from a cache: without a chip there is nothing to load a kept program onto.

    Raises:
      DeviceIsFull: it needs more memory than a device has.
      ConfigError: the recipe's mesh does not fit the devices, or as `make_train_step`.
    """
    mesh = mesh_of(config, devices)
    step = make_train_step(config, mesh)
    lowered = step.lower(abstract_states(config, mesh), abstract_batch(config, mesh))
    cached = jax.config.jax_enable_compilation_cache
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        return lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise DeviceIsFull(_used(str(error))) from error
    finally:
        jax.config.update("jax_enable_compilation_cache", cached)


def fits(config: ConfigDict, devices: list) -> bool:
    try:
        compile_step(config, devices)
    except DeviceIsFull:
        return False
    return True


def abstract_batch(config: ConfigDict, mesh: Mesh) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes, dtypes and shardings of what `training_batches` yields, joined over hosts.

    The sets are taken to be prepared ones, of 16 bit.
    """
    rows, sharding = config.batch_size, batch_sharding(mesh)
    samples = round(config.audio.seconds * SAMPLE_RATE)
    shapes = {
        "audio": ((rows, samples), jnp.float32 if changes_values(config) else jnp.int16),
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


def memory_of(compiled: jax.stages.Compiled, capacity: int) -> dict[str, int]:
    """Bytes of a device, at the moment where most of them are in use."""
    analysis = compiled.memory_analysis()
    arguments = analysis.argument_size_in_bytes
    parts = {
        "arguments": arguments,
        "temporaries": analysis.peak_memory_in_bytes - arguments,
        "code": analysis.generated_code_size_in_bytes,
    }
    return {**parts, "total": sum(parts.values()), "capacity": capacity}


def _used(message: str) -> int | None:
    """Bytes of temporaries that a compiler's complaint asks for; None where it does not say."""
    found = re.search(r"\(([\d.]+)([KMGT])\) exceeds", message)
    return round(float(found[1]) * UNITS[found[2]]) if found else None
