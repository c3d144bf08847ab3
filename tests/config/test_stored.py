"""config.json: what is written is read back; old files lack fields, broken ones are said."""

import json

import pytest

from supclap_jax.config import FIELDS, changed_keys, default, flatten, load, to_json
from supclap_jax.errors import ConfigError
from tests.config.test_fields import SWITCH, assign, changed, other_value

# What else must change where a field has its `other_value`.
WITH = {
    "branch.run": {"branch.step": 5},
    "loss.svr.similarity": {"loss.svr.reference": "runs/reference"},
    "attention": {"compute_dtype": "bfloat16"},
    "audio.saved": {"remat": "full"},
    "data.mixture": {"data.evaluation": "first"},
    "microbatch_size": {"batch_size": 48},
    "pretrained": {"text.tokenizer": "sonar.model"},
    "text.heads": {"text.dim": 48},
    "text.pretrained": {"text.tokenizer": "sonar.model"},
}

EXCLUDED = (
    "loss.svr.similarity",  # by loss.block_size
    "loss.svr.reference",
    "loss.svr.fixed_radius",  # by a dynamic radius
    "loss.svr.direction",  # by loss.svr.shared
    "loss.svr.features",  # by loss.block_size
    "loss.svr.detach",
    "temperature.learned",  # by temperature.minimum
    "audio.frozen",  # by audio.dropout
    "text.frozen",
    "loss.svr.beta",  # by loss.svr.bound
    "audio.pretrained",  # by pretrained
    "text.pretrained",
)


@pytest.mark.parametrize("key", FIELDS)
def test_every_field_comes_back_with_its_type(key, tmp_path):
    """What is loaded takes the default, None of optional fields included, and no other type."""
    field = FIELDS[key]
    values = {key: "siglip" if key == "loss.base" else other_value(key), **WITH.get(key, {})}
    if field.used and not field.used.holds(default()):
        values |= SWITCH[field.used.sentence]
    config = changed(values)
    path = tmp_path / "config.json"
    path.write_text(to_json(config))
    loaded = load(path)
    assert flatten(loaded) == flatten(config)
    assert loaded.is_locked
    with loaded.unlocked():
        assign(loaded, key, field.default)
        assert flatten(loaded)[key] == flatten(default())[key]
        if key != "loss.block_size":
            with pytest.raises((TypeError, ValueError)):
                assign(loaded, key, object())


def test_a_config_with_many_fields_changed_comes_back(tmp_path):
    """All but those that another changed field forbids."""
    values = {key: other_value(key) for key in FIELDS if key not in EXCLUDED}
    values |= {"loss.base": "siglip", "loss.svr.radius": "dynamic", "data.evaluation": "first"}
    values |= {"optimizer.schedule": "wsd", "total_steps": 200, "loss.svr.initial_radius": 0.5}
    values |= {"remat": "full", "microbatch_size": 24}
    config = changed(values)
    path = tmp_path / "config.json"
    path.write_text(to_json(config))
    assert flatten(load(path)) == flatten(config)
    assert changed_keys(default(), config) == sorted(k for k in values if not FIELDS[k].resumable)


def test_fields_that_a_file_lacks_take_their_defaults(tmp_path):
    values = json.loads(to_json(default()))
    values["seed"] = 5
    del values["audio"]["encoder"], values["mesh"], values["microbatch_size"]
    path = tmp_path / "config.json"
    path.write_text(json.dumps(values))
    assert flatten(load(path)) == flatten(default()) | {"seed": 5}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"config.json is not a readable config \(.*\); restore it"),
        ("[1]", "config.json holds no config; restore it"),
        ('"x"', "config.json holds no config; restore it"),
        ('{"sed": 1}', "unknown config key 'sed'; the nearest known key is 'seed'"),
        ('{"loss": {"svr": 3}}', "'loss.svr' is a group of config keys; set one of them"),
        ('{"audio": {"dim": "x"}}', "audio.dim is 'x'; expected a whole number"),
        (
            '{"temperature": {"initial": NaN}}',
            "temperature.initial is nan; expected 0.0001 to",
        ),
        ('{"loss": {"svr": {"alpha": 2.0}}}', "alpha is set to 2.0, but only a run with"),
    ],
)
def test_files_that_hold_no_config_are_said(tmp_path, content, message):
    path = tmp_path / "config.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match=message):
        load(path)


def test_a_file_that_is_not_there_is_said(tmp_path):
    with pytest.raises(ConfigError, match="is not a readable config"):
        load(tmp_path / "config.json")
