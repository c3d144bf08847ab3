"""Steps in microbatches against the step of the whole batch, and what they cost."""

import math
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from supclap_jax.config import set_variant, validate
from supclap_jax.errors import ConfigError
from supclap_jax.losses import symmetric_info_nce
from supclap_jax.models.dual_encoder import make_model
from supclap_jax.models.log_mel import frame_count, log_mel
from supclap_jax.runs.mesh import make_mesh, mesh_of, put_batch
from supclap_jax.runs.states import abstract_states
from supclap_jax.train import step as step_module
from supclap_jax.train.step import make_gradients, make_train_step

pytestmark = pytest.mark.slow


@pytest.fixture
def config(config):
    """Of two microbatches for eight devices, without dropout."""
    config.batch_size = 16
    config.text.dropout = 0.0
    return config


def make_batch(config):
    """Clips of different loudness, so that parts of the batch differ in their statistics.

    Their samples are of 16 bit.
    """
    rng = np.random.default_rng(0)
    tokens = rng.integers(4, 300, (config.batch_size, config.text.max_tokens), np.int32)
    tokens[:, 12:] = 1
    samples = round(config.audio.seconds * 16_000)
    noise = rng.normal(size=(config.batch_size, samples))
    loudness = 10 ** rng.uniform(-3, 0, (config.batch_size, 1))
    return {
        "audio": (np.round(loudness * noise.clip(-3, 3) * 2**13) / 2**15).astype(np.float32),
        "audio_lengths": rng.integers(samples // 2, samples + 1, config.batch_size, np.int32),
        "tokens": tokens,
        "group_ids": np.arange(config.batch_size, dtype=np.int32) % 14,
    }


def make_variables(config):
    """params, radius_params, batch_stats: random, since initial radii are equal for all pairs."""
    states = abstract_states(config, make_mesh(1, config.batch_size))
    rng = np.random.default_rng(1)

    def draw(path, x):
        centre = 1 if path[-1].key in ("scale", "var") else 0
        return rng.normal(centre, 0.2, x.shape).astype(np.float32)

    trees = states.dual.params, states.radius.params, states.dual.batch_stats
    return jax.tree_util.tree_map_with_path(draw, trees)


def compiled(config, as_int16=False):
    """The gradients of a step, and their arguments."""
    validate(config)
    batch = make_batch(config)
    if as_int16:
        batch["audio"] = (batch["audio"] * 2**15).astype(np.int16)
    mesh = mesh_of(config)
    arguments = *make_variables(config), put_batch(batch, mesh), jax.random.key(1)
    return jax.jit(make_gradients(config, mesh)).lower(*arguments).compile(), arguments


def run(config, as_int16=False):
    """((gradient, radius_gradient), batch_stats, metrics)."""
    gradients, arguments = compiled(config, as_int16)
    return jax.device_get(gradients(*arguments))


def assert_close(one, other):
    """To 1e-5 of the largest entry of each array, or of 1 for metrics, some of which are zero."""

    def compare(floor, path, a, b):
        scale = np.max(np.abs(b), initial=floor)
        name = jax.tree_util.keystr(path)
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * scale, err_msg=name)

    for floor, tree, expected in zip((1e-20, 1e-20, 1), one, other, strict=True):
        jax.tree_util.tree_map_with_path(partial(compare, floor), tree, expected)


@pytest.mark.parametrize(
    ("variant", "changes", "in_parts"),
    [
        (
            "siglip",
            {"audio": {"frozen": True}},
            {"microbatch_size": 2, "loss": {"block_size": 4}},
        ),
        (
            "static",
            {"ema_decay": 0.9},
            {"microbatch_size": 8, "mesh": {"data": 8}, "loss": {"block_size": 3}, "remat": "dots"},
        ),
        (
            "dynamic",
            {
                "loss": {"svr": {"features": "row", "detach": False}},
                "text": {"frozen": True, "dropout": 0.1},
            },
            {"microbatch_size": 8, "mesh": {"data": 8}, "remat": "full"},
        ),
        (
            "siglip_dynamic",
            {"text": {"frozen": True, "dropout": 0.1}},
            {"microbatch_size": 4, "loss": {"block_size": "auto"}, "scan_layers": False},
        ),
        (
            "static",
            {},
            {
                "microbatch_size": 8,
                "mesh": {"data": 4, "fsdp": 2},
                "gradient_cache": False,
                "remat": "full",
                "audio": {"saved": ("qkv",), "offloaded": ("hidden",)},
                "text": {"saved": ("sum",)},
            },
        ),
    ],
)
def test_equals_the_whole_batch(config, variant, changes, in_parts):
    set_variant(config, variant)
    config.update(changes)
    """Also where audio travels as integers."""
    whole = run(config)
    config.update(in_parts)
    assert_close(run(config, as_int16=True), whole)


def test_equals_one_loss_on_microbatches_with_keys_of_their_own(config, monkeypatch):
    """All that is random, on eight devices; the reference knows neither scans nor devices."""
    config.update(audio={"dropout": 0.1, "patch_out": 0.3, "time_masks": 1, "freq_masks": 1})
    config.text.dropout = 0.3
    batch, (params, _, statistics) = make_batch(config), make_variables(config)
    model, count = make_model(config), 2

    x = np.asarray(log_mel(batch["audio"], batch["audio_lengths"]), np.float64)
    frames = np.concatenate([x[i, : frame_count(n)] for i, n in enumerate(batch["audio_lengths"])])
    moments = {"mean": frames.mean(0), "var": frames.var(0)}
    new_statistics = jax.tree.map(
        lambda old, new: 0.99 * old + 0.01 * new, statistics, {"audio": {"input_norm": moments}}
    )

    def objective(params):
        parts = []
        for i in range(count):
            part = jax.tree.map(lambda x: x[i::count], batch)  # noqa: B023
            variables = {
                "params": params,
                "batch_stats": {"audio": {"input_norm": jax.tree.map(np.float32, moments)}},
            }
            rngs = {"dropout": jax.random.fold_in(jax.random.key(1), i)}
            inputs = (part[name] for name in ("audio", "tokens", "audio_lengths"))
            parts.append(model.apply(variables, *inputs, train=True, rngs=rngs))
        audio, text = (jnp.concatenate([part[side] for part in parts]) for side in (0, 1))
        ids = np.concatenate([batch["group_ids"][i::count] for i in range(count)])
        return symmetric_info_nce(audio, text, parts[0][2], ids=jnp.asarray(ids))

    loss, gradient = jax.jit(jax.value_and_grad(objective))(params)

    evaluations, supclap = [], step_module.supclap

    def counted(*args, **kwargs):
        jax.debug.callback(lambda: evaluations.append(1))
        return supclap(*args, **kwargs)

    monkeypatch.setattr(step_module, "supclap", counted)
    config.microbatch_size = config.batch_size // count
    config.mesh.data = 8
    step, arguments = compiled(config)
    (got, _), got_statistics, metrics = jax.device_get(step(*arguments))
    jax.effects_barrier()
    assert_close(
        (got, got_statistics, {"loss": metrics["loss"]}),
        (jax.device_get(gradient), new_statistics, {"loss": np.asarray(loss)}),
    )
    assert len(evaluations) == 1

    # Devices exchange embeddings and sums, and no input.
    moved = re.findall(r"= (.*) (?:all-to-all|all-gather|collective-permute)\(", step.as_text())
    shapes = re.findall(r"\[([\d,]+)\]", " ".join(moved))
    sizes = [math.prod(map(int, shape.split(","))) for shape in shapes]
    assert max(sizes) == config.batch_size * config.projection_dim


def test_memory_is_that_of_a_microbatch(config):
    """With the cache; without it that of what blocks leave, which is less with remat."""
    config.batch_size = 64
    temporaries = {}
    for size, cached, remat in ((None, True, "none"), (8, True, "none"), (8, False, "full")):
        config.microbatch_size, config.gradient_cache, config.remat = size, cached, remat
        mesh = make_mesh(1, config.batch_size)
        step = make_train_step(config, mesh)
        compiled_step = step.lower(abstract_states(config, mesh), make_batch(config)).compile()
        temporaries[size, cached] = compiled_step.memory_analysis().temp_size_in_bytes
    assert temporaries[8, True] < 0.3 * temporaries[None, True]
    assert temporaries[8, True] < temporaries[8, False] < 0.6 * temporaries[None, True]


def test_one_microbatch_is_the_batch(config):
    """Nothing is computed twice, and what is random is the same."""
    config.text.dropout = 0.3
    expected, _ = compiled(config)
    config.microbatch_size = config.batch_size
    got, _ = compiled(config)
    assert got.cost_analysis()["flops"] == expected.cost_analysis()["flops"]


def test_microbatches_must_divide_the_batch(config):
    with config.unlocked():
        config.microbatch_size = 3
    with pytest.raises(ConfigError, match="expected None or a divisor of batch_size 16"):
        validate(config)


def test_devices_must_divide_a_microbatch(config):
    config.microbatch_size = 4
    with pytest.raises(ConfigError, match="microbatch_size 4 is not divisible by the 8 devices"):
        make_train_step(config, make_mesh(8, config.batch_size))
