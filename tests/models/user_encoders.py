"""Encoders as a user writes them, outside the package: a convolution, and a bag of tokens."""

import flax.linen as nn
import jax.numpy as jnp

from supclap_jax.models.encoder import AudioEncoder, TextEncoder
from supclap_jax.models.tokens import PAD_ID, table_rows

HOP = 160  # samples


class Conv(AudioEncoder):
    """One convolution over three hops of the waveform, and the mean over the clip."""

    fields = ("dim",)

    def frontend(self, waveform, lengths):
        hops = waveform.shape[1] // HOP
        features = waveform[:, : hops * HOP].reshape(-1, hops, HOP)
        return features, None if lengths is None else lengths // HOP

    def module(self, config, **options):
        return ConvModule(config.audio.dim)


class ConvModule(nn.Module):
    dim: int

    @nn.compact
    def __call__(self, hops, lengths, *, train=False):
        x = nn.relu(nn.Conv(self.dim, [3], padding="VALID")(hops))
        if lengths is None:
            return x.mean(axis=1)
        own = jnp.arange(x.shape[1]) < lengths[:, None] - 2
        return x.mean(axis=1, where=own[..., None])


class BagOfTokens(TextEncoder):
    """The mean of the tokens' embeddings."""

    fields = ("dim",)

    def module(self, config, **options):
        return BagModule(table_rows(config.text.vocab_size), config.text.dim)


class BagModule(nn.Module):
    rows: int
    dim: int

    @nn.compact
    def __call__(self, tokens, *, train=False):
        own = (tokens != PAD_ID)[..., None]
        x = nn.Embed(self.rows, self.dim)(tokens).sum(axis=1, where=own)
        return x / jnp.maximum(own.sum(axis=1), 1)


class NormedConv(Conv):
    """With a batch norm, whose statistics no microbatches can pool."""

    def module(self, config, **options):
        return NormedModule(config.audio.dim)


class NormedModule(nn.Module):
    dim: int

    @nn.compact
    def __call__(self, hops, lengths, *, train=False):
        given = not (train and self.is_mutable_collection("batch_stats"))
        x = ConvModule(self.dim)(hops, lengths)
        return nn.BatchNorm(use_running_average=given)(x)
