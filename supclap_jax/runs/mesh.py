"""The device mesh and how arrays lie on it.

Axis "data" holds copies of the states, axis "fsdp" divides them (fully sharded data parallelism);
batches are divided among the devices of both.
"""

import math
from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from supclap_jax.errors import ConfigError

AXES = ("data", "fsdp")
MIN_SHARDED = 2**16  # elements, of one layer; gathering fewer costs time and saves no memory


def mesh_of(config: ConfigDict, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The mesh of a config, of some devices or all there are, some of each process.

    Raises:
      ConfigError: as `make_mesh`; or it has no devices of a process that takes part.
    """
    shape = config.mesh
    mesh = make_mesh(shape.data, config.batch_size, shape.fsdp, devices, slices=shape.slices)
    taking_part = {device.process_index for device in mesh.devices.flat}
    if devices is None and len(taking_part) < jax.process_count():
        raise ConfigError(
            f"mesh.data and mesh.fsdp take {mesh.size} devices, of {len(taking_part)} of "
            f"{jax.process_count()} processes; set mesh.data=-1 for all devices, or start fewer"
        )
    return mesh


def make_mesh(
    data: int,
    batch_size: int,
    fsdp: int = 1,
    devices: Sequence[jax.Device] | None = None,
    *,
    slices: int | None = None,
) -> Mesh:
    """A mesh of `data` x `fsdp` devices; -1 for one of them takes all that are left.

    Of several slices the devices lie slice by slice along "data", as many of each: groups of `fsdp`
    devices stay inside a slice, and the slow network between them carries only what crosses "data".

    Args:
      data: groups of devices, each with a copy of the states.
      batch_size: that the devices are to share.
      fsdp: devices of a group, which share the copy.
      devices: to choose from, the first ones first; by default all there are.
      slices: that the mesh spans; None as many as the devices tell of. Where they tell of none,
        runs of devices in order are taken for slices.

    Raises:
      ConfigError: there are fewer devices, `batch_size` is not divisible by their number, or slices
        cannot be shared equally.
    """
    devices = jax.devices() if devices is None else list(devices)
    asked_for_all = -1 in (data, fsdp)
    given = f"mesh.data is {data} and mesh.fsdp is {fsdp}"
    if data == fsdp == -1:
        raise ConfigError(f"{given}; only one of them can be all that are left")
    data = len(devices) // fsdp if data == -1 and fsdp > 0 else data
    fsdp = len(devices) // data if fsdp == -1 and data > 0 else fsdp
    count = data * fsdp
    fits = count == len(devices) if asked_for_all else count <= len(devices)
    if min(data, fsdp) < 1 or not fits:
        raise ConfigError(f"{given}, but there are {len(devices)} devices")
    if batch_size % count:
        raise ConfigError(
            f"batch_size {batch_size} is not divisible by the {count} devices of mesh.data and "
            "mesh.fsdp"
        )
    groups = _slices(devices[:count], slices)
    if data % len(groups):
        raise ConfigError(
            f"mesh.data is {data}, but there are {len(groups)} slices; a copy of the states stays "
            f"inside one, so that mesh.data is a multiple of {len(groups)}"
        )
    shape, types = (data // len(groups), fsdp), (AxisType.Auto,) * 2
    parts = [jax.make_mesh(shape, AXES, types, devices=part) for part in groups]
    return Mesh(np.concatenate([part.devices for part in parts]), AXES, axis_types=types)


def _slices(devices: list[jax.Device], slices: int | None) -> list[list[jax.Device]]:
    """The devices of each slice."""
    found = sorted({getattr(device, "slice_index", None) or 0 for device in devices})
    if len(found) > 1:
        if slices not in (None, len(found)):
            raise ConfigError(f"mesh.slices is {slices}, but the devices are of {len(found)}")
        groups = [[device for device in devices if device.slice_index == x] for x in found]
        if len({len(group) for group in groups}) > 1:
            raise ConfigError(
                f"{len(devices)} devices are not as many of each of {len(found)} slices; change "
                "mesh.data"
            )
        return groups
    if len(devices) % (slices or 1):
        raise ConfigError(f"mesh.slices is {slices}, which does not divide {len(devices)} devices")
    size = len(devices) // (slices or 1)
    return [devices[start : start + size] for start in range(0, len(devices), size)]


def mesh_at_hand(config: ConfigDict) -> Mesh:
    """The mesh of a run, to use it; where it is too large, one of all devices that are there.

    In that, as many devices share a copy of the states as divide both `config.mesh.fsdp` and all.
    """
    try:
        return make_mesh(config.mesh.data, 0, config.mesh.fsdp)
    except ConfigError:
        return make_mesh(-1, 0, math.gcd(config.mesh.fsdp, len(jax.devices())))


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The first axis is divided among all devices."""
    return NamedSharding(mesh, PartitionSpec(AXES))


def state_shardings(states, mesh: Mesh):
    """How states lie on the mesh: a tree like `states`, of their shardings.

    | leaf | divided over "fsdp" |
    |---|---|
    | fewer than `MIN_SHARDED` elements in a layer, or no axis that fsdp divides | not |
    | of stacked blocks, [depth, ...] | the last axis that fsdp divides, but not the layers |
    | any other | the last axis that fsdp divides |

    Moments and averages have the shapes of their parameters, and so their places.

    Args:
      states: tree of arrays or their shapes.
      mesh: of `make_mesh`.
    """

    def sharding(path, leaf):
        stacked = any(getattr(step, "key", None) == "blocks" for step in path)
        spec = [None] * leaf.ndim
        if math.prod(leaf.shape[stacked:]) >= MIN_SHARDED:
            axes = range(leaf.ndim - 1, stacked - 1, -1)
            axis = next((i for i in axes if leaf.shape[i] % mesh.shape["fsdp"] == 0), None)
            if axis is not None:
                spec[axis] = "fsdp"
        return NamedSharding(mesh, PartitionSpec(*spec))

    return jax.tree.map_with_path(sharding, states)


def put_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Puts this host's share of a batch on its devices, as part of the global batch."""
    sharding = batch_sharding(mesh)
    return {
        name: jax.make_array_from_process_local_data(sharding, array)
        for name, array in batch.items()
    }
