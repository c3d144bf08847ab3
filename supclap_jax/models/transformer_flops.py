"""Floating-point operations of a stack of transformer blocks."""

from dataclasses import dataclass

from supclap_jax.models.encoder import Work

# Operations on each element that are no products, each way; exp, erf, sqrt and the like count one.
NORM = 8  # mean, variance, scale and shift
SOFTMAX = 6  # scale, mask, maximum, difference, sum, quotient
GELU, RELU = 5, 1


@dataclass(frozen=True)
class Stack:
    """`depth` blocks on `rows` sequences of `tokens` tokens."""

    rows: int
    tokens: int
    dim: int
    depth: int
    heads: int
    hidden: int
    activation: int

    def parts(self, name: str, remat: str) -> dict[str, Work]:
        """Work by part, for an encoder's `flops`; `remat` as of `transformer.blocks`."""
        once = (self.dense(), self.attention(), self.elementwise())
        kinds = ("dense layers", "attention", "norms and activations")
        return {
            f"{name} {kind}": Work(forward, again)
            for kind, forward, again in zip(kinds, once, self.again(remat), strict=True)
        }

    def dense(self) -> int:
        """Products of the four dense layers, forward."""
        return 2 * self._vectors() * self.dim * (4 * self.dim + 2 * self.hidden)

    def last_dense(self) -> int:
        """Those of the MLP's second layer alone, which no recomputation needs."""
        return 2 * self._vectors() * self.dim * self.hidden

    def attention(self) -> int:
        """Products of queries with keys, and of their weights with values, forward."""
        return 4 * self._vectors() * self.tokens * self.dim

    def elementwise(self) -> int:
        """Norms, softmax, activation, biases and residuals, forward."""
        on_dim = 2 * NORM + 2 + 5  # residuals, and biases of qkv, proj and fc2
        on_scores = SOFTMAX * self.heads * self.tokens
        per_vector = on_dim * self.dim + (1 + self.activation) * self.hidden + on_scores
        return self._vectors() * per_vector

    def again(self, remat: str) -> tuple[int, int, int]:
        """What backward computes again: products of dense layers, of attention, and the rest."""
        if remat == "none":
            on_dim, on_scores = 2 * NORM, SOFTMAX * self.heads * self.tokens
            per_vector = on_dim * self.dim + self.activation * self.hidden + on_scores
            return 0, self.attention() // 2, self._vectors() * per_vector
        dense = self.dense() - self.last_dense() if remat == "full" else 0
        return dense, self.attention(), self.elementwise()

    def _vectors(self) -> int:
        return self.rows * self.tokens * self.depth
