"""The table of fields: every one is checked, said to be unused where it is, and documented."""

import math
import os
from pathlib import Path

import pytest

from supclap_jax.config import FIELDS, changed_keys, default, flatten, validate
from supclap_jax.config.checks import Choice, Number
from supclap_jax.config.reference import SECTIONS
from supclap_jax.errors import ConfigError

RESUMABLE = Path(__file__).parents[1] / "golden" / "resumable_keys.txt"
# How to make conditions hold, or not, that are otherwise with the defaults.
SWITCH = {
    "loss.svr.radius other than 'none'": {"loss.svr.radius": "fixed"},
    "loss.svr.radius other than 'none' and loss.svr.bound = 'none'": {"loss.svr.radius": "fixed"},
    "loss.svr.radius = 'fixed'": {"loss.svr.radius": "fixed"},
    "loss.svr.radius = 'static' or 'dynamic'": {"loss.svr.radius": "static"},
    "loss.svr.radius = 'static' or 'dynamic' and loss.svr.direction = 'both'": {
        "loss.svr.radius": "static"
    },
    "loss.svr.radius = 'dynamic'": {"loss.svr.radius": "dynamic"},
    "loss.svr.radius = 'dynamic' and loss.svr.similarity = 'offline'": {
        "loss.svr.radius": "dynamic",
        "loss.svr.similarity": "offline",
        "loss.svr.reference": "runs/reference",
    },
    "a bias, such as loss.base = 'siglip'": {"loss.base": "siglip"},
    "temperature.learned = True": {"temperature.learned": False},
    "audio.frozen = False": {"audio.frozen": True},
    "text.frozen = False": {"text.frozen": True},
    "audio.frozen = False or text.frozen = False": {"audio.frozen": True, "text.frozen": True},
    "audio.time_masks above zero": {"audio.time_masks": 2},
    "audio.freq_masks above zero": {"audio.freq_masks": 2},
    "data.mixture": {"data.mixture": {"first": 1, "second": 0.5}, "data.evaluation": "first"},
    "microbatch_size": {"microbatch_size": 12},
    "remat = 'full'": {"remat": "full"},
    "ema_decay above zero": {"ema_decay": 0.99},
    "profile.steps above zero": {"profile.steps": 3},
    "optimizer.schedule = 'wsd'": {"optimizer.schedule": "wsd"},
    "branch.run": {"branch.run": "runs/trunk", "branch.step": 5},
}
CONDITIONAL = [key for key, field in FIELDS.items() if field.used]
# Values of which every field, whatever its default, takes one.
VALUES = (
    48,
    24,
    0.5,
    0.25,
    True,
    False,
    {"first": 1},
    (0.5,),
    (3, 9),
    ("fra_Latn",),
    ("qkv", "hidden"),
    "mine:Own",
    "word",
)
BAD = [
    ("seed", -1),
    ("seed", 2**32),
    ("total_steps", 0),
    ("batch_size", 2.0),
    ("batch_size", True),
    ("microbatch_size", 0),
    ("microbatch_size", 4.0),
    ("microbatch_size", "all"),
    ("loss.base", "clip"),
    ("loss.base", "mine:"),
    ("loss.base", ":loss"),
    ("loss.base", "my losses:one"),
    ("loss.block_size", "big"),
    ("loss.block_size", True),
    ("loss.block_size", -64),
    ("loss.svr.alpha", math.inf),
    ("loss.svr.beta", -1.0),
    ("loss.svr.fixed_radius", math.nan),
    ("loss.svr.fixed_radius", -0.1),
    ("loss.svr.initial_radius", math.inf),
    ("loss.svr.shared", 1),
    ("temperature.initial", 0.0),
    ("temperature.initial", math.inf),
    ("temperature.initial_bias", math.nan),
    ("temperature.learned", "yes"),
    ("audio.encoder", ""),
    ("audio.encoder", "two words"),
    ("audio.dim", 10**400),
    ("audio.dropout", 1.0),
    ("audio.time_masks", -1),
    ("audio.freq_masks", -1),
    ("audio.freq_masks", 1.5),
    ("audio.time_mask_frames", 0),
    ("audio.freq_mask_bins", 0),
    ("audio.seconds", 0.0),
    ("audio.saved", "qkv"),
    ("audio.saved", ("qkv", "qkv")),
    ("text.offloaded", ("scores",)),
    ("audio.target_length", 0),
    ("audio.pretrained", None),
    ("text.max_tokens", 1),
    ("text.max_tokens", 2),
    ("text.encoder", 3),
    ("optimizer.warmup_steps", -1),
    ("optimizer.schedule", "linear"),
    ("optimizer.decay_steps", 0),
    ("optimizer.scale.audio", -1.0),
    ("optimizer.scale.temperature", math.nan),
    ("optimizer.layer_decay", 0.0),
    ("ema_decay", 1.0),
    ("data.mixture", {"first": math.nan}),
    ("data.mixture", {"first": 0}),
    ("data.mixture", {"first": True}),
    ("data.mixture", {"sets/first": 1}),
    ("data.mixture", {"": 1}),
    ("data.buckets", (2.0, 1.0)),
    ("data.buckets", (2.0, 2.0)),
    ("data.buckets", (0.1, 2.0)),
    ("data.buckets", (math.nan,)),
    ("data.buckets", ("2",)),
    ("data.buckets", 2.0),
    ("keep_steps", (0, 2)),
    ("keep_steps", (1.5,)),
    ("data.languages", ()),
    ("data.languages", "eng_Latn"),
    ("data.languages", ("eng",)),
    ("data.gain_db", -3.0),
    ("data.gain_db", math.inf),
    ("mesh.data", 0),
    ("mesh.data", -1.0),
    ("mesh.fsdp", -2),
]


def changed(values):
    """The defaults with other values, whatever their types."""
    config = default()
    with config.ignore_type():
        for key, value in values.items():
            assign(config, key, value)
    return config


def assign(config, key, value):
    *sections, name = key.split(".")
    for section in sections:
        config = config[section]
    config[name] = value


def other_value(key):
    """One that the field's check lets pass, and that is not its default."""
    field = FIELDS[key]
    candidates = field.check.options if isinstance(field.check, Choice) else VALUES
    return next(v for v in candidates if v != field.default and not field.check.problem(v))


def strange_values(check):
    """Values outside a check's type or bounds."""
    yield from (math.nan, math.inf, -math.inf, object(), [None], {1: 2})
    if isinstance(check, Number):
        yield from ("1", None, True, 10**400)
        for least in {check.least, check.above} - {None}:
            yield least - 1
        for most in {check.most, check.below} - {None}:
            yield most + 1
        yield from {check.above, check.below} - {None}
        if check.type is int:
            yield check.least + 1.0
    else:
        yield from (-2, 0.1)
    if isinstance(check, Choice):
        yield from ("", None, check.options)


def test_the_defaults_pass():
    validate(default())


@pytest.mark.parametrize("key", FIELDS)
def test_every_field_is_checked(key):
    field = FIELDS[key]
    assert field.check.problem(field.default) is None
    assert field.check.problem(other_value(key)) is None
    for value in strange_values(field.check):
        assert field.check.problem(value), value


@pytest.mark.parametrize(("key", "value"), BAD)
def test_bad_values_are_refused_by_their_key(key, value):
    with pytest.raises(ConfigError, match=rf"^{key} (is|names|gives) ") as error:
        validate(changed({key: value}))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("key", CONDITIONAL)
def test_a_field_that_is_not_used_must_keep_its_default(key):
    sentence = FIELDS[key].used.sentence
    off, on = {}, SWITCH[sentence]
    if FIELDS[key].used.holds(default()):
        off, on = on, off
    other = other_value(key)
    with_it = {"loss.svr.reference": "runs/reference"} if key == "loss.svr.similarity" else {}
    validate(changed({**on, key: other, **with_it}))
    config = changed({**off, key: other})
    with pytest.raises(ConfigError) as error:
        validate(config)
    told = f"{key} is set to {flatten(config)[key]!r}, but only a run with {sentence} uses it"
    assert str(error.value).startswith(told)


def test_a_field_of_ones_own_or_none_is_said():
    config = default()
    config.loss.svr.radiuss = "static"
    with pytest.raises(
        ConfigError, match=r"unknown config key 'loss.svr.radiuss'; .*'loss.svr.rad"
    ):
        validate(config)
    config = default()
    del config.audio.dim
    with pytest.raises(ConfigError, match=r"config key 'audio.dim' is missing; its default is 768"):
        validate(config)


def test_what_a_resumed_run_may_change_is_as_reviewed():
    """UPDATE_GOLDEN=1 rewrites the file."""
    keys = "".join(f"{key}\n" for key in sorted(FIELDS) if FIELDS[key].resumable)
    if os.environ.get("UPDATE_GOLDEN"):
        RESUMABLE.write_text(keys)
    assert keys == RESUMABLE.read_text()


@pytest.mark.parametrize("key", FIELDS)
def test_a_changed_field_shows_unless_a_resumed_run_may_change_it(key):
    new = changed({key: other_value(key)})
    assert changed_keys(default(), new) == ([] if FIELDS[key].resumable else [key])


def test_every_field_has_a_section_and_a_key_of_its_own():
    assert {key.rpartition(".")[0] for key in FIELDS} == set(SECTIONS)
    assert set(flatten(default())) == set(FIELDS)
