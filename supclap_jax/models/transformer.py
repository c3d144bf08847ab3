"""Pre-norm transformer blocks, stacked: what the audio and the text encoder have in common."""

from collections.abc import Callable, Sequence
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import Sharding

from supclap_jax.config.fields import ACTIVATIONS
from supclap_jax.errors import ConfigError

# What a block keeps for its gradient beside its input; the rest is computed again on the way back.
KEPT = {"none": ACTIVATIONS, "dots": ("qkv", "sum", "hidden"), "full": ()}


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)).

    Attributes:
      heads: number of attention heads; divides the width of the tokens.
      hidden: width between the two layers of the MLP.
      activation: between the two layers of the MLP.
      epsilon: of the layer norms.
      kernel_init: of all dense layers.
      attention: implementation on accelerators, see `attention`.
      dropout: rate on what attention and MLP add to the tokens; with train only.
      dtype: type of the computation. Norms compute their statistics, and attention its softmax, in
        float32 whatever the dtype.
      sharding: how the rows of a batch lie on devices, and all activations with them, so that
        divided weights are gathered layer by layer; None leaves that to the compiler.
    """

    heads: int
    hidden: int
    activation: Callable[[jax.Array], jax.Array]
    epsilon: float
    kernel_init: nn.initializers.Initializer
    attention: str = "xla"
    dropout: float = 0.0
    dtype: jnp.dtype = jnp.float32
    sharding: Sharding | None = None

    @nn.compact
    def __call__(
        self, x: jax.Array, valid: jax.Array | None, train: bool
    ) -> tuple[jax.Array, None]:
        """Maps tokens [batch, tokens, dim] to tokens of the same shape, as the body of a scan.

        Args:
          x: tokens, [batch, tokens, dim].
          valid: which of them are attended to, bool, [batch, tokens]; None for all.
          train: apply dropout.

        Returns:
          Tokens, [batch, tokens, dim], and None.
        """
        dim = x.shape[-1]
        if dim % self.heads:
            raise ValueError(f"dim {dim} is not a multiple of heads {self.heads}")
        norm = partial(nn.LayerNorm, epsilon=self.epsilon, dtype=self.dtype)
        dropout = nn.Dropout(self.dropout, deterministic=not train)

        def dense(features, name, x):
            layer = nn.Dense(
                features,
                kernel_init=self.kernel_init,
                dtype=self.dtype,
                dot_general=lambda x, kernel, *_, **__: product(x, kernel),
                name=name,
            )
            return place(layer(x), self.sharding)

        x = place(x, self.sharding)
        qkv = checkpoint_name(dense(3 * dim, "qkv", norm(name="norm1")(x)), "qkv")
        by_head = qkv.reshape(*x.shape[:2], 3, self.heads, dim // self.heads)
        attended = attention(by_head, valid, self.attention).reshape(x.shape)
        attended = checkpoint_name(attended, "attended")
        x = checkpoint_name(x + dropout(dense(dim, "proj", attended)), "sum")
        hidden = checkpoint_name(dense(self.hidden, "fc1", norm(name="norm2")(x)), "hidden")
        return x + dropout(dense(dim, "fc2", self.activation(hidden))), None


def place(x: jax.Array, sharding: Sharding | None) -> jax.Array:
    """Holds the compiler to a sharding of the first axis; None does nothing."""
    return x if sharding is None else jax.lax.with_sharding_constraint(x, sharding)


@jax.custom_vjp
def product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """`x @ kernel`, [batch, tokens, dim] by [dim, features]; gradients without copies on a CPU."""
    return x @ kernel


def _product_forward(x, kernel):
    return x @ kernel, (x, kernel)


def _product_backward(residuals, gradient):
    x, kernel = residuals

    def on_cpu(x, gradient):  # XLA transposes both where two axes are summed over
        return x.reshape(-1, x.shape[-1]).T @ gradient.reshape(-1, gradient.shape[-1])

    def default(x, gradient):
        return jnp.einsum("btk,btn->kn", x, gradient)

    return gradient @ kernel.T, jax.lax.platform_dependent(x, gradient, cpu=on_cpu, default=default)


product.defvjp(_product_forward, _product_backward)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def attention(qkv: jax.Array, valid: jax.Array | None, implementation: str = "xla") -> jax.Array:
    """softmax(q k^T / sqrt(size)) v of each head, the softmax in float32.

    `jax.nn.dot_product_attention` on accelerators. On a CPU one head after the other, for the
    scores of one stay in its cache. Scores are not kept for the gradient but computed again.

    Args:
      qkv: [batch, tokens, 3, heads, size].
      valid: which tokens are attended to, bool, [batch, tokens]; None for all.
      implementation: of accelerators: "xla", or "cudnn", fused, for 16-bit types on NVIDIA GPUs.

    Returns:
      [batch, tokens, heads, size].
    """
    default = partial(_attention, implementation)
    if not isinstance(qkv.shape[0], int):  # a symbolic batch, of a program for any platform
        return default(qkv, valid)
    return jax.lax.platform_dependent(qkv, valid, cpu=_attention_on_cpu, default=default)


def _attention_forward(qkv, valid, implementation):
    return attention(qkv, valid, implementation), (qkv, valid)


def _attention_backward(implementation, residuals, gradient):
    def default(qkv, valid, gradient):
        _, pull_back = jax.vjp(lambda qkv: _attention(implementation, qkv, valid), qkv)
        return pull_back(gradient)[0]

    qkv_gradient = jax.lax.platform_dependent(
        *residuals, gradient, cpu=_attention_gradient_on_cpu, default=default
    )
    return qkv_gradient, None


attention.defvjp(_attention_forward, _attention_backward)


def _attention(implementation: str, qkv: jax.Array, valid: jax.Array | None) -> jax.Array:
    query, key, value = qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]
    mask = None
    if valid is not None:  # as large as the scores, since cuDNN takes none that is to be broadcast
        mask = jnp.broadcast_to(valid[:, None, None, :], (qkv.shape[0], 1, *qkv.shape[1:2] * 2))
    return jax.nn.dot_product_attention(query, key, value, mask=mask, implementation=implementation)


def _attention_on_cpu(qkv: jax.Array, valid: jax.Array | None) -> jax.Array:
    def add(head, attended):
        weights, total = _attention_weights(qkv[:, :, :, head], valid)
        of_head = jnp.einsum("bqk,bkd->bqd", weights.astype(qkv.dtype), qkv[:, :, 2, head])
        of_head = (of_head / total).astype(qkv.dtype)
        return attended.at[:, :, head].set(of_head, mode="promise_in_bounds")

    return jax.lax.fori_loop(0, qkv.shape[3], add, jnp.zeros_like(qkv[:, :, 0]))


def _attention_gradient_on_cpu(
    qkv: jax.Array, valid: jax.Array | None, gradient: jax.Array
) -> jax.Array:
    def add(head, of_qkv):
        query, key, value = (qkv[:, :, i, head] for i in range(3))
        of_head = gradient[:, :, head]
        weights, total = _attention_weights(qkv[:, :, :, head], valid)
        of_weights = jnp.einsum(
            "bqd,bkd->bqk", of_head, value, preferred_element_type=weights.dtype
        )
        mean = jnp.sum(weights * of_weights, axis=-1, keepdims=True) / total
        of_scores = weights * ((of_weights - mean) * (query.shape[-1] ** -0.5 / total))
        of_head = (of_head / total).astype(qkv.dtype)
        weights, of_scores = weights.astype(qkv.dtype), of_scores.astype(qkv.dtype)
        of_query = jnp.einsum("bqk,bkd->bqd", of_scores, key)
        of_key = jnp.einsum("bqk,bqd->bkd", of_scores, query)
        of_value = jnp.einsum("bqk,bqd->bkd", weights, of_head)
        of_qkv_head = jnp.stack([of_query, of_key, of_value], axis=2)
        return of_qkv.at[:, :, :, head].set(of_qkv_head, mode="promise_in_bounds")

    return jax.lax.fori_loop(0, qkv.shape[3], add, jnp.zeros_like(qkv))


def _attention_weights(qkv: jax.Array, valid: jax.Array | None) -> tuple[jax.Array, jax.Array]:
    """Of one head, [batch, tokens, 3, size], in float32: weights [batch, queries, keys] before the
    division by their sum, and that sum, [batch, queries, 1]."""
    query, key = qkv[:, :, 0] * qkv.shape[-1] ** -0.5, qkv[:, :, 1]
    scores = jnp.einsum("bqd,bkd->bqk", query, key, preferred_element_type=jnp.float32)
    if valid is not None:
        scores = jnp.where(valid[:, None], scores, jnp.finfo(scores.dtype).min)
    weights = jnp.exp(scores - scores.max(axis=-1, keepdims=True))
    return weights, weights.sum(axis=-1, keepdims=True)


def gelu(x: jax.Array) -> jax.Array:
    """x (1 + erf(x / sqrt(2))) / 2; with `erfc`, as in `jax.nn.gelu`, its gradient is slow."""
    return x * (1 + jax.lax.erf(x * np.sqrt(0.5).astype(x.dtype))) / 2


def blocks(
    depth: int,
    *,
    scan_layers: bool = True,
    remat: str = "none",
    saved: Sequence[str] = (),
    offloaded: Sequence[str] = (),
    **options,
) -> nn.Module:
    """A stack of blocks, called as `tokens, _ = stack(tokens, valid, train)`.

    The parameters of all blocks lie in one tree, each leaf with a leading axis [depth, ...],
    whatever the arguments.

    Args:
      depth: number of blocks.
      scan_layers: compile one block as a loop rather than each: compile time does not grow with
        the depth, and the result is the same.
      remat: what a block keeps for its gradient: "none" computes just norms, activations and the
        scores of attention again, "dots" keeps the outputs of the dense layers alone, "full"
        nothing but the block's input.
      saved: of `ACTIVATIONS`, what it keeps besides: "qkv" [batch, tokens, 3 dim]; "attended", what
        attention gives, and "sum", the tokens after it, [batch, tokens, dim]; "hidden", what goes
        into the activation, [batch, tokens, hidden].
      offloaded: of `ACTIVATIONS`, what it keeps in the host's memory.
      **options: attributes of `Block`.
    """
    policy = jax.checkpoint_policies.save_and_offload_only_these_names(
        names_which_can_be_saved=[x for x in kept(remat, saved) if x not in offloaded],
        names_which_can_be_offloaded=list(offloaded),
        offload_src="device",
        offload_dst="pinned_host",
    )
    block = nn.remat(Block, policy=policy, prevent_cse=not scan_layers, static_argnums=(3,))
    return nn.scan(
        block,
        variable_axes={"params": 0},
        split_rngs={"params": True, "dropout": True},
        in_axes=nn.broadcast,
        length=depth,
        unroll=1 if scan_layers else depth,
    )(**options)


def kept(remat: str, saved: Sequence[str] = ()) -> list[str]:
    """The `ACTIVATIONS` that are not computed again; arguments as of `blocks`."""
    return [name for name in ACTIVATIONS if name in (*KEPT[remat], *saved)]


def layers_above(path: tuple[str, ...], leaf: jax.Array, depth: int) -> int | jax.Array:
    """How many layers lie between a parameter and the output of `depth` blocks and a final norm.

    None for the final "norm", one for the last of the "blocks", `depth + 1` for what comes before
    the first (as in BEiT, arXiv 2106.08254).

    Args:
      path: of the parameter in those of the encoder.
      leaf: the parameter; that of the blocks is stacked, [depth, ...].
      depth: number of blocks.

    Returns:
      An int; of the blocks [depth, 1, ...], with the axes of `leaf`.
    """
    if path[0] == "blocks":
        return jnp.arange(depth, 0, -1).reshape(-1, *[1] * (leaf.ndim - 1))
    return 0 if path[0] == "norm" else depth + 1


def check_heads(tower: str, dim: int, heads: int) -> None:
    """Raises ConfigError where `heads` do not divide `dim`, of the config's section `tower`."""
    if dim % heads:
        raise ConfigError(f"{tower}.dim {dim} is not divisible by {tower}.heads {heads}")
