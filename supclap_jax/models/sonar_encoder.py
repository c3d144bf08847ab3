"""SONAR as the text encoder of a run: its options, layers and FLOPs."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from supclap_jax.errors import ConfigError
from supclap_jax.models import sonar_weights, transformer
from supclap_jax.models.encoder import TextEncoder, Work
from supclap_jax.models.sonar import SonarTextEncoder
from supclap_jax.models.tokens import table_rows
from supclap_jax.models.transformer_flops import RELU, Stack


class SonarEncoder(TextEncoder):
    """The multilingual sentence encoder of `sonar.SonarTextEncoder`."""

    fields = ("dim", "depth", "heads", "ffn_dim", "dropout", "saved", "offloaded")
    layouts = sonar_weights.LAYOUTS

    def check(self, config: ConfigDict) -> None:
        text = config.text
        transformer.check_heads("text", text.dim, text.heads)
        if text.dim % 2 or text.dim < 4:
            raise ConfigError(
                f"text.dim is {text.dim}; expected an even number of at least 4, for each position "
                "of SONAR is as many sines as cosines"
            )
        if text.max_tokens > SonarTextEncoder.max_length:
            raise ConfigError(
                f"text.max_tokens is {text.max_tokens}; expected at most "
                f"{SonarTextEncoder.max_length}, the positions that SONAR was trained with"
            )

    def module(self, config: ConfigDict, **options) -> nn.Module:
        sizes = {name: config.text[name] for name in self.fields}
        return SonarTextEncoder(vocab_size=table_rows(config.text.vocab_size), **sizes, **options)

    def layers_above(
        self, path: tuple[str, ...], leaf: jax.Array, config: ConfigDict
    ) -> int | jax.Array:
        return transformer.layers_above(path, leaf, config.text.depth)

    def flops(self, config: ConfigDict) -> dict[str, Work]:
        """Captions count at their padded length, which is what is computed."""
        text = config.text
        kept = transformer.kept(config.remat, text.saved + text.offloaded)
        blocks = Stack(
            rows=config.batch_size,
            tokens=text.max_tokens,
            dim=text.dim,
            depth=text.depth,
            heads=text.heads,
            hidden=text.ffn_dim,
            activation=RELU,
            kept=kept,
            held=[name for name in kept if name not in text.offloaded],
            itemsize=jnp.dtype(config.compute_dtype).itemsize,
        )
        return blocks.parts("text")
