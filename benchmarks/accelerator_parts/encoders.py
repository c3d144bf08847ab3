"""Part 3: encoders and whole training steps in bfloat16: time, memory, share of the matrix rate."""

import itertools
import statistics
import time
from collections.abc import Iterator
from functools import partial

import jax
import numpy as np

from accelerator_parts.rows import Case, OutOfMemory, Rows
from accelerator_parts.timing import (
    LEAST_RUNS,
    matrix_rate,
    measure,
    out_of_memory,
    planned_mib,
)
from inputs import make_batch, recipe
from supclap_jax.models.registry import encoders
from supclap_jax.planning.flops import train_step_flops
from supclap_jax.runs.mesh import make_mesh, put_batch
from supclap_jax.runs.states import init_states
from supclap_jax.train.step import make_train_step

BATCHES = (128, 64, 256)
VARIANTS = ("info_nce", "dynamic")
WHAT = ("forward + backward", "forward")
SMALL = {
    "audio__dim": 32, "audio__depth": 1, "audio__heads": 2, "audio__seconds": 1.0,
    "text__dim": 32, "text__depth": 1, "text__heads": 2, "text__ffn_dim": 64,
    "projection_dim": 16,
}  # fmt: skip


def cases(quick: bool, rows: Rows) -> Iterator[Case]:
    batches, sizes = ((4,), SMALL) if quick else (BATCHES, {})
    attentions = ("cudnn", "xla") if jax.devices()[0].platform == "gpu" else ("xla",)
    remats = ("none",) if quick else ("none", "dots", "full")
    yield Case({"what": "product"}, partial(matrix_rate, "bfloat16", 256 if quick else 8192))
    for batch, attention in itertools.product(batches, attentions):
        for remat in ("none", "dots"):
            way = {"batch": batch, "attention": attention, "remat": remat}
            yield Case({"what": "step", **way}, partial(_steps, rows, sizes, **way))
            if "failed" not in (rows.find(what="step", **way) or {}):
                break  # what fits without needs no remat
    for batch, attention, remat in itertools.product(batches, attentions, remats):
        way = {"batch": batch, "attention": attention, "remat": remat}
        for tower in ("audio", "text"):
            for what in WHAT if remat == "none" else WHAT[:1]:
                measure_it = partial(_encoder, rows, sizes, tower, what == WHAT[0], **way)
                yield Case({"what": f"{tower}, {what}", **way}, measure_it)


def _config(variant: str, sizes: dict, **options):
    return recipe("audiocaps", variant, compute_dtype="bfloat16", mesh__data=1, **options, **sizes)


def _encoder(rows, sizes, tower, backward, *, batch, attention, remat) -> dict:
    """One tower on features as its front end makes them; without dropout."""
    config = _config("info_nce", sizes, batch_size=batch, attention=attention, remat=remat)
    encoder = encoders(config)[tower]
    module = encoder.module(config)
    inputs = make_batch(config)
    if tower == "audio":
        features, _ = jax.jit(encoder.frontend)(inputs["audio"], None)
    else:
        rng = np.random.default_rng(0)  # captions of full length
        features = rng.integers(4, config.text.vocab_size, inputs["tokens"].shape, np.int32)
    features = jax.device_put(features)
    variables = jax.jit(module.init)(jax.random.key(0), features[:1])
    params = variables.pop("params")

    def forward(params, features):
        return module.apply({"params": params, **variables}, features)

    def loss(params, features):
        return (forward(params, features) ** 2).sum()

    figures = measure(jax.grad(loss) if backward else forward, params, features)
    flops = sum(work.forward for work in encoder.flops(config).values() if work.learns)
    flops *= 3 if backward else 1
    seconds = figures["ms"] / 1e3
    return figures | {"clips/s": batch / seconds, "MFU": _share(rows, flops / seconds)}


def _steps(rows, sizes, *, batch, attention, remat) -> dict:
    """Whole steps of InfoNCE and of DynamicSVR, in turns, on one dual encoder."""
    options = {"batch_size": batch, "attention": attention, "remat": remat}
    configs = {name: _config(name, sizes, **options) for name in VARIANTS}
    try:
        seconds, figures = _in_turns(configs, make_mesh(1, batch))
    except jax.errors.JaxRuntimeError as error:
        if out_of_memory(error):
            raise OutOfMemory from error
        raise
    medians = {name: statistics.median(runs) for name, runs in seconds.items()}
    ratios = [dynamic / base for base, dynamic in zip(*seconds.values(), strict=True)]
    flops = sum(train_step_flops(configs["dynamic"]).values())
    return {
        "InfoNCE ms": 1e3 * medians["info_nce"],
        "DynamicSVR ms": 1e3 * medians["dynamic"],
        "DynamicSVR / InfoNCE": statistics.median(ratios),
        "clips/s": batch / medians["dynamic"],
        "MFU": _share(rows, flops / medians["dynamic"]),
        **figures,
    }


def _in_turns(configs: dict, mesh) -> tuple[dict[str, list[float]], dict]:
    """Seconds of the steps of each variant; compilation and memory."""
    inputs = put_batch(make_batch(configs["dynamic"]), mesh)
    radii = {}
    for name, config in configs.items():
        states = init_states(config, mesh)
        radii[name] = states.radius
    began, steps = time.perf_counter(), {}
    for name, config in configs.items():
        given = states.replace(radius=radii[name])
        steps[name] = make_train_step(config, mesh).lower(given, inputs).compile()
    compile_seconds = time.perf_counter() - began
    seconds = {name: [] for name in configs}
    for run in range(2 + LEAST_RUNS):
        for name, step in steps.items():
            began = time.perf_counter()
            states, metrics = step(states.replace(radius=radii[name]), inputs)
            jax.block_until_ready((states, metrics))
            radii[name] = states.radius
            if run >= 2:
                seconds[name].append(time.perf_counter() - began)
    return seconds, {"compile_s": compile_seconds, "planned_mib": planned_mib(steps["dynamic"])}


def _share(rows: Rows, flops_per_second: float) -> float | None:
    rate = rows.find(what="product")
    return flops_per_second / (1e12 * rate["tflops"]) if rate else None
