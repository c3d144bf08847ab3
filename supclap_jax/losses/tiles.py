"""The tiles of a batch: how large they are, which pairs they hold, and how to visit them all."""

import dataclasses
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from .base import BaseLoss, Side
from .inputs import wide
from .ring import axis_names

TILE = 1024  # rows and columns of an automatic tile
DENSE_UP_TO = 4096  # batch up to which "auto" takes one tile and keeps it: three products

Tree = Any


@dataclasses.dataclass(frozen=True)
class Plan:
    """How sweeps go over the pairs; hashable, fixed at compile time.

    Attributes:
      base: the loss.
      tile: rows and columns of a tile; the last ones may be smaller.
      axis_name: mesh axes of the ring; empty on one device.
      same_id: role of other pairs with the same id: "positive", "ignore"; None without ids.
      keep: save the similarities of the only tile for the backward pass: three products in all.
    """

    base: BaseLoss
    tile: int
    axis_name: tuple[str, ...] = ()
    same_id: str | None = None
    keep: bool = False


def make_plan(
    base: BaseLoss,
    batch: int,
    ids: jax.Array | None,
    same_id: str,
    axis_name: str | tuple[str, ...] | None,
    block_size: int | str | None,
) -> Plan:
    """The plan of a loss with these options; without tiles and devices one tile, kept.

    Raises:
      TypeError: `block_size` is neither None, a whole number nor a string.
      ValueError: it is below 1, or a string other than "auto".
    """
    size = _checked(block_size)
    is_small = not isinstance(batch, int) or batch <= DENSE_UP_TO  # or symbolic, in jax.export
    keep = not axis_name and (size is None or (size == "auto" and is_small))
    tile = batch if keep else min({None: batch, "auto": TILE}.get(size, size), batch)
    return Plan(base, tile, axis_names(axis_name), None if ids is None else same_id, keep)


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


def pair_masks(
    same_id: str | None, rows: Side, columns: Side
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Which pairs of a tile are own, other ones of the same clip, in the sums, and not padded."""
    own = rows["index"][:, None] == columns["index"][None, :]
    present = jnp.ones_like(own)
    if "mask" in rows:
        present = rows["mask"][:, None] & columns["mask"][None, :]
    others = present & ~own
    if same_id is None:
        return own, jnp.zeros_like(own), others, present
    same = (rows["ids"][:, None] == columns["ids"][None, :]) & others
    return own, same, others & ~same if same_id == "ignore" else others, present


def over_tiles(size: int, tile: Callable, batch: int, carry: Tree) -> Tree:
    """`carry = tile(i, m, j, n, carry)` for the rows i to i+m and columns j to j+n of each tile."""

    def column_block(j, n, carry):
        return _over_blocks(lambda i, m, carry: tile(i, m, j, n, carry), batch, size, carry)

    return _over_blocks(column_block, batch, size, carry)


def _over_blocks(body: Callable, length: int, size: int, carry: Tree) -> Tree:
    """`carry = body(start, size, carry)` for consecutive blocks; the last one may be smaller."""
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
