"""The loss of a config: a function of the user's own, and its errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from supclap_jax.errors import ConfigError
from supclap_jax.losses import supclap
from supclap_jax.runs.mesh import make_mesh
from supclap_jax.train.step import make_loss
from tests import tiny
from tests.losses.decoupled import decoupled
from tests.losses.problems import problem, some_ids

DECOUPLED = "tests.losses.decoupled:decoupled"


@pytest.mark.parametrize(("variant", "radius"), [("info_nce", None), ("static", 0.25)])
def test_a_function_of_the_users_own(variant, radius):
    config = tiny.get_config(variant)
    config.loss.base = DECOUPLED
    params = {}
    if radius is not None:
        params = {side: jnp.float32(radius) for side in ("audio", "text")}
    audio, text, scale = (jnp.asarray(x, jnp.float32) for x in problem(0)[:3])
    loss = make_loss(config, make_mesh(config.mesh.data, config.batch_size))
    found = loss(audio, text, scale, None, some_ids(0), params)
    radii = {"audio_radius": radius, "text_radius": radius}
    expected = supclap(audio, text, scale, base=decoupled, ids=some_ids(0), pulls=True, **radii)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), found, expected)


def test_tiles_need_an_object():
    config = tiny.get_config("info_nce")
    config.loss.base, config.loss.block_size = DECOUPLED, 4
    with pytest.raises(ConfigError, match=r"loss\.block_size is 4, but .* tiles need a loss"):
        make_loss(config, make_mesh(config.mesh.data, config.batch_size))
