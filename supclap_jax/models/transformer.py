"""Pre-norm transformer blocks, stacked: what the audio and the text encoder have in common."""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Sharding

# What a block keeps for its gradient; the rest is computed again on the way back.
REMAT_POLICIES = {
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "full": jax.checkpoint_policies.nothing_saveable,
}


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
        qkv = dense(3 * dim, "qkv", norm(name="norm1")(x))
        qkv = qkv.reshape(*x.shape[:2], 3, self.heads, dim // self.heads)
        attended = attention(qkv, valid, self.attention).reshape(x.shape)
        x = x + dropout(dense(dim, "proj", attended))

        @nn.remat
        def activate_and_project(block, hidden):  # keeps one array of this width, not two
            return dense(dim, "fc2", block.activation(hidden))

        hidden = dense(self.hidden, "fc1", norm(name="norm2")(x))
        return x + dropout(activate_and_project(self, hidden)), None


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

    `jax.nn.dot_product_attention` on accelerators. On a CPU the same with one matrix for each clip
    and head, which takes two thirds of the time there. Scores are not kept for the gradient but
    computed again.

    Args:
      qkv: [batch, tokens, 3, heads, size].
      valid: which tokens are attended to, bool, [batch, tokens]; None for all.
      implementation: of accelerators: "xla", or "cudnn", fused, for 16-bit types on NVIDIA GPUs.

    Returns:
      [batch, tokens, heads, size].
    """
    return jax.lax.platform_dependent(
        qkv, valid, cpu=_attention_on_cpu, default=partial(_attention, implementation)
    )


def _attention_forward(qkv, valid, implementation):
    return attention(qkv, valid, implementation), (qkv, valid)


def _attention_backward(implementation, residuals, gradient):
    def backward(function, qkv, valid, gradient):
        _, pull_back = jax.vjp(lambda qkv: function(qkv, valid), qkv)
        return pull_back(gradient)[0]

    def on_cpu(*arguments):  # written once, not once for each product that takes it
        return jax.lax.optimization_barrier(backward(_attention_on_cpu, *arguments))

    default = partial(backward, partial(_attention, implementation))
    return jax.lax.platform_dependent(*residuals, gradient, cpu=on_cpu, default=default), None


attention.defvjp(_attention_forward, _attention_backward)


def _attention(implementation: str, qkv: jax.Array, valid: jax.Array | None) -> jax.Array:
    query, key, value = qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]
    mask = None if valid is None else valid[:, None, None, :]
    return jax.nn.dot_product_attention(query, key, value, mask=mask, implementation=implementation)


def _attention_on_cpu(qkv: jax.Array, valid: jax.Array | None) -> jax.Array:
    batch, tokens, _, heads, size = qkv.shape
    query, key, value = qkv.transpose(2, 0, 3, 1, 4).reshape(3, batch * heads, tokens, size)
    query = query * size**-0.5
    scores = jnp.einsum("nqd,nkd->nqk", query, key, preferred_element_type=jnp.float32)
    if valid is not None:
        mask = jnp.repeat(valid[:, None], heads, axis=0)
        scores = jnp.where(mask, scores, jnp.finfo(scores.dtype).min)
    weights = jax.nn.softmax(scores).astype(value.dtype)
    attended = jnp.einsum("nqk,nkd->nqd", weights, value)
    return attended.reshape(batch, heads, tokens, size).transpose(0, 2, 1, 3)


@jax.checkpoint
def gelu(x: jax.Array) -> jax.Array:
    """x (1 + erf(x / sqrt(2))) / 2; with `erfc`, as in `jax.nn.gelu`, its gradient is slow.

    Keeps nothing for its gradient but `x`.
    """
    return x * (1 + jax.lax.erf(x * np.sqrt(0.5).astype(x.dtype))) / 2


def blocks(depth: int, *, scan_layers: bool = True, remat: str = "none", **options) -> nn.Module:
    """A stack of blocks, called as `tokens, _ = stack(tokens, valid, train)`.

    The parameters of all blocks lie in one tree, each leaf with a leading axis [depth, ...],
    whatever the arguments.

    Args:
      depth: number of blocks.
      scan_layers: compile one block as a loop rather than each: compile time does not grow with
        the depth, and the result is the same.
      remat: what a block keeps for its gradient: "none" computes just activations and the scores of
        attention again, "dots" keeps the outputs of the dense layers, "full" the block's input.
      **options: attributes of `Block`.
    """
    block = Block
    if remat != "none":
        block = nn.remat(
            Block, policy=REMAT_POLICIES[remat], prevent_cse=not scan_layers, static_argnums=(3,)
        )
    return nn.scan(
        block,
        variable_axes={"params": 0},
        split_rngs={"params": True, "dropout": True},
        in_axes=nn.broadcast,
        length=depth,
        unroll=1 if scan_layers else depth,
    )(**options)
