"""The programs in docs/extend.md and docs/losses.md are what they say."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from supclap_jax.models.encoder import AudioEncoder
from tests import tiny

DOCS = Path(__file__).parents[1] / "docs"


def program(name):
    """The names that the Python block beginning with `name` defines."""
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "extend.md").read_text(), re.S)
    (block,) = (block for block in blocks if block.startswith(f'"""{name}'))
    found = {}
    exec(compile(block, name, "exec"), found)
    return found


def test_the_loss_is_the_decoupled_one():
    rng = np.random.default_rng(0)
    query, key = rng.normal(size=(2, 5, 3)).astype(np.float32)
    scores = 7.0 * query.astype(np.float64) @ key.astype(np.float64).T
    expected = [np.log(np.exp(np.delete(scores[i], i)).sum()) - scores[i, i] for i in range(5)]
    loss = program("my_losses.py")["decoupled"](jnp.asarray(query), jnp.asarray(key), 7.0)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_the_encoder_embeds_clips_whatever_their_padding():
    encoder = program("my_encoders.py")["Conv"]()
    assert isinstance(encoder, AudioEncoder)
    config = tiny.get_config()
    config.audio.dim = 4
    module = encoder.module(config)
    clips = jax.random.normal(jax.random.key(0), (2, 1600))
    padded = jnp.pad(clips, ((0, 0), (0, 800)), constant_values=9.0)
    lengths = jnp.array([1600, 1600])
    features = encoder.frontend(clips, None)
    variables = module.init(jax.random.key(1), *features)
    alone = module.apply(variables, *features)
    assert alone.shape == (2, 4)
    in_company = module.apply(variables, *encoder.frontend(padded, lengths))
    np.testing.assert_allclose(in_company, alone, rtol=1e-5)


def test_the_recipe_is_one():
    config = program("my_recipe.py")["get_config"]()
    assert config.audio.encoder == "my_encoders:Conv"


LEARN_A_SCALE = {  # whose gradients are, or hold, that of the temperature's logarithm
    "A mesh, and memory linear in the batch",
    "Inside your own shard_map",
    "pmap, or check_vma=False",
    "A large batch at a microbatch's memory: the gradient cache",
}


def recipes():
    """Of docs/losses.md: what all begin with, and each by its heading."""
    begin, *sections = (DOCS / "losses.md").read_text().split("\n## ")
    blocks = {text.partition("\n")[0]: text for text in sections}
    find = re.compile(r"```python\n(.*?)```", re.S)
    return find.search(begin)[1], {name: find.search(text)[1] for name, text in blocks.items()}


@pytest.mark.parametrize("name", recipes()[1])
def test_recipes_of_losses_give_the_loss(name):
    """All of them that of the same pairs, against numpy in float64; at most 25 lines each."""
    start, programs = recipes()
    assert len([line for line in programs[name].splitlines() if line]) <= 25
    if name in ("Equinox", "Haiku"):
        pytest.importorskip(name.lower())
    found = {}
    exec(compile(start + programs[name], name, "exec"), found)
    audio, text = (np.asarray(found[x], np.float64) for x in ("clips", "captions"))
    audio, text = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (audio, text))

    def expected(log_scale):
        if "queue" in found:
            keys = np.concatenate([text, np.asarray(found["queue"], np.float64)])
            scores = np.exp(log_scale) * audio @ keys.T
            return np.mean(np.log(np.exp(scores).sum(1)) - np.diagonal(scores))
        scores = np.exp(log_scale) * audio @ text.T
        if "siglip" in programs[name]:
            signs = 2 * np.eye(16) - 1
            return np.log1p(np.exp(-signs * (scores - 10.0))).sum() / 16
        own = np.diagonal(scores)
        return np.mean([np.log(np.exp(scores).sum(axis)) - own for axis in (0, 1)])

    assert float(found["loss"]) == pytest.approx(expected(np.log(10.0)), rel=1e-5)
    gradients = found.get("gradients", {})
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
    if name in LEARN_A_SCALE:
        of_scale = gradients["log_scale"] if isinstance(gradients, dict) else gradients
        slope = expected(np.log(10.0) + 1e-5) - expected(np.log(10.0) - 1e-5)
        assert float(of_scale) == pytest.approx(slope / 2e-5, rel=1e-4)
