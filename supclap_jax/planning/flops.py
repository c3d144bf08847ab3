"""Floating-point operations of one training step, counted from the config."""

import math

import jax
from ml_collections import ConfigDict

from supclap_jax.losses.svr import SIDES
from supclap_jax.models.dual_encoder import TOWERS
from supclap_jax.models.encoder import Encoder
from supclap_jax.models.registry import audio_encoder, text_encoder
from supclap_jax.runs.mesh import make_mesh
from supclap_jax.runs.states import abstract_states
from supclap_jax.train.gradient_cache import microbatch_count

# Operations on each element that are no products, each way; exp, log and the like count one.
ADAM = 20  # on each parameter: both moments, their corrections, decay, clipping, selection
CROSS_ENTROPY = 8


def train_step_flops(config: ConfigDict) -> dict[str, int]:
    """FLOPs of one step of the whole batch, over all devices, by part.

    A multiplication with an addition counts as two. Counted are all matrix products and
    convolutions; of the rest, what acts on every activation, similarity and parameter: norms,
    softmax, activations, biases, residuals, the loss and Adam. Not counted are random bits of
    dropout and patch-out, embedding look-ups, and the radius model. The encoders count their own
    forward passes (`Encoder.flops`).

    Forward and backward are three times the forward pass, but for the front end and frozen towers,
    which have no gradient. The backward pass of transformer blocks repeats norms, activations, and
    the scores and softmax of attention; with `remat` "dots" all of attention and elementwise
    operations, with "full" the blocks up to their last product, less what is `saved`. With
    `gradient_cache` and microbatches what has a gradient takes another forward pass, and so does
    the front end; with microbatches one more for batch norm. A
    similarity matrix costs three products, or four in tiles, which are computed again; each
    direction of SVR needs one more matrix, and so does each modality of an intra-modal loss.

    Returns:
      part -> FLOPs; their sum is that of the step.
    """
    width, scores = config.projection_dim, config.batch_size**2
    params = abstract_states(config, make_mesh(1, config.batch_size)).dual.params
    parameters = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
    kernels = (params[f"{tower}_projection"]["Dense_0"]["kernel"] for tower in TOWERS)
    projected = config.batch_size * sum(kernel.shape[0] + width for kernel in kernels) * width
    passes = learning_passes(config)
    return {
        **_encoder_parts(audio_encoder(config), config),
        **_encoder_parts(text_encoder(config), config),
        "projections": passes * 2 * projected,
        "similarities": similarity_products(config) * 2 * scores * width,
        "loss": 3 * CROSS_ENTROPY * matrices(config) * scores,
        "optimizer": ADAM * parameters,
    }


def matrices(config: ConfigDict) -> int:
    """Similarity matrices in the loss: that of the pairs, and each direction's and modality's."""
    svr = config.loss.svr
    of_svr = len(SIDES[svr.direction]) if svr.radius != "none" else 0
    return 1 + of_svr + (len(TOWERS) if config.loss.intra_modal else 0)


def similarity_products(config: ConfigDict) -> int:
    """Products of batch x batch x dim, forward and backward."""
    return (3 if config.loss.block_size is None else 4) * matrices(config)


def learning_passes(config: ConfigDict) -> int:
    """Forward passes that a step of what learns is worth: backward counts two."""
    return 4 if repeats_towers(config) else 3


def repeats_towers(config: ConfigDict) -> bool:
    """Whether microbatches are computed again for the gradient."""
    return microbatch_count(config) > 1 and config.gradient_cache


def _encoder_parts(encoder: Encoder, config: ConfigDict) -> dict[str, int]:
    frozen, pools = config[encoder.tower].frozen, encoder.momentum is not None
    front_ends = 1 + repeats_towers(config) + (pools and microbatch_count(config) > 1)
    front_ends = 1 if frozen else front_ends
    parts = {}
    for name, work in encoder.flops(config).items():
        if not work.learns:
            parts[name] = front_ends * work.forward
        elif frozen:
            parts[name] = work.forward
        else:
            parts[name] = learning_passes(config) * work.forward + work.again
    return parts
