"""How a batch is gone over: by tiles of which size, by which devices; and the work with tiles."""

import dataclasses
import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from .base import BaseLoss
from .devices import axis_names, device_count
from .inputs import wide

TILE = 1024  # rows and columns of an automatic tile
KEPT_UP_TO = 4096**2  # pairs on a device of which "auto" keeps all similarities: three products
# On a mesh "auto" gathers the keys where devices have fewer rows than RING_FROM, so that a visit on
# the ring would be over before the next block is there, and all keys and their gradients fit here.
RING_FROM = 4096
GATHERED_UP_TO = 512 * 2**20  # bytes

Tree = Any


@dataclasses.dataclass(frozen=True)
class Plan:
    """How sweeps go over the pairs; hashable, fixed at compile time.

    Attributes:
      base: the loss.
      tile: rows and columns of a tile, of which the last ones may be smaller; None: all at once.
      axis_name: mesh axes whose devices share the pairs; empty on one device.
      same_id: role of other pairs with the same id: "positive", "ignore"; None without ids.
      gathered: every device gets all keys at once, instead of block by block round a ring.
      keep: save the similarities of the only tile for the backward pass: three products in all.
    """

    base: BaseLoss
    tile: int | None
    axis_name: tuple[str, ...] = ()
    same_id: str | None = None
    gathered: bool = False
    keep: bool = False


def make_plan(
    base: BaseLoss,
    query: jax.Array,
    keys: Sequence[jax.Array],
    ids: jax.Array | None,
    same_id: str,
    axis_name: str | tuple[str, ...] | None,
    block_size: int | str | None,
) -> Plan:
    """The plan for these queries and arrays of keys, a device's share of them on a mesh.

    Raises:
      TypeError: `block_size` is neither None, a whole number nor a string.
      ValueError: it is below 1, or a string other than "auto".
    """
    size, axes = _checked(block_size), axis_names(axis_name)
    is_auto, devices, rows = size == "auto", device_count(axes), query.shape[0]
    bytes_gathered = devices * sum(x.size * (x.dtype.itemsize + 4) for x in keys)
    pairs = rows * keys[0].shape[0] * devices
    is_small = is_few = not isinstance(pairs, int)  # symbolic, in jax.export
    if isinstance(pairs, int):
        is_small = pairs <= KEPT_UP_TO
        is_few = rows < RING_FROM and bytes_gathered <= GATHERED_UP_TO
    gathered = is_auto and axes and is_few
    keep = (not axes or gathered) and (size is None or (is_auto and is_small))
    tile = None if keep else TILE if is_auto else size
    return Plan(base, tile, axes, None if ids is None else same_id, bool(gathered), keep)


def _checked(block_size: int | str | None) -> int | str | None:
    if block_size is None or block_size == "auto":
        return block_size
    if isinstance(block_size, str):
        raise ValueError(f"block_size is {block_size!r}; expected at least 1, or 'auto'")
    try:
        size = operator.index(block_size)
    except TypeError:
        size = None
    if size is None or isinstance(block_size, bool):
        raise TypeError(f"block_size is {block_size!r}; expected None, an int or 'auto'")
    if size < 1:
        raise ValueError(f"block_size is {size}; expected at least 1, or 'auto'")
    return size


def over_tiles(size: int | None, tile: Callable, rows: int, columns: int, carry: Tree) -> Tree:
    """`carry = tile(i, m, j, n, carry)` for the rows i to i+m and columns j to j+n of each tile."""

    def column_block(j, n, carry):
        return _over_blocks(lambda i, m, carry: tile(i, m, j, n, carry), rows, size, carry)

    return _over_blocks(column_block, columns, size, carry)


def _over_blocks(body: Callable, length: int, size: int | None, carry: Tree) -> Tree:
    """`carry = body(start, size, carry)` for consecutive blocks; the last one may be smaller."""
    if size is None:
        return body(0, length, carry)
    whole, rest = divmod(length, size)
    if whole == 1:
        carry = body(0, size, carry)
    elif whole:
        carry = lax.fori_loop(0, whole, lambda k, carry: body(k * size, size, carry), carry)
    return body(whole * size, rest, carry) if rest else carry


def product(x: jax.Array, y: jax.Array) -> jax.Array:
    """`x @ y` in the inputs' own precision, accumulated in float32 (float64 for float64 inputs)."""
    highest = lax.Precision.HIGHEST
    return jnp.matmul(x, y, precision=highest, preferred_element_type=wide(x, y))


def take(tree: Tree, start: Any, size: int) -> Tree:
    return jax.tree.map(lambda x: lax.dynamic_slice_in_dim(x, start, size), tree)


def put(tree: Tree, part: Tree, start: Any) -> Tree:
    return jax.tree.map(
        lambda x, part: lax.dynamic_update_slice_in_dim(x, part, start, 0), tree, part
    )


def add(x: jax.Array, part: jax.Array, start: Any) -> jax.Array:
    return put(x, take(x, start, part.shape[0]) + part, start)
