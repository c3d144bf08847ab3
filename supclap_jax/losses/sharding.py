"""The losses on global arrays: `sharded` wraps one in `jax.shard_map`, ring and all."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from supclap_jax.losses.ring import axis_names

ARRAYS = (jax.Array, np.ndarray, np.generic)
EVERYWHERE = PartitionSpec()  # the same on all devices


def sharded(
    loss_fn: Callable,
    mesh: Mesh,
    axis_name: str | tuple[str, ...] = "data",
    *,
    out_specs: Any = EVERYWHERE,
) -> Callable:
    """`loss_fn` as a function of global arrays, computed by all devices of a mesh together.

    Arrays given as arguments of their own (embeddings, ids, radii) are split along their first
    axis, and so are their gradients; scalars and arrays inside containers (a dict of parameters)
    are on every device. Works under plain `jax.jit`, `jax.grad` and with any layout of the inputs.

    Args:
      loss_fn: takes `axis_name` as a keyword; such as `symmetric_info_nce`, or
        `functools.partial(supclap, block_size=1024)`.
      mesh: the devices.
      axis_name: one or several axes of the mesh; the batch is divided among them.
      out_specs: how the results are laid out, as in `jax.shard_map`: one `PartitionSpec` for all of
        them or one for each part. The default says that all are the same on every device;
        `PartitionSpec(axis_name)` stands for arrays of each device's pairs, such as pulls.

    Returns:
      A function of the same arguments, without `axis_name`, and the same results. Arguments that
      hold no arrays (None, numbers, strings, functions) are passed on as they are.

    >>> import jax.numpy as jnp
    >>> from supclap_jax.losses import symmetric_info_nce
    >>> mesh = jax.make_mesh((1,), ("data",), (jax.sharding.AxisType.Auto,))
    >>> loss = sharded(symmetric_info_nce, mesh)
    >>> round(float(loss(jnp.eye(4), jnp.eye(4), 10.0)), 6)
    0.000136
    """
    axes = axis_names(axis_name)
    over = axes[0] if len(axes) == 1 else axes
    split = PartitionSpec(over)

    def on_global_arrays(*args: Any, **kwargs: Any) -> Any:
        given = {str(i): x for i, x in enumerate(args)} | kwargs
        arrays = {name: x for name, x in given.items() if _holds_arrays(x)}
        specs = {
            name: split if isinstance(x, ARRAYS) and x.ndim else EVERYWHERE
            for name, x in arrays.items()
        }

        def on_one_device(arrays):
            local = given | arrays
            return loss_fn(
                *(local[str(i)] for i in range(len(args))),
                **{name: local[name] for name in kwargs},
                axis_name=over,
            )

        # A gradient takes the layout of this constraint: without it, jit may replicate it.
        explicit = AxisType.Explicit in mesh.axis_types
        place = jax.sharding.reshard if explicit else jax.lax.with_sharding_constraint
        arrays = {name: place(x, NamedSharding(mesh, specs[name])) for name, x in arrays.items()}
        on_mesh = jax.shard_map(on_one_device, mesh=mesh, in_specs=(specs,), out_specs=out_specs)
        return on_mesh(arrays)

    return on_global_arrays


def _holds_arrays(x: Any) -> bool:
    """Whether an argument is an array or a container of arrays, not None, a number, a function."""
    leaves = jax.tree.leaves(x)
    return bool(leaves) and all(isinstance(leaf, ARRAYS) for leaf in leaves)
