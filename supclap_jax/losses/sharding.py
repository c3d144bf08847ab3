"""The losses on global arrays: `sharded` wraps one in `jax.shard_map`, ring and all."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from itertools import compress
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from .devices import axis_names

NUMBERS = (jax.Array, np.ndarray, np.floating, float)  # what is computed with, not compiled in
EVERYWHERE = PartitionSpec()  # the same on all devices


def sharded(
    loss_fn: Callable,
    mesh: Mesh | None = None,
    axis_name: str | tuple[str, ...] = "data",
    *,
    in_specs: Mapping[int | str, PartitionSpec] | None = None,
    out_specs: Any = EVERYWHERE,
) -> Callable:
    """`loss_fn` as a function of global arrays, computed by all devices of a mesh together.

    Arrays given as arguments of their own (embeddings, ids, radii) are split along their first
    axis, and so are their gradients; scalars, shapes (1,) and arrays inside containers (a dict of
    parameters) are on every device. It is compiled once for all calls with the same shapes; as of
    `jax.jit`, what `loss_fn` closes over is fixed then, so what changes must be an argument. Under
    `jax.jit` and `jax.grad` it is part of their program. The inputs may have any layout.

    Args:
      loss_fn: takes `axis_name` as a keyword; such as `symmetric_info_nce`, or
        `functools.partial(supclap, block_size=1024)`.
      mesh: the devices; None: those of `jax.set_mesh`.
      axis_name: one or several axes of the mesh; the batch is divided among them.
      in_specs: how single arguments are laid out instead, by position, or by name where they are
        given by name: `{2: P()}` for a matrix that every device needs whole.
      out_specs: how the results are laid out, as in `jax.shard_map`: one `PartitionSpec` for all of
        them or one for each part. The default says that all are the same on every device;
        `PartitionSpec(axis_name)` stands for arrays of each device's pairs, such as pulls.

    Returns:
      A function of the same arguments, without `axis_name`, and the same results. Whole numbers,
      strings, None and functions among them are compiled in.

    Raises:
      ValueError: by the function it returns: there is no mesh or no such axis; arrays with
        different numbers of rows, or with one that the devices do not divide; a key of `in_specs`
        that is no argument of the call.
      TypeError: by the function it returns: `loss_fn` or a constant argument has no hash.

    >>> import jax.numpy as jnp
    >>> from supclap_jax.losses import symmetric_info_nce
    >>> mesh = jax.make_mesh((1,), ("data",), (jax.sharding.AxisType.Auto,))
    >>> loss = sharded(symmetric_info_nce, mesh)
    >>> round(float(loss(jnp.eye(4), jnp.eye(4), 10.0)), 6)
    0.000136
    """
    axes = axis_names(axis_name)
    over = axes[0] if len(axes) == 1 else axes
    given_specs = {str(name): spec for name, spec in (in_specs or {}).items()}

    def on_global_arrays(*args: Any, **kwargs: Any) -> Any:
        devices = _mesh_with(axes, mesh)
        arguments = {str(place): x for place, x in enumerate(args)} | kwargs
        if unknown := given_specs.keys() - arguments.keys():
            raise ValueError(
                f"in_specs has {', '.join(sorted(unknown))}, but the arguments of this call are "
                f"{', '.join(arguments)}; positions are numbers from 0"
            )
        specs = _batch_specs(arguments, given_specs, devices, axes) | given_specs
        leaves, structure = jax.tree.flatten(arguments)
        leaf_specs = [
            specs.get(name, EVERYWHERE)
            for name in sorted(arguments)
            for _ in jax.tree.leaves(arguments[name])
        ]
        is_number = [isinstance(leaf, NUMBERS) for leaf in leaves]
        call = _Call(
            loss_fn,
            devices,
            over,
            structure,
            constants=tuple(
                None if number else leaf for leaf, number in zip(leaves, is_number, strict=True)
            ),
            in_specs=tuple(compress(leaf_specs, is_number)),
            out_specs=_hashable(out_specs),
        )
        numbers = list(compress(leaves, is_number))
        _check_width(numbers)
        try:
            hash(call)
        except TypeError as error:
            raise TypeError(
                f"the loss and its arguments that are no arrays need a hash: {error}; give arrays "
                "as arguments, not inside of objects"
            ) from error
        placed = [_placed(x, devices, s) for x, s in zip(numbers, call.in_specs, strict=True)]
        return _on_mesh(call, placed)

    return on_global_arrays


class _Call(NamedTuple):
    """All of a call but its numbers; hashable, so that equal calls share one compilation.

    `structure` is of the arguments by name, positions as "0", "1"; `constants` has None in place of
    each leaf that is a number, `in_specs` are of these.
    """

    loss_fn: Callable
    mesh: Mesh | AbstractMesh
    over: str | tuple[str, ...]
    structure: Any
    constants: tuple
    in_specs: tuple[PartitionSpec, ...]
    out_specs: tuple


@partial(jax.jit, static_argnums=0)
def _on_mesh(call: _Call, numbers: list) -> Any:
    def on_one_device(numbers):
        numbers = iter(numbers)
        leaves = [next(numbers) if leaf is None else leaf for leaf in call.constants]
        arguments = call.structure.unflatten(leaves)
        by_name = {name: x for name, x in arguments.items() if not name.isdecimal()}
        by_place = (arguments[str(n)] for n in range(len(arguments) - len(by_name)))
        return call.loss_fn(*by_place, **by_name, axis_name=call.over)

    leaves, structure = call.out_specs
    on_mesh = jax.shard_map(
        on_one_device,
        mesh=call.mesh,
        in_specs=(list(call.in_specs),),
        out_specs=structure.unflatten(leaves),
    )
    return on_mesh(numbers)


def _check_width(numbers: list) -> None:
    for x in numbers:
        dtype = jax.dtypes.canonicalize_dtype(x.dtype) if isinstance(x, np.ndarray) else None
        if dtype and np.issubdtype(dtype, np.integer) and np.any(x != x.astype(dtype)):
            raise ValueError(f"whole numbers from {x.min()} to {x.max()} do not fit {dtype}")


def _mesh_with(axes: tuple[str, ...], mesh: Mesh | None) -> Mesh | AbstractMesh:
    found = _mesh_in_use() if mesh is None else mesh
    if found.empty:
        raise ValueError("there is no mesh; give one to sharded, or call under jax.set_mesh(mesh)")
    if not axes or not set(axes) <= set(found.axis_names):
        raise ValueError(f"axis_name is {axes}; expected some of the mesh's {found.axis_names}")
    return found


def _mesh_in_use() -> Mesh | AbstractMesh:
    """Of `jax.set_mesh`, empty without any; under `jax.jit` its devices are not known."""
    try:
        return jax.sharding.get_mesh()
    except ValueError:
        return jax.sharding.get_abstract_mesh()


def _batch_specs(
    arguments: dict[str, Any],
    given: dict[str, PartitionSpec],
    mesh: Mesh | AbstractMesh,
    axes: tuple[str, ...],
) -> dict[str, PartitionSpec]:
    """Of arguments that are arrays of pairs, all of one number of rows, the split of these."""
    rows = {
        name: x.shape[0]
        for name, x in arguments.items()
        if isinstance(x, NUMBERS) and np.ndim(x) and np.shape(x) != (1,) and name not in given
    }
    if len(set(rows.values())) > 1:
        shown = ", ".join(f"{name!r} has {count}" for name, count in rows.items())
        advice = "what is no array of the batch belongs into a dict, or needs in_specs"
        if "target" in arguments:
            advice = f"divide keys of another number by in_specs={{1: P({axes[0]!r})}}"
        raise ValueError(f"the arrays differ in their rows: argument {shown}; {advice}")
    devices = math.prod(mesh.shape[axis] for axis in axes)
    if rows and next(iter(rows.values())) % devices:
        raise ValueError(
            f"{devices} devices cannot share {next(iter(rows.values()))} rows; expected a multiple"
        )
    return dict.fromkeys(rows, PartitionSpec(axes))


def _placed(x: jax.Array, mesh: Mesh | AbstractMesh, spec: PartitionSpec) -> jax.Array:
    """A gradient takes the layout of this constraint: without it, jit may replicate it."""
    kinds = dict(zip(mesh.axis_names, mesh.axis_types, strict=True))

    def part_of(kind):
        names = (tuple(a for a in axis_names(part) if kinds[a] == kind) for part in spec)
        return NamedSharding(mesh, PartitionSpec(*(part or None for part in names)))

    if AxisType.Explicit in kinds.values():
        x = jax.sharding.reshard(x, part_of(AxisType.Explicit))
    if AxisType.Auto in kinds.values():
        x = jax.lax.with_sharding_constraint(x, part_of(AxisType.Auto))
    return x


def _hashable(specs: Any) -> tuple:
    leaves, structure = jax.tree.flatten(specs, is_leaf=lambda x: isinstance(x, PartitionSpec))
    return tuple(leaves), structure
