"""The whole objective, dense, in tiles and on rings, against its plain reading in float64."""

from functools import cache, partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from supclap_jax.losses import sharded, supclap
from tests.losses import reference
from tests.losses.problems import in_float32, in_float64, make_mesh, problem, some_ids

pytestmark = pytest.mark.slow

WEIGHTS = jnp.linspace(-0.02, 0.03, 8)
ALPHA, BETA = 0.7, 0.05

# Base, same_id (None: no ids), direction, whether the radii are predicted; further options.
INFO_NCE = ("info_nce", None, "both", False)
INFO_NCE_POSITIVE = ("info_nce", "positive", "both", True)
INFO_NCE_IGNORE = ("info_nce", "ignore", "text_to_audio", True)
SIGLIP_POSITIVE = ("siglip", "positive", "both", False)
SIGLIP_IGNORE = ("siglip", "ignore", "audio_to_text", True)
SHARES = ("info_nce", "positive", "both", False, ("bound", "distance"))
PREDICTED_SHARES = ("siglip", None, "both", True, ("bound", "distance"), ("over_directions", "sum"))
SUM_OF_ONE = ("info_nce", None, "text_to_audio", False, ("over_directions", "sum"))

# Objective, block_size, devices (0: no mesh), dtype.
CASES = [
    (INFO_NCE, None, 0, "float64"),
    (INFO_NCE, 5, 0, "float32"),
    (INFO_NCE, None, 8, "float32"),
    (INFO_NCE_POSITIVE, None, 0, "float64"),
    (INFO_NCE_POSITIVE, "auto", 0, "float32"),
    (INFO_NCE_POSITIVE, 2, 4, "float32"),
    (INFO_NCE_IGNORE, None, 0, "float32"),
    (INFO_NCE_IGNORE, 8, 1, "float64"),
    (SIGLIP_POSITIVE, None, 0, "float64"),
    (SIGLIP_POSITIVE, 8, 2, "float32"),
    (SIGLIP_IGNORE, 4, 0, "float64"),
    (SIGLIP_IGNORE, 1, 8, "float32"),
    (SHARES, None, 0, "float64"),
    (SHARES, 5, 0, "float64"),
    (SHARES, 2, 8, "float32"),
    (PREDICTED_SHARES, None, 0, "float64"),
    (PREDICTED_SHARES, 4, 4, "float32"),
    (SUM_OF_ONE, None, 0, "float64"),
    (SUM_OF_ONE, 3, 8, "float32"),
]


def radii_of(objective, audio_radius, text_radius):
    """The radii by side, or what predicts them: an offset for each pair and a weighted summary."""
    radii = {"audio": audio_radius, "text": text_radius}
    if not objective[3]:
        return radii
    return lambda summaries: {side: radii[side] + x @ WEIGHTS for side, x in summaries.items()}


@cache
def expected(objective):
    """`((loss, parts), gradients), pulls` of the plain reading, jitted."""
    base, same_id, direction, _, *more = objective
    options = {"base": base, "same_id": same_id or "positive"} | dict(more)
    options |= {"direction": direction, "alpha": ALPHA, "beta": BETA}

    def loss(ids, audio, text, scale, bias, audio_radius, text_radius, function):
        radii = radii_of(objective, audio_radius, text_radius)
        bias = bias if base == "siglip" else 0.0
        ids = ids if same_id else None
        return function(audio, text, scale, radii, bias=bias, ids=ids, **options)

    of_objective = partial(loss, function=reference.objective)
    gradient = jax.value_and_grad(of_objective, argnums=range(1, 7), has_aux=True)
    return jax.jit(lambda *args: (gradient(*args), loss(*args, function=reference.pulls)))


@cache
def actual(objective, block_size, devices):
    """`(loss, (metrics, pulls)), gradients` of `supclap`, jitted."""
    base, same_id, direction, predicted, *more = objective
    options = {"base": base, "block_size": block_size, "pulls": True} | dict(more)
    options |= {"direction": direction, "alpha": ALPHA, "beta": BETA}
    options |= {"same_id": same_id} if same_id else {}

    def loss(ids, audio, text, scale, bias, audio_radius, text_radius, **placement):
        def named(radii):
            return {f"{side}_radius": radius for side, radius in radii.items()}

        radii = radii_of(objective, audio_radius, text_radius)
        given = {"predict_radii": lambda x: named(radii(x))} if predicted else named(radii)
        bias = bias if base == "siglip" else None
        ids = ids if same_id else None
        return supclap(
            audio, text, scale, logit_bias=bias, ids=ids, **given, **options, **placement
        )

    if devices:
        out_specs = (PartitionSpec(), (PartitionSpec(), PartitionSpec("data")))
        loss = sharded(loss, make_mesh((devices,)), out_specs=out_specs)
    return jax.jit(jax.value_and_grad(loss, argnums=range(1, 7), has_aux=True))


def recall(scores, ids):
    """In-batch recall at 1 of the rows in percent, ties as misses."""
    same = ids[:, None] == ids[None, :]
    return 100 * np.mean(np.where(same, scores, -2).max(1) > np.where(same, -2, scores).max(1))


@pytest.mark.parametrize(("objective", "block_size", "devices", "dtype"), CASES)
def test_matches_the_plain_reading(objective, block_size, devices, dtype):
    run, error = (in_float64, 1e-10) if dtype == "float64" else (in_float32, 1e-5)
    for seed, scale, radius in ((0, 14.0, 0.3), (1, 3.0, 1.0), (2, 40.0, 0.1)):
        ids, arguments = some_ids(seed), problem(seed, scale=scale, radius=radius)
        ((loss, parts), gradients), pulls = in_float64(expected(objective), (ids, *arguments))
        (value, (metrics, found)), by_argument = run(
            actual(objective, block_size, devices), (ids, *arguments)
        )
        assert value.dtype == dtype
        assert metrics["loss"] == value
        assert value == pytest.approx(loss, rel=error)
        for name, part in parts.items():
            assert metrics[f"loss/{name}"] == pytest.approx(part, rel=error, abs=error), name
        for gradient, other in zip(by_argument, gradients, strict=True):
            size = max(np.max(np.abs(other)), 1e-2 if np.ndim(other) == 0 else 0)
            np.testing.assert_allclose(gradient, other, rtol=0, atol=error * size)
        for side, pull in pulls.items():
            size = error * np.max(np.abs(pull))
            np.testing.assert_allclose(found[side], pull, rtol=0, atol=size, err_msg=side)
        audio, text = arguments[:2]
        ids = ids if objective[1] else np.arange(len(ids))
        assert metrics["R@1/audio_to_text"] == pytest.approx(recall(audio @ text.T, ids))
        assert metrics["R@1/text_to_audio"] == pytest.approx(recall(text @ audio.T, ids))


def test_the_documentation_shows_the_plain_reading():
    root = Path(__file__).parents[2]
    code = (root / "tests" / "losses" / "reference.py").read_text()
    assert f"```python\n{code}```\n" in (root / "docs" / "method.md").read_text()
