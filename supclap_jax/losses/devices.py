"""Devices of a mesh, inside `jax.shard_map`: how many, what differs between them, global means."""

import functools
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

Tree = Any


def axis_names(axis_name: str | tuple[str, ...] | None) -> tuple[str, ...]:
    """The axes as a tuple; empty for None."""
    return (axis_name,) if isinstance(axis_name, str) else tuple(axis_name or ())


def device_count(axes: tuple[str, ...]) -> int:
    return lax.axis_size(axes) if axes else 1


def bound_axes(axis_name: str | tuple[str, ...] | None) -> tuple[str, ...]:
    """As `axis_names`, of axes over which this code runs; ValueError if one of them is none."""
    axes = axis_names(axis_name)
    for axis in axes:
        try:
            lax.axis_size(axis)
        except NameError:
            raise ValueError(
                f"axis_name is {axis_name!r}, but {axis!r} is no axis of a jax.shard_map around "
                "this call"
            ) from None
    return axes


def global_mean(x: jax.Array, axis_name: str | tuple[str, ...] | None) -> jax.Array:
    """The mean of all entries on all devices of `axis_name`, the same on each of them.

    Its gradient is that of this one number. Where JAX does not keep track of what differs between
    devices, in `jax.pmap` and `jax.shard_map(check_vma=False)`, that holds for gradients that are
    taken inside; from outside they come divided by the number of devices.
    """
    mean, axes = jnp.mean(x), bound_axes(axis_name)
    if not axes:
        return mean
    is_tracked = varying(lax.axis_index(axes))
    return lax.pmean(mean, axes) if is_tracked else _mean_of_devices(mean, axes)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _mean_of_devices(x: jax.Array, axes: tuple[str, ...]) -> jax.Array:
    """`lax.pmean`, whose own gradient there is that of the sum over all devices' results."""
    return lax.pmean(x, axes)


_mean_of_devices.defvjp(
    lambda x, axes: (_mean_of_devices(x, axes), None),
    lambda axes, _, slope: (lax.pmean(slope, axes) / device_count(axes),),
)


def varying(x: jax.Array) -> frozenset[str]:
    """Mesh axes on whose devices `x` may differ; empty outside of `jax.shard_map`."""
    return jax.typeof(x).manual_axis_type.varying


def vary(tree: Tree, axes: Iterable[str]) -> Tree:
    """The same arrays, typed as different on the devices of `axes` (inside `jax.shard_map`)."""

    def vary_one(x):
        missing = tuple(set(axes) - varying(x))
        return lax.pcast(x, missing, to="varying") if missing else x

    return jax.tree.map(vary_one, tree)
