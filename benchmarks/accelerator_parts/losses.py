"""Part 2: what the losses cost, value and gradients, and their share of the matrix rate."""

import itertools
from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp

from accelerator_parts.rows import Case, Rows
from accelerator_parts.timing import LEAST_RUNS, matrix_rate, measure, unit_rows
from inputs import recipe
from supclap_jax.losses import siglip, supclap, symmetric_info_nce
from supclap_jax.models.radius import make_radius_model

DIM = 768
BATCHES = (65_536, 32_768, 131_072, 16_384, 262_144, 8_192, 524_288, 4_096, 1_048_576)
TILES = (1024, 2048, 4096, 512)
# Similarity matrices in float32 that the dense form has in memory at a time.
DENSE_MATRICES = {"SigLIP": 4, "InfoNCE": 8, "SupCLAP, static": 6, "SupCLAP, dynamic": 7}


def cases(quick: bool, rows: Rows) -> Iterator[Case]:
    dim, batches, tiles = (64, (128,), (64,)) if quick else (DIM, BATCHES, TILES)
    dtypes = ("bfloat16",) if quick else ("bfloat16", "float32")
    for dtype in dtypes:
        yield Case(
            {"what": "product", "dtype": dtype}, partial(matrix_rate, dtype, 256 if quick else 8192)
        )
    ways = itertools.product(dtypes, batches, LOSSES, (*tiles, "dense"))
    for dtype, batch, loss, tile in sorted(ways, key=_priority):
        if not _fits(loss, batch) if tile == "dense" else tile >= batch:
            continue
        products = (3 if tile == "dense" else 4) * (3 if "SupCLAP" in loss else 1)
        flops = products * 2 * batch**2 * dim
        yield Case(
            {"what": loss, "dtype": dtype, "batch": batch, "tile": tile},
            partial(_loss, rows, loss, dtype, batch, dim, tile, flops),
            partial(_seconds, rows, dtype, flops),
        )


def _priority(way: tuple) -> int:
    """The most telling first; dense forms late, as they raise the peak of memory."""
    dtype, batch, loss, tile = way
    largest_known = batch == BATCHES[0]
    if tile == "dense":
        return 5
    if dtype == "bfloat16" and loss in ("SigLIP", "InfoNCE"):
        return 1 if largest_known else 2 if tile in TILES[:2] else 6
    if largest_known:
        return 3 if dtype == "bfloat16" else 4
    return 6


def _fits(loss: str, batch: int) -> bool:
    limit = (jax.devices()[0].memory_stats() or {}).get("bytes_limit", 8 * 2**30)
    return DENSE_MATRICES[loss] * 4 * batch**2 < limit


def _seconds(rows: Rows, dtype: str, flops: int) -> float:
    """Of compilation and all runs, at a third of the matrix rate."""
    rate = rows.find(what="product", dtype=dtype)
    return 4 + (LEAST_RUNS + 2) * 3 * flops / (1e12 * rate["tflops"] if rate else 1e12)


def _loss(rows: Rows, loss: str, dtype: str, batch: int, dim: int, tile, flops: int) -> dict:
    function, parameters = LOSSES[loss]()
    audio, text = unit_rows(batch, dim, dtype)
    tiled = partial(function, block_size=None if tile == "dense" else tile)
    figures = measure(jax.value_and_grad(tiled, argnums=(0, 1, 2)), audio, text, parameters)
    reached = flops / figures["ms"] / 1e9
    rate = rows.find(what="product", dtype=dtype)
    share = reached / rate["tflops"] if rate else None
    return figures | {"tflops": reached, "share of product": share}


def _siglip():
    parameters = {"scale": jnp.float32(10.0), "bias": jnp.float32(-10.0)}
    return lambda a, t, p, **options: siglip(a, t, p["scale"], p["bias"], **options), parameters


def _info_nce():
    return symmetric_info_nce, jnp.float32(1 / 0.07)


def _static():
    def loss(audio, text, parameters, **options):
        scale, radius = parameters["scale"], parameters["radius"]
        return supclap(audio, text, scale, audio_radius=radius, text_radius=radius, **options)[0]

    return loss, {"scale": jnp.float32(1 / 0.07), "radius": jnp.float32(0.3)}


def _dynamic():
    model = make_radius_model(recipe("audiocaps", "dynamic"))

    def loss(audio, text, parameters, **options):
        radii = partial(model.apply, {"params": parameters["radius"]})
        return supclap(audio, text, parameters["scale"], predict_radii=radii, **options)[0]

    radius = model.init(jax.random.key(0), jnp.zeros((4, 4)))["params"]
    return loss, {"scale": jnp.float32(1 / 0.07), "radius": radius}


# Each: a function of audio, text and parameters, and the parameters.
LOSSES = {
    "SigLIP": _siglip,
    "InfoNCE": _info_nce,
    "SupCLAP, static": _static,
    "SupCLAP, dynamic": _dynamic,
}
