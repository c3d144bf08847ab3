"""The device mesh and how arrays lie on it: batches split, states replicated."""

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from supclap_jax.config import ConfigError


def make_mesh(devices: int, batch_size: int) -> Mesh:
    """A one-axis mesh "data" over the first `devices` devices; -1 takes all of them.

    Raises:
      ConfigError: there are fewer devices, or `batch_size` is not divisible by them.
    """
    available = jax.device_count()
    count = available if devices == -1 else devices
    if not 0 < count <= available:
        raise ConfigError(f"mesh.data is {devices}, but there are {available} devices")
    if batch_size % count:
        raise ConfigError(
            f"batch_size {batch_size} is not divisible by the {count} devices of mesh.data"
        )
    return jax.make_mesh((count,), ("data",), (AxisType.Auto,), devices=jax.devices()[:count])


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The first axis is divided among the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


def put_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Puts this host's share of a batch on its devices, as part of the global batch."""
    sharding = batch_sharding(mesh)
    return {
        name: jax.make_array_from_process_local_data(sharding, array)
        for name, array in batch.items()
    }
