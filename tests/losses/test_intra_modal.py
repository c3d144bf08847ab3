"""InfoNCE within each modality, dense, in tiles and over devices, against a loop in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from supclap_jax.losses import intra_modal, sharded
from tests.losses.problems import make_mesh, problem, some_ids


def plain(audio, text, scale, ids, same_id):
    total = 0
    for x in (audio, text):
        logits = scale * x @ x.T
        for i in range(len(x)):
            same = ids == ids[i]
            kept = np.ones(len(x), bool)
            if same_id == "ignore":
                kept = ~same
                kept[i] = True
                same = np.arange(len(x)) == i
            total += np.log(np.sum(np.exp(logits[i, kept]))) - logits[i, same].mean()
    return total / (2 * len(audio))


@pytest.mark.parametrize("same_id", ["positive", "ignore"])
@pytest.mark.parametrize(("block_size", "devices"), [(None, 0), (5, 0), (None, 8), (2, 4)])
def test_matches_a_loop(same_id, block_size, devices):
    audio, text, scale, *_ = problem(3)
    ids = some_ids(3)

    def loss(audio, text, scale, ids, **placement):
        options = {"same_id": same_id, "block_size": block_size}
        return intra_modal(audio, text, scale, ids=ids, **options, **placement)

    if devices:
        loss = sharded(loss, make_mesh((devices,)), out_specs=P())
    with jax.enable_x64(True):
        arguments = [jnp.asarray(x) for x in (audio, text, scale, ids)]
        value, gradients = jax.value_and_grad(loss, argnums=(0, 1, 2))(*arguments)
        assert value == pytest.approx(plain(audio, text, scale, ids, same_id), rel=1e-10)
        step = 1e-6
        way = np.random.default_rng(0).normal(size=audio.shape)
        moved = [plain(audio + s * step * way, text, scale, ids, same_id) for s in (1, -1)]
        slope = (moved[0] - moved[1]) / (2 * step)
        assert np.sum(gradients[0] * way) == pytest.approx(slope, rel=1e-6)
        moved = [plain(audio, text, scale + s * step, ids, same_id) for s in (1, -1)]
        assert gradients[2] == pytest.approx((moved[0] - moved[1]) / (2 * step), rel=1e-5)
