"""Configs refuse what they do not know or would not use; recipes are kept as golden text."""

import json
import os
from pathlib import Path

import pytest

from supclap_jax.cli.main import read_config
from supclap_jax.config import (
    LANGUAGES,
    USED,
    VARIANTS,
    changed_keys,
    default,
    flatten,
    load,
    save,
    set_variant,
    validate,
)
from supclap_jax.errors import ConfigError

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parents[1] / "golden" / "configs"


@pytest.mark.parametrize("recipe", ["soundscape", "audiocaps", "clotho", "pretrain"])
@pytest.mark.parametrize("variant", [None, *VARIANTS])
def test_every_recipe_and_variant_is_valid(recipe, variant):
    argument = f":{variant}" if variant else ""
    config = read_config(f"{ROOT}/configs/{recipe}.py{argument}", [])
    base, radius = VARIANTS[variant or "dynamic"]
    assert (config.loss.base, config.loss.svr.radius) == (base, radius)


@pytest.mark.parametrize("recipe", ["soundscape", "audiocaps", "clotho", "pretrain"])
def test_recipes_are_as_reviewed(recipe):
    """A changed default shows here. UPDATE_GOLDEN=1 rewrites the files."""
    path = GOLDEN / f"{recipe}.json"
    values = flatten(read_config(f"{ROOT}/configs/{recipe}.py", []))
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(json.dumps(values, indent=2) + "\n")
    assert values == json.loads(path.read_text())


def test_overrides_keep_types():
    overrides = [
        "--config.seed=3",
        "--config.optimizer.learning_rate=1e-4",
        "--config.temperature.learned=false",
        "--config.data.languages=('fra_Latn','eng_Latn')",
        "--config.loss.svr.beta=1",
        "--config.loss.block_size=auto",
    ]
    config = read_config(f"{ROOT}/configs/soundscape.py", overrides)
    assert config.seed == 3
    assert config.optimizer.learning_rate == 1e-4
    assert config.temperature.learned is False
    assert config.data.languages == ("fra_Latn", "eng_Latn")
    assert config.loss.svr.beta == 1.0
    assert config.loss.block_size == "auto"
    config = read_config(f"{ROOT}/configs/soundscape.py", ["--config.loss.block_size=256"])
    assert config.loss.block_size == 256


@pytest.mark.parametrize(
    ("recipe", "overrides", "message"),
    [
        ("soundscape.py", ["--config.loss.svr.alpa=2"], "nearest known key is 'loss.svr.alpha'"),
        ("soundscape.py", ["--config.learning_rate=2"], "'(radius_)?optimizer.learning_rate'"),
        ("soundscape.py", ["--config.sed=1"], "nearest known key is 'seed'"),
        ("soundscape.py", ["--seed=1"], "overrides look like --config.seed=1"),
        ("soundscape.py", ["--config.seed=x"], "cannot read an override: .*config.seed"),
        ("soundscape.py:statc", [], "unknown variant 'statc'; expected one of info_nce"),
        ("soundscap.py", [], "there is no recipe"),
        ("soundscape.py", ["--config.loss.base=clip"], "expected one of info_nce, siglip"),
        ("soundscape.py", ["--config.batch_size=0"], "batch_size is 0; expected a number above"),
        ("soundscape.py", ["--config.loss.svr.beta=-1"], "beta is -1.0; expected zero or more"),
        (
            "soundscape.py",
            ["--config.audio.heads=5"],
            "audio.dim .* not divisible by audio.heads 5",
        ),
        ("soundscape.py", ["--config.audio.patch_out=1"], "patch_out is 1.0; expected at least 0 "),
        ("soundscape.py", ["--config.audio.seconds=0.1"], "seconds is 0.1; expected at least 0.15"),
        ("soundscape.py", ["--config.remat=all"], "remat is 'all'; expected one of none, dots"),
        ("soundscape.py", ["--config.data.languages=('eng',)"], "data.languages names 'eng'"),
        ("soundscape.py", ["--config.data.languages=()"], "data.languages is empty"),
        ("soundscape.py:info_nce", ["--config.loss.svr.alpha=0.5"], "svr.alpha is set to 0.5, but"),
        ("soundscape.py:static", ["--config.loss.svr.features=row"], "radius = 'dynamic' uses it"),
        ("soundscape.py:dynamic", ["--config.loss.svr.fixed_radius=1"], "radius = 'fixed' uses it"),
        ("soundscape.py", ["--config.temperature.initial_bias=0"], "loss.base = 'siglip' uses it"),
        ("soundscape.py", ["--config.loss.block_size=0"], "block_size is 0; expected None, 'auto'"),
        ("soundscape.py", ["--config.loss.block_size=big"], "block_size is 'big'; expected None"),
        (
            "soundscape.py:dynamic",
            ["--config.loss.block_size=64", "--config.loss.svr.features=row"],
            "features = 'row' needs whole rows",
        ),
        (
            "soundscape.py:dynamic",
            ["--config.loss.block_size=64", "--config.loss.svr.detach=false"],
            "summaries carry no gradient",
        ),
        (
            "soundscape.py",
            ["--config.microbatch_size=5"],
            "microbatch_size is 5; expected None or a divisor of batch_size 32",
        ),
        (
            "soundscape.py:info_nce",
            ["--config.radius_optimizer.learning_rate=1"],
            "radius_optimizer.learning_rate is set to 1.0",
        ),
    ],
)
def test_errors_say_what_to_do(recipe, overrides, message):
    with pytest.raises(ConfigError, match=message) as error:
        read_config(f"{ROOT}/configs/{recipe}", overrides)
    assert "\n" not in str(error.value)


def test_a_field_of_ones_own_is_refused():
    config = default()
    config.loss.svr.radiuss = "static"
    with pytest.raises(
        ConfigError, match=r"unknown config key 'loss.svr.radiuss'; .*'loss.svr.rad"
    ):
        validate(config)


def test_every_conditional_key_exists():
    keys = flatten(default())
    for key in USED:
        assert any(name == key or name.startswith(f"{key}.") for name in keys)


def test_json_round_trip(tmp_path):
    config = default()
    set_variant(config, "siglip_dynamic")
    config.data.languages = LANGUAGES[:2]
    config.loss.block_size = 128
    save(config, tmp_path / "config.json")
    assert flatten(load(tmp_path / "config.json")) == flatten(config)


def test_changed_keys_leave_operation_out():
    old, new = default(), default()
    new.data.workers, new.log_every, new.seed, new.loss.svr.alpha = 0, 1, 5, 2.0
    assert changed_keys(old, new) == ["loss.svr.alpha", "seed"]
