"""The two train states: the dual encoder's and the radius model's."""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax.sharding import Mesh
from ml_collections import ConfigDict, FrozenConfigDict

from supclap_jax.config.fields import FIELDS
from supclap_jax.config.values import flatten, from_values
from supclap_jax.models.dual_encoder import make_model
from supclap_jax.models.encoder import SAMPLE_RATE
from supclap_jax.models.radius import make_radius_model
from supclap_jax.runs.initial_weights import load_weights
from supclap_jax.runs.mesh import state_shardings
from supclap_jax.runs.optimizer import dual_encoder_optimizer, radius_optimizer


@struct.dataclass
class TrainState:
    """The dual encoder in training.

    Attributes:
      step: int32, optimizer steps taken, skipped ones included.
      params: of `DualEncoder`.
      batch_stats: running statistics of batch norms, empty where no encoder has one.
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


@struct.dataclass
class States:
    """All that a step changes and a checkpoint holds.

    Attributes:
      dual: of the dual encoder.
      radius: of the radius model.
    """

    dual: TrainState
    radius: RadiusState


def split_seed(seed: int) -> jax.Array:
    """Independent keys for the dual encoder's and the radius model's parameters, and dropout."""
    return jax.random.split(jax.random.key(seed), 3)


def init_states(config: ConfigDict, mesh: Mesh) -> States:
    """Both states at step 0, made straight on the mesh; a pure function of `config.seed`.

    Values of pretrained weights then take the place of the initial ones.

    Raises:
      ConfigError: as `load_weights`.
    """
    shardings = state_shardings(_shapes(config), mesh)
    states = jax.jit(lambda: _init(config), out_shardings=shardings)()
    return states.replace(dual=load_weights(config, states.dual))


def abstract_states(config: ConfigDict, mesh: Mesh) -> States:
    """Shapes, dtypes and shardings of both states, without making them."""
    states = _shapes(config)
    return jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        states,
        state_shardings(states, mesh),
    )


def _shapes(config: ConfigDict) -> States:
    """Of both states; no field that a resumed run may change has a part in them."""
    values = {key: value for key, value in flatten(config).items() if not FIELDS[key].resumable}
    return _traced(FrozenConfigDict(from_values(values)))


@lru_cache
def _traced(config: FrozenConfigDict) -> States:
    """Once, for a run asks after them several times before its first step."""
    return jax.eval_shape(lambda: _init(config))


def _init(config: ConfigDict | FrozenConfigDict) -> States:
    model_key, radius_key, _ = split_seed(config.seed)
    waveform = np.zeros((1, round(config.audio.seconds * SAMPLE_RATE)), np.float32)
    tokens = np.ones((1, config.text.max_tokens), np.int32)
    config = ConfigDict(config)
    config.attention = "xla"  # parameters do not depend on it, and not every machine has the other
    variables = make_model(config).init(model_key, waveform, tokens)
    similarity = jnp.zeros((config.batch_size, config.batch_size))
    radius_params = make_radius_model(config).init(radius_key, similarity).get("params", {})
    zero = jnp.int32(0)
    dual = TrainState(
        step=zero,
        params=variables["params"],
        batch_stats=variables.get("batch_stats", {}),
        ema=variables["params"] if config.ema_decay else {},
        opt_state=dual_encoder_optimizer(config).init(variables["params"]),
        skipped=zero,
        skipped_in_a_row=zero,
    )
    radius = RadiusState(radius_params, radius_optimizer(config).init(radius_params))
    return States(dual, radius)


def variables_of(state: TrainState, config: ConfigDict) -> dict:
    """What `DualEncoder.apply` takes in evaluation: averaged parameters where `evaluate.ema`."""
    averaged = config.ema_decay and config.evaluate.ema
    return {"params": state.ema if averaged else state.params, "batch_stats": state.batch_stats}
