"""Floating-point operations of a stack of transformer blocks."""

from collections.abc import Sequence
from dataclasses import dataclass

from supclap_jax.config.fields import ACTIVATIONS
from supclap_jax.models.encoder import Work

# Operations on each element that are no products, each way; exp, erf, sqrt and the like count one.
NORM = 8  # mean, variance, scale and shift
SOFTMAX = 6  # scale, mask, maximum, difference, sum, quotient
GELU, RELU = 5, 1


@dataclass(frozen=True)
class Stack:
    """`depth` blocks on `rows` sequences of `tokens` tokens.

    Attributes:
      kept: of `ACTIVATIONS`, those that are not computed again.
      held: of them, those that stay on the device.
      itemsize: bytes of an activation.
    """

    rows: int
    tokens: int
    dim: int
    depth: int
    heads: int
    hidden: int
    activation: int
    kept: Sequence[str]
    held: Sequence[str]
    itemsize: int

    def parts(self, name: str) -> dict[str, Work]:
        """Work by part, for an encoder's `flops`."""
        dense, attention, rest = self.again()
        return {
            f"{name} dense layers": Work(self.dense(), dense, held=self._held()),
            f"{name} attention": Work(self.attention(), attention),
            f"{name} norms and activations": Work(self.elementwise(), rest),
        }

    def dense(self) -> int:
        """Products of the four dense layers, forward."""
        return 2 * self._vectors() * self.dim * (4 * self.dim + 2 * self.hidden)

    def attention(self) -> int:
        """Products of queries with keys, and of their weights with values, forward."""
        return 4 * self._vectors() * self.tokens * self.dim

    def elementwise(self) -> int:
        """Norms, softmax, activation, biases and residuals, forward."""
        on_dim = 2 * NORM + 2 + 5  # residuals, and biases of qkv, proj and fc2
        on_scores = SOFTMAX * self.heads * self.tokens
        per_vector = on_dim * self.dim + (1 + self.activation) * self.hidden + on_scores
        return self._vectors() * per_vector

    def again(self) -> tuple[int, int, int]:
        """What backward computes again: products of dense layers, of attention, and the rest."""
        lost = [name for name in ACTIVATIONS if name not in self.kept]
        columns = {**self._columns(), "attended": 0}  # which is no product of a dense layer
        biases = {**columns, "sum": 2 * self.dim}  # and a residual
        dense = 2 * self.dim * sum(columns[name] for name in lost)
        attention = self.attention() if "attended" in lost else self.attention() // 2
        norms, softmax = 2 * NORM * self.dim, SOFTMAX * self.heads * self.tokens
        rest = norms + softmax + self.activation * self.hidden + sum(biases[x] for x in lost)
        return self._vectors() * dense, attention, self._vectors() * rest

    def _held(self) -> int:
        """Bytes that stay: the input of each block, and what is held of it besides."""
        columns = self._columns()
        width = self.dim + sum(columns[name] for name in self.held)
        return self._vectors() * width * self.itemsize

    def _columns(self) -> dict[str, int]:
        """Width of each activation."""
        dim = self.dim
        return {"qkv": 3 * dim, "attended": dim, "sum": dim, "hidden": self.hidden}

    def _vectors(self) -> int:
        return self.rows * self.tokens * self.depth
