"""Floating-point operations of one training step, counted from the config."""

import math
from dataclasses import dataclass

import jax
from ml_collections import ConfigDict

from supclap_jax.data.audio import SAMPLE_RATE
from supclap_jax.losses.svr import SIDES
from supclap_jax.models.ced import FREQ_PATCHES, PATCH
from supclap_jax.models.log_mel import HOP, MELS, WINDOW, frame_count
from supclap_jax.runs.mesh import make_mesh
from supclap_jax.runs.states import abstract_states

# Operations on each element that are no products, each way; exp, erf, sqrt and the like count one.
NORM = 8  # mean, variance, scale and shift
SOFTMAX = 6  # scale, mask, maximum, difference, sum, quotient
GELU, RELU = 5, 1
ADAM = 20  # on each parameter: both moments, their corrections, decay, clipping, selection
CROSS_ENTROPY = 8


@dataclass(frozen=True)
class Tower:
    """A stack of `depth` blocks on `rows` sequences of `tokens` tokens."""

    rows: int
    tokens: int
    dim: int
    depth: int
    heads: int
    hidden: int
    activation: int

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


def train_step_flops(config: ConfigDict) -> dict[str, int]:
    """FLOPs of one step of the whole batch, over all devices, by part.

    A multiplication with an addition counts as two. Counted are all matrix products and
    convolutions; of the rest, what acts on every activation, similarity and parameter: norms,
    softmax, activations, biases, residuals, the loss and Adam. Not counted are random bits of
    dropout and patch-out, embedding look-ups, and the radius model. The front end counts as the
    convolution it is on accelerators (on a CPU it is an FFT), and captions at their padded length,
    which is what is computed.

    Forward and backward are three times the forward pass, but for the front end and frozen towers,
    which have no gradient. The backward pass repeats norms, activations, and the scores and softmax
    of attention; with `remat` "dots" all of attention and elementwise operations, with "full" the
    blocks up to their last product. With `microbatch_size` what has a gradient takes another
    forward pass, and so does the front end, besides one for batch norm. A similarity matrix costs
    three products, or four in tiles, which are computed again; each direction of SVR needs one more
    matrix.

    Returns:
      part -> FLOPs; their sum is that of the step.
    """
    audio, text = audio_tower(config), text_tower(config)
    clip = config.batch_size * frame_count(round(config.audio.seconds * SAMPLE_RATE))
    patches = config.batch_size * chunks(config) * chunk_patches(config)
    width = config.projection_dim
    projected = config.batch_size * (config.audio.dim + config.text.dim + 2 * width) * width
    scores = config.batch_size**2
    states, _ = abstract_states(config, make_mesh(1, config.batch_size))
    parameters = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(states.params))
    hops = -(-WINDOW // HOP)
    bins = WINDOW // 2 + 1
    passes = learning_passes(config)
    patch_passes = 1 if config.audio.frozen else passes
    front_ends = 1 if config.microbatch_size is None or config.audio.frozen else 3
    return {
        "front end": front_ends * clip * (2 * hops * HOP * 2 * bins + 2 * bins * MELS + 3 * bins),
        "patch embedding": patch_passes * patches * (2 * PATCH**2 + 3) * config.audio.dim,
        **_tower_parts("audio", audio, config),
        **_tower_parts("text", text, config),
        "projections": passes * 2 * projected,
        "similarities": similarity_products(config) * 2 * scores * width,
        "loss": 3 * CROSS_ENTROPY * matrices(config) * scores,
        "optimizer": ADAM * parameters,
    }


def audio_tower(config: ConfigDict) -> Tower:
    """The blocks of the audio encoder, on what patch-out leaves."""
    patches = chunk_patches(config)
    return Tower(
        rows=config.batch_size * chunks(config),
        tokens=patches - int(config.audio.patch_out * patches),
        dim=config.audio.dim,
        depth=config.audio.depth,
        heads=config.audio.heads,
        hidden=4 * config.audio.dim,
        activation=GELU,
    )


def text_tower(config: ConfigDict) -> Tower:
    """The blocks of the text encoder."""
    return Tower(
        rows=config.batch_size,
        tokens=config.text.max_tokens,
        dim=config.text.dim,
        depth=config.text.depth,
        heads=config.text.heads,
        hidden=config.text.ffn_dim,
        activation=RELU,
    )


def chunks(config: ConfigDict) -> int:
    """Chunks that a clip is cut into."""
    frames = frame_count(round(config.audio.seconds * SAMPLE_RATE))
    return -(-frames // config.audio.target_length)


def chunk_patches(config: ConfigDict) -> int:
    """Patches in a chunk."""
    frames = frame_count(round(config.audio.seconds * SAMPLE_RATE))
    return FREQ_PATCHES * (min(frames, config.audio.target_length) // PATCH)


def matrices(config: ConfigDict) -> int:
    """Similarity matrices in the loss: that of the pairs, and one for each direction of SVR."""
    svr = config.loss.svr
    return 1 + (len(SIDES[svr.direction]) if svr.radius != "none" else 0)


def similarity_products(config: ConfigDict) -> int:
    """Products of batch x batch x dim, forward and backward."""
    return (3 if config.loss.block_size is None else 4) * matrices(config)


def learning_passes(config: ConfigDict) -> int:
    """Forward passes that a step of what learns is worth: backward counts two."""
    return 3 if config.microbatch_size is None else 4


def _tower_parts(name: str, tower: Tower, config: ConfigDict) -> dict[str, int]:
    once = (tower.dense(), tower.attention(), tower.elementwise())
    kinds = ("dense layers", "attention", "norms and activations")
    if config[name].frozen:
        return {f"{name} {kind}": forward for kind, forward in zip(kinds, once, strict=True)}
    return {
        f"{name} {kind}": learning_passes(config) * forward + repeated
        for kind, forward, repeated in zip(kinds, once, tower.again(config.remat), strict=True)
    }
