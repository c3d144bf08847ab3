"""The loss of a config: a function of the user's own, and its errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from supclap_jax.errors import ConfigError
from supclap_jax.losses import contract, intra_modal, supclap
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


@pytest.mark.parametrize("block_size", [None, 3])
def test_contraction_and_intra_modal_are_what_their_functions_say(block_size):
    """On 8 devices in tiles as dense; the value as without contraction, its gradient contracted."""
    config = tiny.get_config("static")
    config.loss.update(contraction=0.5, intra_modal=0.3, reduction="sum", block_size=block_size)
    config.loss.svr.bound = "distance"
    config.mesh.data = 8 if block_size else 1
    audio, text, scale = (jnp.asarray(x, jnp.float32) for x in problem(0)[:3])
    ids, logits = jnp.asarray(some_ids(0)), {"audio": jnp.float32(-0.4), "text": jnp.float32(0.2)}
    loss = make_loss(config, make_mesh(config.mesh.data, config.batch_size))
    (value, (metrics, pulls)), found = jax.value_and_grad(loss, argnums=(0, 1, 2, 5), has_aux=True)(
        audio, text, scale, None, ids, logits
    )

    def plain(audio, text, scale, logits):
        radii = {f"{side}_radius": jax.nn.sigmoid(x) for side, x in logits.items()}
        options = {"bound": "distance", "over_directions": "sum", "ids": ids}
        total, (_, pulls) = supclap(audio, text, scale, pulls=True, **radii, **options)
        return total + 0.3 * intra_modal(audio, text, scale, ids=ids), pulls

    of_plain = jax.value_and_grad(plain, argnums=(0, 1, 2, 3), has_aux=True)
    (expected, pulls_of_plain), gradients = of_plain(audio, text, scale, logits)
    assert value == metrics["loss"]
    assert float(value) == pytest.approx(float(expected), rel=1e-5)
    within = float(intra_modal(audio, text, scale, ids=ids))
    assert float(metrics["loss/intra_modal"]) == pytest.approx(within, rel=1e-5)
    for side, (one, other) in enumerate(((audio, text), (text, audio))):
        _, back = jax.vjp(lambda x, other=other: contract(x, other, 0.5), one)
        np.testing.assert_allclose(found[side], back(gradients[side])[0], atol=2e-6)
    for side, way in (("audio", text - audio), ("text", audio - text)):
        u = np.asarray(way, np.float64) / np.linalg.norm(way, axis=1, keepdims=True)
        along = np.sum(pulls_of_plain[side] * u, axis=1, keepdims=True) * u
        halved = along + 0.5 * (pulls_of_plain[side] - along)
        np.testing.assert_allclose(pulls[side], halved, atol=2e-6)
    assert float(found[2]) == pytest.approx(float(gradients[2]), rel=1e-4)
    for side in logits:
        assert float(found[3][side]) == pytest.approx(float(gradients[3][side]), rel=1e-4)


def test_tiles_need_an_object():
    config = tiny.get_config("info_nce")
    config.loss.base, config.loss.block_size = DECOUPLED, 4
    with pytest.raises(ConfigError, match=r"loss\.block_size is 4, but .* tiles need a loss"):
        make_loss(config, make_mesh(config.mesh.data, config.batch_size))
