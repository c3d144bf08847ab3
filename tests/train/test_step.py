"""One training step: against a plain composition, over devices, with bad numbers, and its keys."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from supclap_jax.config import set_variant
from supclap_jax.losses import info_nce, radius_constraint, svr, symmetric_info_nce
from supclap_jax.losses.similarity import distance
from supclap_jax.models.dual_encoder import make_model
from supclap_jax.runs.mesh import make_mesh, mesh_of, put_batch
from supclap_jax.runs.optimizer import adamw, learning_rate
from supclap_jax.runs.states import abstract_states, init_states, split_seed
from supclap_jax.train.step import make_train_step

pytestmark = pytest.mark.slow


def make_batch(config, seed=0):
    rng = np.random.default_rng(seed)
    tokens = rng.integers(4, 300, (config.batch_size, config.text.max_tokens), np.int32)
    tokens[:, 12:] = 1
    samples = round(config.audio.seconds * 16_000)
    return {
        "audio": 0.1 * rng.normal(size=(config.batch_size, samples)).astype(np.float32),
        "audio_lengths": rng.integers(samples // 2, samples + 1, config.batch_size, np.int32),
        "tokens": tokens,
        "group_ids": np.array([0, 1, 2, 3, 4, 5, 6, 0], np.int32),
    }


INITIAL, PROGRAMS = {}, {}


def initial_states(config, mesh):
    """Those of `init_states`, made on one device, once for all meshes."""
    plain = config.copy_and_resolve_references()
    plain.mesh.update(data=1, fsdp=1)
    plain.loss.block_size = None
    key = plain.to_json_best_effort()
    if key not in INITIAL:
        states = init_states(plain, make_mesh(1, config.batch_size))
        INITIAL[key] = jax.tree.map(np.array, states)
    shardings = jax.tree.map(lambda x: x.sharding, abstract_states(config, mesh))
    return jax.device_put(INITIAL[key], shardings, may_alias=False)


def program(config):
    """The mesh and the step that is compiled for it, made once for each config."""
    key = config.to_json_best_effort()
    if key not in PROGRAMS:
        mesh = mesh_of(config)
        PROGRAMS[key] = mesh, make_train_step(config, mesh)
    return PROGRAMS[key]


def run(config, steps=1, batches=None):
    """States and the last metrics after some steps."""
    mesh, step = program(config)
    states = initial_states(config, mesh)
    for k in range(steps):
        batch = make_batch(config, k) if batches is None else batches[k]
        states, metrics = step(states, put_batch(batch, mesh))
    return jax.device_get(states), {name: float(x) for name, x in metrics.items()}


def assert_trees(compare, one, other):
    jax.tree.map(compare, one, other)


def assert_close(one, other, error):
    """Leaf by leaf, the largest difference over the largest entry."""

    def compare(a, b):
        np.testing.assert_allclose(a, b, rtol=0, atol=error * np.max(np.abs(b), initial=1e-20))

    assert_trees(compare, one, other)


def gradient_moments(states):
    """Adam's first moments of both models: linear in the gradients of all steps.

    Parameters would not do to compare runs: Adam divides by the root of the second moment, so an
    entry whose gradient is rounding noise moves as far as any other.
    """
    return [optax.tree.get(state.opt_state, "mu") for state in (states.dual, states.radius)]


def test_one_step_is_the_composition_of_its_parts(config):
    """Static SVR with ids, rebuilt from model, losses and optax by hand."""
    set_variant(config, "static")
    config.text.dropout = 0.0
    states, metrics = run(config, steps=2, batches=[make_batch(config)] * 2)

    initial = initial_states(config, make_mesh(1, config.batch_size))
    batch, model = make_batch(config), make_model(config)
    ids = jnp.asarray(batch["group_ids"])

    def objective(params, radius, statistics):
        (audio, text, scale, _), updated = model.apply(
            {"params": params, "batch_stats": statistics},
            batch["audio"],
            batch["tokens"],
            batch["audio_lengths"],
            train=True,
            mutable=["batch_stats"],
        )
        apart = distance(audio, text)
        loss = symmetric_info_nce(audio, text, scale, ids=ids)
        loss += svr(
            audio,
            text,
            radius["audio"],
            radius["text"],
            lambda q, k: info_nce(q, k, scale, ids=ids),
        )
        for side in ("audio", "text"):
            loss += 0.01 / 2 * radius_constraint(radius[side], apart)
        return loss, updated["batch_stats"]

    params, radius = initial.dual.params, initial.radius.params
    statistics = initial.dual.batch_stats
    optimizers = [adamw(config, section) for section in ("optimizer", "radius_optimizer")]
    opt_states = [o.init(p) for o, p in zip(optimizers, (params, radius), strict=True)]
    for _ in range(2):
        (loss, statistics), gradients = jax.jit(
            jax.value_and_grad(objective, argnums=(0, 1), has_aux=True)
        )(params, radius, statistics)
        trees = [params, radius]
        for i, (optimizer, gradient) in enumerate(zip(optimizers, gradients, strict=True)):
            updates, opt_states[i] = optimizer.update(gradient, opt_states[i], trees[i])
            trees[i] = optax.apply_updates(trees[i], updates)
        params, radius = trees
    assert metrics["loss"] == pytest.approx(float(loss), rel=1e-5)
    assert int(states.dual.step) == 2
    assert_close(states.dual.batch_stats, statistics, 1e-6)
    expected = [optax.tree.get(opt_state, "mu") for opt_state in opt_states]
    assert_close(gradient_moments(states), expected, 1e-4)
    assert_close(states.radius.params, radius, 1e-5)
    mean_change = lambda a, b: float(np.mean(np.abs(a - b)))  # noqa: E731
    changes = jax.tree.leaves(jax.tree.map(mean_change, states.dual.params, params))
    assert max(changes) < 1e-2 * config.optimizer.learning_rate


@pytest.mark.parametrize(
    ("variant", "svr", "ways"),
    [
        ("dynamic", {"features": "row", "detach": False}, [(8, None)]),
        ("dynamic", {}, [(1, 4)]),
        ("siglip_dynamic", {"shared": True}, [(4, "auto")]),
        ("static", {"direction": "audio_to_text"}, [(8, 3)]),
    ],
)
def test_devices_and_tiles_agree_with_the_dense_loss_on_one(config, variant, svr, ways):
    """Ways: number of devices and `block_size`."""
    set_variant(config, variant)
    config.loss.svr.update(svr)
    dense = run(config, steps=3)
    for devices, block_size in ways:
        config.mesh.data, config.loss.block_size = devices, block_size
        other = run(config, steps=3)
        for name in dense[1]:
            assert other[1][name] == pytest.approx(dense[1][name], rel=1e-4, abs=1e-6), name
        assert_close(gradient_moments(other[0]), gradient_moments(dense[0]), 1e-3)
        assert_close(other[0].dual.batch_stats, dense[0].dual.batch_stats, 1e-6)


def test_same_seed_same_result_and_other_seed_another(config):
    set_variant(config, "dynamic")
    first, _ = run(config, steps=2)
    PROGRAMS.clear()
    INITIAL.clear()
    second, _ = run(config, steps=2)
    assert_trees(np.testing.assert_array_equal, first, second)
    mesh, name = make_mesh(1, config.batch_size), "freq_pos_embed"
    initial = initial_states(config, mesh).dual.params["audio"][name]
    config.seed = 1
    assert not np.array_equal(initial_states(config, mesh).dual.params["audio"][name], initial)


def test_dropout_depends_on_the_step(config):
    """The same batch and parameters at two steps: the losses differ only through dropout."""
    assert config.text.dropout
    mesh, step = program(config)
    batch, losses = put_batch(make_batch(config), mesh), []
    for number in (0, 1, 1):
        states = initial_states(config, mesh)
        moved = jax.device_put(jnp.int32(number), states.dual.step.sharding)
        _, metrics = step(states.replace(dual=states.dual.replace(step=moved)), batch)
        losses.append(float(metrics["loss"]))
    assert losses[1] == losses[2]
    assert losses[0] != pytest.approx(losses[1], rel=1e-4)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_step_that_is_not_finite_changes_nothing_and_is_counted(config, bad):
    set_variant(config, "dynamic")
    good, poisoned = make_batch(config), make_batch(config)
    poisoned["audio"][3, 100] = bad
    before, _ = run(config, 1, [good])
    after, metrics = run(config, 3, [good, poisoned, poisoned])
    for name in ("params", "batch_stats", "opt_state"):
        assert_trees(
            np.testing.assert_array_equal, getattr(before.dual, name), getattr(after.dual, name)
        )
    assert_trees(np.testing.assert_array_equal, before.radius, after.radius)
    assert int(after.dual.step) == 3
    assert (metrics["skipped"], metrics["skipped_in_a_row"]) == (2, 2)
    recovered, metrics = run(config, 3, [good, poisoned, good])
    assert (metrics["skipped"], metrics["skipped_in_a_row"]) == (1, 0)
    schedule = learning_rate(config)
    assert metrics["learning_rate"] == pytest.approx(float(schedule(1)))  # of the second update
    assert np.isfinite(metrics["loss"])
    name = "log_logit_scale"
    assert not np.array_equal(recovered.dual.params[name], after.dual.params[name])


def test_keys_are_independent():
    keys = {tuple(np.asarray(jax.random.key_data(key))) for key in split_seed(3)}
    steps = [jax.random.fold_in(split_seed(3)[2], step) for step in range(3)]
    assert len(keys | {tuple(np.asarray(jax.random.key_data(key))) for key in steps}) == 6


def test_states_are_donated(config):
    mesh, step = program(config)
    states = initial_states(config, mesh)
    step(states, put_batch(make_batch(config), mesh))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(states.dual.params))


def test_abstract_states_are_those_of_init(config):
    set_variant(config, "dynamic")
    mesh = make_mesh(2, config.batch_size)
    made, abstract = init_states(config, mesh), abstract_states(config, mesh)
    same = lambda a, b: (a.shape, a.dtype, a.sharding) == (b.shape, b.dtype, b.sharding)  # noqa: E731
    assert all(jax.tree.leaves(jax.tree.map(same, made, abstract)))
