"""FLOPs counted from the config against XLA's own count of the very training step."""

import jax
import jax.numpy as jnp
import pytest

from supclap_jax.config import default, set_variant
from supclap_jax.planning.flops import train_step_flops
from supclap_jax.runs.mesh import make_mesh
from supclap_jax.runs.states import abstract_states
from supclap_jax.train.step import make_train_step

pytestmark = pytest.mark.slow

MIDDLE = {
    "batch_size": 16,
    "audio": {"dim": 192, "depth": 3, "heads": 3, "seconds": 4.0},
    "text": {"dim": 256, "depth": 2, "heads": 4, "ffn_dim": 1024, "max_tokens": 40},
    "projection_dim": 256,
}


PARTS = {"batch_size": 32, "microbatch_size": 16}
OF_ALL = ("similarities", "loss", "optimizer")  # what is not of a microbatch
SUM = {"saved": ("sum",)}
INTRA_MODAL = {"loss": {"intra_modal": 1.0}}


def build(variant, changes):
    config = default()
    set_variant(config, variant)
    config.scan_layers = False
    config.text.dropout = 0.0
    for change in changes:
        config.update(change)
    return config


def counted_by_xla(config):
    """Of the step as it is lowered for accelerators, before XLA simplifies it."""
    mesh = make_mesh(1, config.batch_size)
    samples = round(16_000 * config.audio.seconds)
    batch = {
        "audio": jax.ShapeDtypeStruct((config.batch_size, samples), jnp.float32),
        "audio_lengths": jax.ShapeDtypeStruct((config.batch_size,), jnp.int32),
        "tokens": jax.ShapeDtypeStruct((config.batch_size, config.text.max_tokens), jnp.int32),
        "group_ids": jax.ShapeDtypeStruct((config.batch_size,), jnp.int32),
    }
    traced = make_train_step(config, mesh).trace(abstract_states(config, mesh), batch)
    lowered = traced.lower(lowering_platforms=("tpu",))
    return lowered.cost_analysis()["flops"]


@pytest.mark.parametrize(
    ("variant", "changes"),
    [
        ("info_nce", [MIDDLE]),
        ("static", [MIDDLE]),
        ("static", [MIDDLE, {"batch_size": 512, "audio": {"seconds": 0.5}}, INTRA_MODAL]),
        ("info_nce", [MIDDLE, {"remat": "full"}]),
        ("info_nce", [MIDDLE, {"audio": {"frozen": True}}]),
        ("info_nce", [MIDDLE, {"remat": "dots", "audio": {"patch_out": 0.4}}]),
        ("static", [MIDDLE, {"batch_size": 4, "audio": {"seconds": 25.0}}]),
        ("info_nce", [MIDDLE, {"remat": "full", "audio": SUM, "text": {"saved": ("hidden",)}}]),
        ("info_nce", [MIDDLE, PARTS]),
        ("info_nce", [MIDDLE, PARTS, {"remat": "full", "text": {"frozen": True}}]),
        ("info_nce", [MIDDLE, PARTS, {"remat": "full", "gradient_cache": False, "audio": SUM}]),
        ("info_nce", [MIDDLE, PARTS, {"audio": {"frozen": True}}]),
        ("info_nce", []),
        ("static", []),
    ],
)
def test_agrees_with_xla(variant, changes):
    """Shapes where one or another part dominates, and full size.

    XLA counts the body of a loop once, and so one of two microbatches.
    """
    config = build(variant, changes)
    parts = train_step_flops(config)
    if config.microbatch_size:
        parts |= {name: parts[name] / 2 for name in parts if name not in OF_ALL}
    assert sum(parts.values()) == pytest.approx(counted_by_xla(config), rel=0.03)


def test_svr_adds_the_products_of_its_directions():
    one, both = build("static", [MIDDLE]), build("static", [MIDDLE])
    one.loss.svr.direction = "text_to_audio"
    product = 2 * 16**2 * 256
    expected = {"info_nce": 3, "one": 6, "both": 9}
    configs = {"info_nce": build("info_nce", [MIDDLE]), "one": one, "both": both}
    for name, count in expected.items():
        assert train_step_flops(configs[name])["similarities"] == count * product
    configs["info_nce"].loss.intra_modal = 1.0
    assert train_step_flops(configs["info_nce"])["similarities"] == 9 * product
    configs["both"].loss.block_size = 8
    assert train_step_flops(configs["both"])["similarities"] == 12 * product


def test_parts_scale_as_they_should():
    config = build("info_nce", [MIDDLE])
    once = train_step_flops(config)
    config.batch_size = 32
    twice = train_step_flops(config)
    factor = {"similarities": 4, "loss": 4, "optimizer": 1}
    assert twice == {name: factor.get(name, 2) * count for name, count in once.items()}
