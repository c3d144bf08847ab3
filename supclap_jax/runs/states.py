"""The two train states: the dual encoder's and the radius model's."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax.sharding import Mesh, Sharding
from ml_collections import ConfigDict

from supclap_jax.errors import ConfigError
from supclap_jax.data.audio import SAMPLE_RATE
from supclap_jax.data.text import Tokenizer
from supclap_jax.models.ced import CED
from supclap_jax.models.dual_encoder import DualEncoder
from supclap_jax.models.radius import DynamicRadius, FixedRadius, NoRadius, StaticRadius
from supclap_jax.models.sonar import SonarTextEncoder
from supclap_jax.runs.mesh import state_shardings
from supclap_jax.runs.optimizer import (
    dual_encoder_optimizer,
    frozen_towers,
    radius_optimizer,
)
from supclap_jax.runs.initial_weights import load_weights

AUGMENTATIONS = (
    "dropout",
    "patch_out",
    "time_masks",
    "time_mask_frames",
    "freq_masks",
    "freq_mask_bins",
)
ACTIVATIONS = {"relu": nn.relu, "gelu": nn.gelu, "tanh": nn.tanh}


@struct.dataclass
class TrainState:
    """The dual encoder in training.

    Attributes:
      step: int32, optimizer steps taken, skipped ones included.
      params: of `DualEncoder`.
      batch_stats: running statistics of the audio encoder's batch norm.
      ema: moving average of `params`, empty without `ema_decay`.
      opt_state: of the optimizer.
      skipped: int32, steps whose update was skipped because it was not finite.
      skipped_in_a_row: int32, how many of them came last.
    """

    step: jax.Array
    params: dict
    batch_stats: dict
    ema: dict
    opt_state: optax.OptState
    skipped: jax.Array
    skipped_in_a_row: jax.Array


@struct.dataclass
class RadiusState:
    """The radius model in training; empty for radii without parameters."""

    params: dict
    opt_state: optax.OptState


def make_model(config: ConfigDict, sharding: Sharding | None = None) -> DualEncoder:
    """The dual encoder that a config describes.

    Args:
      config: of the run.
      sharding: of the batches that it is to take; None leaves activations to the compiler.

    Raises:
      ConfigError: it asks for kernels that this machine does not have.
    """
    if config.attention == "cudnn" and jax.default_backend() != "gpu":
        raise ConfigError(
            f"attention = 'cudnn' needs an NVIDIA GPU, but JAX runs on {jax.default_backend()}; "
            "set it to 'xla'"
        )
    dtype = jnp.dtype(config.compute_dtype)
    both = {name: config[name] for name in ("attention", "scan_layers", "remat")}
    both |= {"dtype": dtype, "sharding": sharding}
    audio = CED(
        dim=config.audio.dim,
        depth=config.audio.depth,
        heads=config.audio.heads,
        target_length=config.audio.target_length,
        **{name: config.audio[name] for name in AUGMENTATIONS},
        **both,
    )
    text = SonarTextEncoder(
        vocab_size=Tokenizer.size(config.text.vocab_size),
        dim=config.text.dim,
        depth=config.text.depth,
        heads=config.text.heads,
        ffn_dim=config.text.ffn_dim,
        dropout=config.text.dropout,
        **both,
    )
    return DualEncoder(
        audio=audio,
        text=text,
        projection_dim=config.projection_dim,
        temperature=config.temperature.initial,
        learn_temperature=config.temperature.learned,
        bias=config.temperature.initial_bias if config.loss.base == "siglip" else None,
        frozen=frozen_towers(config),
        dtype=dtype,
        sharding=sharding,
    )


def make_radius_model(config: ConfigDict) -> nn.Module:
    """The radius model that a config describes."""
    svr = config.loss.svr
    if svr.radius == "none":
        return NoRadius()
    if svr.radius == "fixed":
        return FixedRadius(svr.fixed_radius, svr.direction)
    if svr.radius == "static":
        return StaticRadius(svr.initial_radius, svr.direction, svr.shared)
    return DynamicRadius(
        initial_radius=svr.initial_radius,
        direction=svr.direction,
        features=svr.features,
        hidden=svr.hidden,
        activation=ACTIVATIONS[svr.activation],
        shared=svr.shared,
        detach=svr.detach,
    )


def split_seed(seed: int) -> jax.Array:
    """Independent keys for the dual encoder's and the radius model's parameters, and dropout."""
    return jax.random.split(jax.random.key(seed), 3)


def init_states(config: ConfigDict, mesh: Mesh) -> tuple[TrainState, RadiusState]:
    """Both states at step 0, made straight on the mesh; a pure function of `config.seed`.

    Values of pretrained weights then take the place of the initial ones.

    Raises:
      ConfigError: as `load_weights`.
    """
    shardings = state_shardings(jax.eval_shape(lambda: _init(config)), mesh)
    state, radius_state = jax.jit(lambda: _init(config), out_shardings=shardings)()
    return load_weights(config, state), radius_state


def abstract_states(config: ConfigDict, mesh: Mesh) -> tuple[TrainState, RadiusState]:
    """Shapes, dtypes and shardings of both states, without making them."""
    states = jax.eval_shape(lambda: _init(config))
    return jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        states,
        state_shardings(states, mesh),
    )


def _init(config: ConfigDict) -> tuple[TrainState, RadiusState]:
    model_key, radius_key, _ = split_seed(config.seed)
    waveform = np.zeros((1, round(config.audio.seconds * SAMPLE_RATE)), np.float32)
    tokens = np.ones((1, config.text.max_tokens), np.int32)
    variables = make_model(config).init(model_key, waveform, tokens)
    similarity = jnp.zeros((config.batch_size, config.batch_size))
    radius_params = make_radius_model(config).init(radius_key, similarity).get("params", {})
    zero = jnp.int32(0)
    state = TrainState(
        step=zero,
        params=variables["params"],
        batch_stats=variables["batch_stats"],
        ema=variables["params"] if config.ema_decay else {},
        opt_state=dual_encoder_optimizer(config).init(variables["params"]),
        skipped=zero,
        skipped_in_a_row=zero,
    )
    return state, RadiusState(radius_params, radius_optimizer(config).init(radius_params))


def variables_of(state: TrainState, config: ConfigDict) -> dict:
    """What `DualEncoder.apply` takes in evaluation: averaged parameters where `evaluate.ema`."""
    averaged = config.ema_decay and config.evaluate.ema
    return {"params": state.ema if averaged else state.params, "batch_stats": state.batch_stats}
