"""Recipes and overrides: kept as golden text, and refused in one line where they are wrong."""

import json
import os
import sys
from pathlib import Path

import pytest

from supclap_jax.config import FIELDS, VARIANTS, flatten, read_config
from supclap_jax.config.named_objects import resolve
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


@pytest.mark.parametrize("recipe", ["audiocaps", "clotho"])
@pytest.mark.parametrize("variant", ["paper", *(f"paper_{name}" for name in VARIANTS)])
def test_the_papers_set_up(recipe, variant):
    """As the sources say (batch 24, Adam at 5e-5, no schedule, 0.07 fixed, sums)."""
    config = read_config(f"{recipe}:{variant}", [])
    base, radius = VARIANTS[variant.removeprefix("paper").removeprefix("_") or "dynamic"]
    assert (config.loss.base, config.loss.svr.radius) == (base, radius)
    assert (config.batch_size, config.loss.reduction) == (24, "sum")
    clips = {"audiocaps": 49_838, "clotho": 3_839}[recipe]
    assert config.total_steps == 10 * clips // 24
    assert not config.temperature.learned
    if base == "info_nce":
        assert config.temperature.initial == 0.07
    for optimizer in [config.optimizer] + [config.radius_optimizer] * (radius != "none"):
        assert (optimizer.learning_rate, optimizer.warmup_steps) == (5e-5, 0)
        assert optimizer.weight_decay == 0
    assert config.optimizer.schedule == "constant"
    assert config.loss.svr.alpha == 1
    if radius == "dynamic":
        assert (config.loss.svr.beta, config.loss.svr.features) == (0.01, "row")
    if radius == "static":
        assert config.loss.svr.beta == 0
    assert config.loss.svr.direction == "both"
    assert config.optimizer.clip_norm >= 1e6
    assert config.pretrained and config.text.tokenizer and config.text.vocab_size == 256_000


def test_what_only_looks_like_the_papers_set_up_is_refused():
    with pytest.raises(ConfigError, match="unknown variant 'paperstatic'"):
        read_config("audiocaps:paperstatic", [])


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
        ("nothing.txt", [], "there is no recipe"),
        ("soundscape.py", ["--config.loss.base=clip"], "expected one of info_nce, siglip"),
        (
            "soundscape.py",
            ["--config.batch_size=0"],
            "batch_size is 0; expected a whole number, 1 to",
        ),
        ("soundscape.py", ["--config.loss.svr.beta=-1"], "beta is -1.0; expected 0 to 1,000,000"),
        ("soundscape.py", ["--config.audio.patch_out=1"], "patch_out is 1.0; expected at least 0 "),
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


def test_included_recipes_are_named_where_one_is_missing():
    with pytest.raises(ConfigError, match=r"'soundscap'; .* audiocaps, clotho, .* come with"):
        read_config("soundscap:static", [])


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """Writes a recipe into a folder of its own; returns its path. Python's path is put back."""
    monkeypatch.setattr(sys, "path", [*sys.path])

    def write(text):
        path = tmp_path / "recipe.py"
        path.write_text(text)
        return str(path)

    return write


OPTIONAL = [key for key, field in FIELDS.items() if field.default is None]


@pytest.mark.parametrize("key", OPTIONAL)
def test_optional_fields_take_none_and_the_last_override_counts(key):
    pretrain = f"{ROOT}/configs/pretrain.py"
    set_by_it = flatten(read_config(pretrain, []))[key]
    assert (set_by_it is None) == (key == "mesh.slices")
    for values in (["None"], ["1024", "None"], ["None", "512", "1024"]):
        overrides = [f"--config.{key}={value}" for value in values]
        config = read_config(pretrain, [*overrides, "--config.gradient_cache=True"])
        assert flatten(config)[key] == (None if values[-1] == "None" else 1024)


def test_optional_fields_are_there():
    assert set(OPTIONAL) == {"microbatch_size", "loss.block_size", "mesh.slices"}


def test_the_last_override_counts_for_tuples_too():
    overrides = [f"--config.data.languages=('{name}',)" for name in ("fra_Latn", "deu_Latn")]
    config = read_config(f"{ROOT}/configs/soundscape.py", overrides)
    assert config.data.languages == ("deu_Latn",)


def test_a_recipe_finds_the_modules_beside_it(recipe, tmp_path):
    """In its own imports, and where a field names them; they hide nothing that was there before."""
    (tmp_path / "losses_of_mine.py").write_text("def contrast(query, key, scale): ...\nSTEPS = 7\n")
    (tmp_path / "json.py").write_text("raise RuntimeError")
    config = read_config(
        recipe(
            "import json\n"
            "from losses_of_mine import STEPS\n"
            "from supclap_jax.config import default\n"
            "def get_config():\n"
            "    config = default()\n"
            "    config.total_steps = STEPS\n"
            "    return config\n"
        ),
        ["--config.loss.base=losses_of_mine:contrast"],
    )
    assert (config.total_steps, config.loss.base) == (7, "losses_of_mine:contrast")
    assert resolve("loss.base", config.loss.base).__code__.co_filename.startswith(str(tmp_path))


BEGIN = "from supclap_jax.config import default\ndef get_config():\n    config = default()\n"


def test_a_field_that_a_recipe_takes_away_cannot_be_set(recipe):
    text = f"{BEGIN}    del config.seed\n    return config\n"
    with pytest.raises(ConfigError, match="config key 'seed' is missing"):
        read_config(recipe(text), ["--config.seed=1"])


SET = f"{BEGIN}    config"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{SET}.loss.svr.radiuss = 'static'\n    return config", "'loss.svr.radius'"),
        (f"{SET}.audio.update(dmi=3)\n    return config", "recipe.py, line 4: .*'audio.dim'"),
        (f"{SET}.optimizer = None\n    return config", "line 4: 'optimizer' is a group"),
        (f"{SET}.nosuch = 1\n    return config", "'nosuch'; 'supclap config' lists all"),
        (f"{BEGIN}    raise ValueError('x ' * 999)\n", r"ValueError: [x ]{,300}\.\.\.$"),
        (f"{BEGIN}    config.seed = 'x'\n", "recipe.py, line 4 fails: TypeError"),
        (f"{BEGIN}    config.audoi.dim = 3\n", "recipe.py, line 4 fails: AttributeError: .*audoi"),
        (f"{BEGIN}    return 1 / 0\n", "recipe.py, line 4 fails: ZeroDivisionError: division"),
        (f"{BEGIN}    raise ValueError('two\\nlines')\n", "line 4 fails: ValueError: two lines"),
        (f"{BEGIN}    return config\n)", "recipe.py, line 5 fails: SyntaxError: unmatched"),
        ("\nimport no_such_module", "recipe.py, line 2 fails: ModuleNotFoundError"),
        ("import json\njson.loads('{')", "recipe.py, line 2 fails: JSONDecodeError"),
        ("config = 3", "recipe .*recipe.py has no function get_config"),
        ("import sys\nsys.exit(0)", "recipe.py, line 2 fails: SystemExit"),
        (f"{BEGIN}    return None\n", "recipe.py returned a NoneType; expected"),
        ("def get_config(): return {}", "recipe.py returned a dict; expected"),
        ("from supclap_jax.config import *\nset_variant(default(), 'x')", "^unknown variant 'x'"),
    ],
)
def test_a_recipe_that_fails_is_one_line(recipe, text, message):
    with pytest.raises(ConfigError, match=message) as error:
        read_config(recipe(text), [])
    assert "\n" not in str(error.value)


def test_an_argument_that_a_recipe_does_not_take_is_said(recipe):
    with pytest.raises(ConfigError, match=r"recipe.py fails: TypeError: get_config\(\) takes 0"):
        read_config(recipe(f"{BEGIN}    return config\n") + ":static", [])
