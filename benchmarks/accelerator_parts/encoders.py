"""Part 3: encoders and whole training steps in bfloat16: time, memory, share of the matrix rate."""

import itertools
import statistics
import time
from collections.abc import Iterator
from functools import lru_cache, partial

import jax
import jax.numpy as jnp

from accelerator_parts.rows import Case, OutOfMemory, Rows
from accelerator_parts.timing import (
    LEAST_RUNS,
    matrix_rate,
    measure,
    out_of_memory,
    planned_mib,
)
from inputs import make_batch, recipe
from supclap_jax.models.dual_encoder import TOWERS
from supclap_jax.models.encoder import SAMPLE_RATE, Work
from supclap_jax.models.registry import encoders
from supclap_jax.planning.flops import train_step_flops
from supclap_jax.runs.mesh import make_mesh, put_batch
from supclap_jax.runs.states import init_states
from supclap_jax.train.step import make_train_step

BATCHES = (128, 64, 256)
VARIANTS = ("info_nce", "dynamic")
WHAT = ("forward + backward", "forward")
SHARE = "share of product"
SMALL = {
    "audio__dim": 32, "audio__depth": 1, "audio__heads": 2, "audio__seconds": 1.0,
    "text__dim": 32, "text__depth": 1, "text__heads": 2, "text__ffn_dim": 64,
    "projection_dim": 16,
}  # fmt: skip


def cases(quick: bool, rows: Rows) -> Iterator[Case]:
    batches = (4,) if quick else BATCHES
    attentions = ("cudnn", "xla") if jax.devices()[0].platform == "gpu" else ("xla",)
    remats = ("none",) if quick else ("none", "dots", "full")
    yield Case({"what": "product"}, partial(matrix_rate, "bfloat16", 256 if quick else 8192))
    yield from _step_cases(batches[:1], attentions[:1], rows, quick)
    for batch, remat, attention in itertools.product(batches, remats, attentions):
        way = {"batch": batch, "attention": attention, "remat": remat}
        for tower in ("audio",) if quick else ("audio", "text"):
            for what in WHAT if remat == "none" and not quick else WHAT[:1]:
                measure_it = partial(_encoder, rows, quick, tower, what, **way)
                yield Case({"what": f"{tower}, {what}", **way}, measure_it)
    yield from _step_cases(batches, attentions, rows, quick)


def _step_cases(batches, attentions, rows: Rows, quick: bool) -> Iterator[Case]:
    for batch, attention in itertools.product(batches, attentions):
        for remat in ("none", "dots"):
            way = {"batch": batch, "attention": attention, "remat": remat}
            yield Case({"what": "step", **way}, partial(_steps, rows, quick, **way))
            if "failed" not in (rows.find(what="step", **way) or {}):
                break  # what fits without needs no remat


def _config(variant: str, quick: bool, **options):
    sizes = SMALL if quick else {}
    return recipe("audiocaps", variant, compute_dtype="bfloat16", mesh__data=1, **options, **sizes)


@lru_cache(maxsize=1)
def _features(tower: str, batch: int, quick: bool) -> jax.Array:
    """Log-mel of 10 s of noise, or captions of full length."""
    config = _config("info_nce", quick, batch_size=batch)
    if tower == "text":
        shape = (batch, config.text.max_tokens)
        return jax.random.randint(jax.random.key(0), shape, 4, config.text.vocab_size)
    samples = round(config.audio.seconds * SAMPLE_RATE)
    waveform = 0.1 * jax.random.normal(jax.random.key(0), (batch, samples))
    return jax.jit(encoders(config)["audio"].frontend)(waveform, None)[0]


@lru_cache(maxsize=1)
def _variables(tower: str, quick: bool) -> dict:
    config = _config("info_nce", quick, batch_size=1)
    module = encoders(config)[tower].module(config)
    return jax.jit(module.init)(jax.random.key(0), _features(tower, 1, quick))


def tower_module(config, tower: str):
    """The tower's module as `make_model` has it, for one device."""
    options = {name: config[name] for name in ("attention", "scan_layers", "remat")}
    return encoders(config)[tower].module(config, dtype=jnp.dtype(config.compute_dtype), **options)


def _encoder(rows, quick, tower, what, *, batch, attention, remat) -> dict:
    """One tower on features as its front end makes them, without dropout."""
    config = _config("info_nce", quick, batch_size=batch, attention=attention, remat=remat)
    module = tower_module(config, tower)
    params = _variables(tower, quick)["params"]
    rest = {key: x for key, x in _variables(tower, quick).items() if key != "params"}

    def forward(params, features):
        return module.apply({"params": params, **rest}, features)

    def loss(params, features):
        return (forward(params, features) ** 2).sum()

    backward = what == WHAT[0]
    features = _features(tower, batch, quick)
    figures = measure(jax.grad(loss) if backward else forward, params, features)
    flops = (3 if backward else 1) * sum(work.forward for work in _learning(config, tower))
    seconds = figures["ms"] / 1e3
    return figures | {"clips/s": batch / seconds, SHARE: _share(rows, flops / seconds)}


def _learning(config, tower: str) -> list[Work]:
    return [work for work in encoders(config)[tower].flops(config).values() if work.learns]


def _steps(rows, quick, *, batch, attention, remat) -> dict:
    """Whole steps of InfoNCE and of DynamicSVR, in turns, on one dual encoder."""
    options = {"batch_size": batch, "attention": attention, "remat": remat}
    configs = {name: _config(name, quick, **options) for name in VARIANTS}
    try:
        seconds, figures = _in_turns(configs, make_mesh(1, batch))
    except jax.errors.JaxRuntimeError as error:
        if out_of_memory(error):
            raise OutOfMemory from error
        raise
    medians = {name: statistics.median(runs) for name, runs in seconds.items()}
    ratios = [dynamic / base for base, dynamic in zip(*seconds.values(), strict=True)]
    config = configs["dynamic"]
    again = sum(work.again for tower in TOWERS for work in _learning(config, tower))
    flops = sum(train_step_flops(config).values()) - again
    return {
        "InfoNCE ms": 1e3 * medians["info_nce"],
        "DynamicSVR ms": 1e3 * medians["dynamic"],
        "DynamicSVR / InfoNCE": statistics.median(ratios),
        "clips/s": batch / medians["dynamic"],
        SHARE: _share(rows, flops / medians["dynamic"]),
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
