"""How the blocks of all devices meet, inside `jax.shard_map`: round a ring, or gathered at once."""

import itertools
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .devices import device_count, vary, varying
from .inputs import wide

Tree = Any

PACKED_UP_TO = 64  # bytes a row of arrays that travel together in one buffer
HALVED_FROM = 8  # rows of a block; below, there is nothing to hide a transfer behind


def exchange(
    axes: tuple[str, ...],
    gathered: bool,
    rows: int,
    visit: Callable,
    blocks: Tree,
    nothing: Callable[[int], Tree],
    home: Tree,
    merge: Callable[[Tree, Tree], Tree] | None = None,
) -> tuple[Tree, Tree]:
    """What all devices contribute to each one's own block, and what each keeps at home.

    Args:
      axes: of the mesh; empty on one device.
      gathered: every device gets all blocks at once, of which the contributions come home by one
        reduce-scatter, or by one all-to-all where they are not sums. Else blocks travel round a
        ring, one device on after every visit, with the contributions to them. They do so in halves:
        one is under way while the other is visited. Few rows, or an odd number, go and wait as one.
      visit: `contribution, home = visit(first, blocks, contribution, home)`, with the number of the
        blocks' first row among those of all devices.
      rows: of a device's block.
      blocks: arrays `[rows, ...]` of this device.
      nothing: `nothing(rows)`, the contribution before any visit.
      home: what a device's visits make on the way.
      merge: two contributions to the same block as one; None: they are added.
    """
    devices = device_count(axes)
    if devices == 1:
        return visit(0, blocks, nothing(rows), home)
    if gathered:
        everything = _move(blocks, partial(lax.all_gather, axis_name=axes, tiled=True))
        contribution, home = visit(0, everything, nothing(devices * rows), home)
        return _bring_home(axes, rows, contribution, merge), home
    return _ring(axes, rows, visit, blocks, nothing, home)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def fetch(
    axes: tuple[str, ...],
    gathered: bool,
    keys: jax.Array,
    mask: jax.Array | None,
    target: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """The rows `[queries, dim]` of all devices' keys that `target [queries]` names, in float32.

    Zeros, and False in the second result `[queries]`, where there is no such row, or `mask` has
    False for it. In float64 for float64 keys.
    """

    def visit(first, blocks, _, home):
        rows, is_there = _local(target, first, blocks["keys"].shape[0])
        if mask is not None:
            is_there &= blocks["mask"][rows]
        found, known = home
        here = blocks["keys"][rows].astype(found.dtype)
        return (), (jnp.where(is_there[:, None], here, found), known | is_there)

    nothing = jnp.zeros((*target.shape, keys.shape[1]), wide(keys)), jnp.zeros(target.shape, bool)
    nothing = vary(nothing, varying(keys) | varying(target))
    blocks = {"keys": keys} if mask is None else {"keys": keys, "mask": mask}
    return exchange(axes, gathered, keys.shape[0], visit, blocks, lambda rows: (), nothing)[1]


def _fetch_forward(axes, gathered, keys, mask, target):
    return fetch(axes, gathered, keys, mask, target), (keys, target)  # of keys for their shape


def _fetch_backward(axes, gathered, residuals, gradients):
    keys, target = residuals
    gradient, _ = gradients

    def visit(first, _, contribution, home):
        rows, is_there = _local(target, first, contribution.shape[0])
        return contribution.at[rows].add(jnp.where(is_there[:, None], gradient, 0)), home

    def nothing(rows):
        return vary(jnp.zeros((rows, keys.shape[1]), gradient.dtype), varying(gradient))

    of_keys, _ = exchange(axes, gathered, keys.shape[0], visit, (), nothing, ())
    return of_keys.astype(keys.dtype), None, None


fetch.defvjp(_fetch_forward, _fetch_backward)


def _local(target, first, rows: int):
    """Where in the `rows` from `first` on the targets are, and which are there at all."""
    first = jnp.asarray(first, target.dtype)
    is_there = (target >= first) & (target < first + rows)
    return jnp.where(is_there, target - first, 0), is_there


def _ring(axes, rows, visit, blocks, nothing, home):
    """Round rings along the last axis, all blocks of a ring hopping to the next ring after a turn.

    So what crosses from one end of the mesh to the other is divided among the devices of a ring.
    """
    in_order, numbers = _numbering(axes)
    ring, hops = in_order[-1:], in_order[:-1]
    if 1 in (device_count(ring), device_count(hops)):
        ring, hops = in_order, ()
    around, turns = device_count(ring), device_count(hops)
    here, of_ring = lax.axis_index(ring), lax.axis_index(hops) if hops else 0
    pieces = 2 if isinstance(rows, int) and rows >= HALVED_FROM and rows % 2 == 0 else 1
    size = rows // pieces

    def send(tree, along=ring):
        count = device_count(along)
        route = [(i, (i + 1) % count) for i in range(count)]
        return _move(tree, lambda x, axis: lax.ppermute(x, along, route))

    def turn(k, carry):
        def step(n, carry):
            parts, home = list(carry[0]), carry[1]
            number = numbers[(of_ring - k) % turns * around + (here - n) % around]
            for piece in range(pieces):
                block, contribution = parts.pop()  # visited last: goes on during the next visit
                parts.append((block, send(contribution)))
                block, contribution = parts.pop(0)
                first = (number * pieces + piece) * size
                contribution, home = visit(first, block, contribution, home)
                parts.append((send(block), contribution))
            return parts, home

        parts, home = lax.fori_loop(0, around, step, carry)
        return (send(parts, hops) if hops else parts), home

    parts = [(_slice(blocks, k * size, (k + 1) * size), nothing(size)) for k in range(pieces)]
    parts, home = lax.fori_loop(0, turns, turn, (parts, home)) if hops else turn(0, (parts, home))
    *others, last = (contribution for _, contribution in parts)
    return jax.tree.map(lambda *x: jnp.concatenate(x), *others, send(last)), home


def _numbering(axes: tuple[str, ...]) -> tuple[tuple[str, ...], jax.Array]:
    """The axes in the mesh's order, in which `ppermute` counts, and each device's own number."""
    of_mesh = jax.sharding.get_abstract_mesh().axis_names
    in_order = tuple(sorted(axes, key=of_mesh.index)) if set(axes) <= set(of_mesh) else axes
    numbers = np.arange(device_count(axes)).reshape([lax.axis_size(axis) for axis in axes])
    numbers = numbers.transpose([axes.index(axis) for axis in in_order]).ravel()
    return in_order, jnp.asarray(numbers, jnp.int32)


def _bring_home(axes, rows: int, contribution: Tree, merge: Callable | None) -> Tree:
    """From one contribution to the blocks of all devices, those of all devices to one's own."""
    if merge is None:
        return jax.tree.map(lambda x: lax.psum_scatter(x, axes, tiled=True), contribution)
    parts = device_count(axes)
    contribution = _move(
        contribution,
        lambda x, axis: lax.all_to_all(x, axes, split_axis=axis, concat_axis=axis, tiled=True),
    )
    while parts > 1:
        half = parts // 2
        one, other = (_slice(contribution, k * half * rows, (k + 1) * half * rows) for k in (0, 1))
        rest = _slice(contribution, 2 * half * rows, None)
        contribution = jax.tree.map(lambda *x: jnp.concatenate(x), merge(one, other), rest)
        parts -= half
    return contribution


def _slice(tree: Tree, start: int, stop: int | None) -> Tree:
    return jax.tree.map(lambda x: x[start:stop], tree)


def _move(tree: Tree, move: Callable) -> Tree:
    """`move(x, axis=...)` of all arrays, their rows along `axis`; small ones of a dtype as one."""
    leaves, structure = jax.tree.flatten(tree)
    together: dict[jnp.dtype, list[int]] = {}
    for n, x in enumerate(leaves):
        if math.prod(x.shape[1:]) * x.dtype.itemsize <= PACKED_UP_TO:
            kind = jnp.dtype("int32") if x.dtype == bool else x.dtype
            together.setdefault(kind, []).append(n)
        else:
            leaves[n] = move(x, axis=0)
    for kind, group in together.items():
        lines = [leaves[n].reshape(leaves[n].shape[0], -1).astype(kind).T for n in group]
        moved = move(jnp.concatenate(lines), axis=1)
        ends = itertools.accumulate(line.shape[0] for line in lines)
        for n, line, end in zip(group, lines, ends, strict=True):
            x = moved[end - line.shape[0] : end].T.reshape(-1, *leaves[n].shape[1:])
            leaves[n] = x.astype(leaves[n].dtype)
    return structure.unflatten(leaves)
