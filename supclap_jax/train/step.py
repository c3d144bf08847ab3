"""The training step: one pure function from states and batch to new states and metrics."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, PartitionSpec
from ml_collections import ConfigDict

from supclap_jax.config.base_loss import base_loss
from supclap_jax.errors import ConfigError
from supclap_jax.losses import BaseLoss, contract, forces, intra_modal, sharded, supclap
from supclap_jax.losses.similarity import similarity
from supclap_jax.models.dual_encoder import clip_temperature
from supclap_jax.models.radius import make_radius_model
from supclap_jax.runs.mesh import AXES, batch_sharding, replicated
from supclap_jax.runs.optimizer import (
    dual_encoder_optimizer,
    learning_rate,
    moving_average,
    radius_optimizer,
)
from supclap_jax.runs.states import (
    RadiusState,
    States,
    TrainState,
    abstract_states,
    split_seed,
)
from supclap_jax.train.gradient_cache import make_towers

Step = Callable[[States, dict[str, jax.Array]], tuple[States, dict[str, jax.Array]]]


def make_gradients(config: ConfigDict, mesh: Mesh) -> Callable:
    """The gradients of both models' parameters: of the towers, through their embeddings.

    Returns:
      `gradients(params, radius_params, batch_stats, batch, key)`, batch as `training_batches`
      yields it, key for dropout, which gives `(gradient, radius_gradient), batch_stats, metrics`.
    """
    towers = make_towers(config, mesh)
    loss = jax.value_and_grad(make_loss(config, mesh), argnums=(0, 1, 2, 3, 5), has_aux=True)

    def gradients(params, radius_params, batch_stats, batch, key):
        towers_of = partial(towers, batch_stats=batch_stats, batch=batch, key=key)
        outputs, backward, new_batch_stats = jax.vjp(towers_of, params, has_aux=True)
        audio, text, logit_scale, _ = outputs
        (_, (metrics, pulls)), (*by_outputs, radius_gradient) = loss(
            *outputs, batch["group_ids"], radius_params, reference=_reference(batch)
        )
        (gradient,) = backward(tuple(by_outputs))
        metrics["temperature"] = 1 / logit_scale
        pairs = {"audio": (audio, text, by_outputs[0]), "text": (text, audio, by_outputs[1])}
        for side, of_side in pairs.items():
            found = forces(*of_side, pulls[side])
            metrics |= {f"force/{side}_{name}": jnp.mean(x) for name, x in found.items()}
        return (gradient, radius_gradient), new_batch_stats, metrics

    return gradients


def _reference(batch: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array] | None:
    """Embeddings of the pairs by a frozen model, where radii are predicted from them."""
    if "reference_audio" not in batch:
        return None
    return batch["reference_audio"], batch["reference_text"]


def make_loss(config: ConfigDict, mesh: Mesh) -> Callable:
    """`loss(audio, text, logit_scale, logit_bias, ids, radius_params)`, the results of `supclap`.

    With `reference`, embeddings of the same pairs, a predictor of radii sees their similarities.

    With `config.loss.block_size` the devices of the mesh share its sweeps over the pairs; without,
    each similarity matrix exists as a whole. The result is the same.

    Raises:
      ConfigError: as `base_loss`.
    """
    radius_model = make_radius_model(config)
    svr = config.loss.svr
    options = {"base": base_loss(config), "same_id": config.loss.same_id}
    options["over_directions"] = config.loss.reduction
    if not isinstance(options["base"], BaseLoss):
        _try(options["base"], config.loss.base)
    if svr.radius != "none":
        options |= {name: svr[name] for name in ("direction", "alpha", "beta", "bound")}
    factor, intra_weight = config.loss.contraction, config.loss.intra_modal

    def loss(audio, text, logit_scale, logit_bias, ids, radius_params, reference=None, **placement):
        given_pairs = {"audio": (audio, text), "text": (text, audio)}
        if factor != 1:
            audio, text = (contract(*pair, factor) for pair in given_pairs.values())
        radii = partial(radius_model.apply, {"params": radius_params})
        if reference is not None:
            given = radii(similarity(*reference) * logit_scale)
        elif radius_model.looks_at == "summary":
            given = {"predict_radii": radii}
        elif radius_model.looks_at == "matrix":
            given = radii(similarity(audio, text) * logit_scale)
        else:
            given = radii(None)
        total, (metrics, pulls) = supclap(
            audio,
            text,
            logit_scale,
            logit_bias=logit_bias,
            ids=ids,
            pulls=True,
            **given,
            **options,
            **placement,
        )
        if intra_weight:
            pairs = {"ids": ids, "same_id": config.loss.same_id}
            within = intra_modal(audio, text, logit_scale, **pairs, **placement)
            total += intra_weight * within
            metrics |= jax.lax.stop_gradient({"loss": total, "loss/intra_modal": within})
        if factor != 1:
            pulls = {x: _contracted(pulls[x], *pair, factor) for x, pair in given_pairs.items()}
        return total, (metrics, pulls)

    if config.loss.block_size is None:
        return loss
    everywhere, split = PartitionSpec(), PartitionSpec(AXES)  # pulls are of each device's pairs
    out_specs = (everywhere, (everywhere, split))
    tiled = partial(loss, block_size=config.loss.block_size)
    return sharded(tiled, mesh, AXES, out_specs=out_specs)


def _contracted(pull: jax.Array, anchor: jax.Array, positive: jax.Array, factor: float):
    """What of a pull on the result of `contract` comes to the anchor."""
    anchor, positive = jax.lax.stop_gradient((anchor, positive))
    return jax.vjp(lambda x: contract(x, positive, factor), anchor)[1](pull)[0]


def _try(function: Callable, name: str) -> None:
    """Raises ConfigError where a user's loss cannot be called, before anything is begun."""
    rows, scale = jax.ShapeDtypeStruct((4, 8), jnp.float32), jax.ShapeDtypeStruct((), jnp.float32)
    try:
        jax.eval_shape(function, rows, rows, scale)
    except Exception as error:  # it may raise any kind
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"loss.base {name} fails for queries and keys [4, 8]: {type(error).__name__}: {reason}"
        ) from error


def make_train_step(config: ConfigDict, mesh: Mesh) -> Step:
    """Compiles `step(states, batch) -> (states, metrics)`.

    The states are donated. Randomness is a function of `config.seed` and the step. Where loss or
    gradient is not finite, parameters, statistics and optimizer states stay as they were and the
    step counts as skipped.

    Raises:
      ConfigError: as `make_towers`.
    """
    gradients = make_gradients(config, mesh)
    optimizer, of_radius = dual_encoder_optimizer(config), radius_optimizer(config)
    schedule = learning_rate(config)

    def step(states: States, batch: dict[str, jax.Array]):
        dual, radius = states.dual, states.radius
        key = jax.random.fold_in(split_seed(config.seed)[2], dual.step)
        (gradient, radius_gradient), batch_stats, metrics = gradients(
            dual.params, radius.params, dual.batch_stats, batch, key
        )
        gradient_norm = optax.tree.norm(gradient)
        radius_gradient_norm = optax.tree.norm(radius_gradient)
        finite = (
            jnp.isfinite(metrics["loss"])
            & jnp.isfinite(gradient_norm)
            & jnp.isfinite(radius_gradient_norm)
        )

        updates, opt_state = optimizer.update(gradient, dual.opt_state, dual.params)
        radius_updates, radius_opt_state = of_radius.update(
            radius_gradient, radius.opt_state, radius.params
        )

        def if_finite(new, old):
            return jax.tree.map(lambda x, y: jnp.where(finite, x, y), new, old)

        new_params = clip_temperature(
            optax.apply_updates(dual.params, updates), config.temperature.minimum
        )
        ema = dual.ema
        if config.ema_decay:
            ema = moving_average(dual.ema, new_params, dual.step, config.ema_decay)
        new_dual = TrainState(
            step=dual.step + 1,
            params=if_finite(new_params, dual.params),
            batch_stats=if_finite(batch_stats, dual.batch_stats),
            ema=if_finite(ema, dual.ema),
            opt_state=if_finite(opt_state, dual.opt_state),
            skipped=dual.skipped + ~finite,
            skipped_in_a_row=jnp.where(finite, 0, dual.skipped_in_a_row + 1),
        )
        new_radius_params = optax.apply_updates(radius.params, radius_updates)
        new_radius = RadiusState(
            params=if_finite(new_radius_params, radius.params),
            opt_state=if_finite(radius_opt_state, radius.opt_state),
        )
        metrics |= {
            "gradient_norm": gradient_norm,
            "radius_gradient_norm": radius_gradient_norm,
            "learning_rate": schedule(dual.step - dual.skipped),
            "skipped": new_dual.skipped,
            "skipped_in_a_row": new_dual.skipped_in_a_row,
        }
        return States(new_dual, new_radius), metrics

    shardings = jax.tree.map(lambda x: x.sharding, abstract_states(config, mesh))
    return jax.jit(
        step,
        in_shardings=(shardings, batch_sharding(mesh)),
        out_shardings=(shardings, replicated(mesh)),
        donate_argnums=0,
    )
