"""Which pairs there are between queries and keys: own ones, those of one clip, padded ones."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from .base import Side


class Pairs(NamedTuple):
    """What is known of queries and keys beside their vectors.

    Attributes:
      ids: int `[queries]`; queries and keys with the same id show the same clip. None: unknown.
      mask: bool `[queries]`, False for padded ones. None: there are none.
      target: int `[queries]`, which key is the positive of each, counted over all devices. None:
        the key of the same row, which then shares its id and mask.
      key_ids: int `[keys]`, with `target` and `ids` alone.
      key_mask: bool `[keys]`, with `target` alone.
    """

    ids: jax.Array | None = None
    mask: jax.Array | None = None
    target: jax.Array | None = None
    key_ids: jax.Array | None = None
    key_mask: jax.Array | None = None

    def without_padding(self, query: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The vectors, zero where padded, whatever is in them."""
        return zero_padded(self.mask, query), zero_padded(self.of_keys().get("mask"), key)

    def of_queries(self) -> Side:
        return _known(self.ids, self.mask)

    def of_keys(self) -> Side:
        if self.target is None:
            return self.of_queries()
        return _known(self.key_ids, self.key_mask)


def _known(ids: jax.Array | None, mask: jax.Array | None) -> Side:
    return {name: x for name, x in (("ids", ids), ("mask", mask)) if x is not None}


def zero_padded(mask: jax.Array | None, x: jax.Array) -> jax.Array:
    """Rows `[batch, dim]`, zero for padded pairs, whatever is in them."""
    return x if mask is None else jnp.where(mask[:, None], x, 0)


def numbered(first: jax.Array | int, count: int) -> jax.Array:
    """`[count]` whole numbers from `first` on, in the one dtype of all numbers of rows."""
    dtype = jax.dtypes.canonicalize_dtype("int64")
    return jnp.asarray(first, dtype) + jnp.arange(count, dtype=dtype)


def targets(pairs: Pairs, first: jax.Array | int, count: int) -> jax.Array:
    """The positive of each query `[queries]`; without `target` the keys from `first` on."""
    if pairs.target is None:
        return numbered(first, count)
    target = jnp.asarray(pairs.target).astype(jax.dtypes.canonicalize_dtype("int64"))
    return target if pairs.mask is None else jnp.where(pairs.mask, target, 0)


def pair_masks(
    same_id: str | None, rows: Side, columns: Side
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Which pairs of a tile are own, other ones of the same clip, in the sums, and not padded.

    "index" of a row is its target, that of a column its own number; "ids" and "mask" as in `Pairs`.
    """
    own = rows["index"][:, None] == columns["index"][None, :]
    present = jnp.ones_like(own)
    if "mask" in rows:
        present &= rows["mask"][:, None]
    if "mask" in columns:
        present &= columns["mask"][None, :]
    others = present & ~own
    if same_id is None:
        return own, jnp.zeros_like(own), others, present
    same = (rows["ids"][:, None] == columns["ids"][None, :]) & others
    return own, same, others & ~same if same_id == "ignore" else others, present


def whole_matrix(
    pairs: Pairs, same_id: str, queries: int, keys: int
) -> tuple[jax.Array, jax.Array | None]:
    """Bool `[queries, keys]`: each query's positives, and what is in no sum; None: all are.

    A padded query has its own pair as its positive. A query without a valid target has none.
    """
    rows = {"index": targets(pairs, 0, queries)} | pairs.of_queries()
    columns = {"index": numbered(0, keys)} | pairs.of_keys()
    role = None if pairs.ids is None else same_id
    own, same, used, present = pair_masks(role, rows, columns)
    if pairs.key_mask is not None:
        own &= present if pairs.mask is None else present | ~pairs.mask[:, None]
    every_pair_counts = role != "ignore" and "mask" not in rows and "mask" not in columns
    positive = own | same if role == "positive" else own
    if pairs.target is not None:
        positive &= jnp.any(own, axis=1, keepdims=True)
    return positive, None if every_pair_counts else ~(used | own)
