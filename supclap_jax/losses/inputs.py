"""What the losses make of their arguments: checked, or refused in a sentence."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .devices import bound_axes, varying
from .pairs import Pairs

SAME_ID = ("positive", "ignore")


def check_pairs(
    query: jax.Array,
    key: jax.Array,
    pairs: Pairs,
    same_id: str,
    axis_name: str | tuple[str, ...] | None,
    block_size: int | str | None,
) -> None:
    """Raises ValueError or TypeError unless the arguments of a contrastive loss fit together."""
    for name, array in (("first", query), ("second", key)):
        check_array(f"the {name} embeddings", array)
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise TypeError(f"the {name} embeddings are {array.dtype}; expected a float dtype")
        if array.dtype.itemsize < 2:
            raise TypeError(
                f"the {name} embeddings are {array.dtype}; expected at least 16 bits, such as "
                "bfloat16"
            )
    if pairs.target is None:
        _check_same_rows(query, key, pairs)
    else:
        _check_targets(query, key, pairs, is_whole=not axis_name)
    if 0 in query.shape + key.shape:
        shapes = f"{query.shape} and {key.shape}"
        raise ValueError(f"the embeddings have shapes {shapes}; expected one row or more")
    if same_id not in SAME_ID:
        raise ValueError(f"same_id is {same_id!r}; expected one of {SAME_ID}")
    for name, ids, vectors in (("ids", pairs.ids, query), ("key_ids", pairs.key_ids, key)):
        if ids is not None:
            _check_ids(name, ids, vectors.shape[:1])
    if axes := bound_axes(axis_name):
        _check_shares(query, key, axes)
        return
    over = explicit_axes(query) or explicit_axes(key)
    if block_size is not None and over:
        raise ValueError(
            f"the batch is divided over {over!r} of the mesh, and block_size is {block_size!r}: "
            "every device would go through all tiles. Wrap the loss in supclap_jax.losses.sharded"
        )


def _check_same_rows(query: jax.Array, key: jax.Array, pairs: Pairs) -> None:
    if query.ndim != 2 or query.shape != key.shape:
        raise ValueError(
            f"the embeddings have shapes {query.shape} and {key.shape}; expected the same "
            "[batch, dim] for both; info_nce and siglip take other keys with target"
        )
    for name in ("key_ids", "key_mask"):
        if getattr(pairs, name) is not None:
            raise ValueError(f"{name} needs target: without it, key i is the positive of query i")


def _check_targets(query: jax.Array, key: jax.Array, pairs: Pairs, is_whole: bool) -> None:
    if query.ndim != 2 or key.ndim != 2 or query.shape[1] != key.shape[1]:
        raise ValueError(
            f"the embeddings have shapes {query.shape} and {key.shape}; expected [queries, dim] "
            "and [keys, dim]"
        )
    target, mask = pairs.target, pairs.key_mask
    _check_whole_numbers("targets", target, query.shape[:1])
    is_known = is_whole and pairs.mask is None and isinstance(target, np.ndarray)
    if is_known and key.shape[0] and np.any((target < 0) | (target >= key.shape[0])):
        raise ValueError(
            f"targets are {target.min()} to {target.max()}; expected 0 to {key.shape[0] - 1}, rows "
            "of the keys"
        )
    if (pairs.ids is None) != (pairs.key_ids is None):
        raise ValueError("with target, ids of the queries and key_ids of the keys go together")
    if mask is not None:
        check_array("key_mask", mask)
        if mask.dtype != bool or mask.shape != key.shape[:1]:
            raise ValueError(
                f"key_mask is {mask.dtype} of shape {mask.shape}; expected bool {key.shape[:1]}"
            )


def _check_whole_numbers(name: str, x: jax.Array, shape: tuple[int, ...]) -> None:
    check_array(name, x)
    if not jnp.issubdtype(x.dtype, jnp.integer):
        raise TypeError(f"{name} are {x.dtype}; expected an integer dtype")
    if x.shape != shape:
        raise ValueError(f"{name} have shape {x.shape}; expected {shape}, one for each")


def _check_ids(name: str, ids: jax.Array, shape: tuple[int, ...]) -> None:
    _check_whole_numbers(name, ids, shape)
    if isinstance(ids, np.ndarray) and np.any(
        ids != ids.astype(jax.dtypes.canonicalize_dtype(ids.dtype))
    ):
        raise ValueError(
            f"{name} do not fit 32 bits, to which JAX cuts them; number them anew, such as by "
            "numpy.unique(ids, return_inverse=True)[1]"
        )


def _check_shares(query: jax.Array, key: jax.Array, axes: tuple[str, ...]) -> None:
    """Refuses embeddings that all devices have whole: each row would count once a device."""
    is_tracked = varying(lax.axis_index(axes))
    for name, x in (("first", query), ("second", key)):
        same = set(axes) - varying(x)
        if is_tracked and any(lax.axis_size(axis) > 1 for axis in same):
            raise ValueError(
                f"the {name} embeddings are the same on all devices of {', '.join(sorted(same))}; "
                "expected each device's own share: an argument of its own under sharded, or "
                "in_specs that divide it"
            )


def check_array(name: str, x: jax.Array) -> None:
    """Raises TypeError unless `x` is an array of jax or numpy."""
    if not isinstance(x, jax.Array | np.ndarray | np.generic):
        raise TypeError(f"{name} are a {type(x).__name__}; expected an array of jax or numpy")


def scalar(name: str, x: jax.Array | float, dtype: jnp.dtype) -> jax.Array:
    """`x` in this dtype, without the axis of a shape (1,), as some keep their temperature.

    Raises:
      TypeError: it is no number.
      ValueError: any other shape.
    """
    if not isinstance(x, jax.Array | np.ndarray | np.generic | int | float):
        raise TypeError(f"{name} is {x!r}; expected a number or an array")
    if jnp.shape(x) not in ((), (1,)):
        raise ValueError(f"{name} has shape {jnp.shape(x)}; expected a scalar, or shape (1,)")
    return jnp.reshape(jnp.asarray(x, dtype), ())


def wide(*arrays: jax.Array) -> jnp.dtype:
    """What is computed in: float64 where one of the arrays is, else float32."""
    dtype = "float64" if any(x.dtype == "float64" for x in arrays) else "float32"
    return jax.dtypes.canonicalize_dtype(dtype)


def explicit_axes(x: jax.Array) -> str | tuple[str, ...] | None:
    """The axes of an Explicit mesh by which the rows of `x` are divided, as its type says."""
    return next(iter(jax.typeof(x).sharding.spec), None)
