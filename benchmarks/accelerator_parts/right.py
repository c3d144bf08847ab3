"""Part 1: are the numbers right here? Against golden files, dense forms, and the CPU.

Every row says how far off the worst number is, in units of what is allowed, and so whether it
passes: float32 with products at full precision as close as the tests ask, bfloat16 within bands.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from accelerator_parts.rows import Case, Rows
from accelerator_parts.timing import unit_rows
from inputs import make_batch
from supclap_jax.losses import siglip, supclap, symmetric_info_nce
from supclap_jax.models.log_mel import log_mel
from supclap_jax.models.transformer import attention
from supclap_jax.runs.mesh import make_mesh, put_batch
from supclap_jax.runs.states import init_states
from supclap_jax.train.step import make_train_step
from tests import tiny
from tests.losses import golden as losses
from tests.models import golden as models

# Of bfloat16: of a loss and of gradients, relative to the largest entry; of the embeddings of the
# small models, absolute. A CPU's errors are a third of these.
LOSS_BAND, GRADIENT_BAND, EMBEDDING_BAND = 0.02, 0.06, 0.1
TILED_ERROR = 1e-5
ATTENTION_BAND = 0.02  # of the largest entry
STEPS, METRIC_ERROR, MOMENT_ERROR = 5, 1e-4, 1e-3


def cases(quick: bool, rows: Rows) -> Iterator[Case]:
    forms = (("float32", None), ("bfloat16", None), ("float32", 5))
    for dtype, tiles in forms[:1] if quick else forms:
        form = f"tiles of {tiles}" if tiles else "dense"
        yield Case(
            {"what": f"losses, golden, {form}", "dtype": dtype},
            partial(_golden_losses, dtype, tiles),
        )
    for dtype in ("float32",) if quick else ("float32", "bfloat16"):
        yield Case({"what": "encoders, golden", "dtype": dtype}, partial(_encoders, dtype))
    yield Case({"what": "log-mel, golden", "dtype": "float32"}, _log_mel)
    if jax.devices()[0].platform == "gpu":
        for masked in (False, True):
            what = f"fused attention = XLA's, {'masked' if masked else 'not masked'}"
            yield Case({"what": what, "dtype": "bfloat16"}, partial(_fused_attention, masked))
    batch, dim, tile = (96, 32, 40) if quick else (4096, 768, 1000)
    yield Case(
        {"what": f"tiles of {tile} = dense, batch {batch}", "dtype": "float32"},
        partial(_tiled, batch, dim, tile),
    )
    for variant in ("dynamic",) if quick else ("dynamic", "siglip_dynamic"):
        yield Case(
            {"what": f"{STEPS} steps of the tiny recipe = CPU's, {variant}", "dtype": "float32"},
            partial(_steps, variant),
        )
    yield Case({"what": "two runs of these steps have equal bits", "dtype": "float32"}, _repeated)


def _judged(errors: dict[str, float]) -> dict:
    """The largest of errors that are in units of what is allowed; NaN is the worst."""
    worst = max(errors, key=lambda name: (np.isnan(errors[name]), errors[name]))
    return {
        "error/allowed": float(errors[worst]),
        "worst": worst,
        "passed": bool(errors[worst] <= 1),
    }


def _relative(got, expected) -> float:
    """The largest difference, relative to the largest entry."""
    got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    return np.max(np.abs(got - expected)) / max(np.max(np.abs(expected)), 1e-20)


def _golden_losses(dtype: str, tiles: int | None) -> dict:
    """All in one program, for compilation is most of the time."""
    options = {"block_size": tiles} if tiles else {}
    names = [name for name in losses.CASES if not tiles or not name.startswith(("svr", "radius"))]

    @jax.jit
    def both(golden):
        found = {}
        for name in names:
            function, inputs = losses.CASES[name]
            value, gradients = jax.value_and_grad(
                partial(function, **options), argnums=range(len(inputs))
            )(*(golden[key] for key in inputs))
            found |= {f"value/{name}": value}
            found |= {f"grad/{name}/{key}": x for key, x in zip(inputs, gradients, strict=True)}
        return found

    inputs = {key for name in names for key in losses.CASES[name][1]}
    narrow = {key: dtype if key in losses.PAIR else "float32" for key in inputs}
    got = both({key: jnp.asarray(losses.GOLDEN[key], narrow[key]) for key in inputs})
    bounds = losses.ERRORS.get(dtype, (LOSS_BAND, GRADIENT_BAND))
    allowed = dict(zip(("value", "grad"), bounds, strict=True))
    return _judged(
        {
            key: _relative(x, losses.GOLDEN[key]) / allowed[key.partition("/")[0]]
            for key, x in got.items()
            if key in losses.GOLDEN
        }
    )


def _encoders(dtype: str) -> dict:
    allowed = models.EMBEDDING_ERROR if dtype == "float32" else EMBEDDING_BAND
    errors = {}
    with jax.default_matmul_precision("highest"):
        golden, variables = models.cases_of("ced_encoder.cases"), models.ced_weights_of("original")
        embed = jax.jit(models.CED_MODEL.clone(dtype=dtype).apply)
        for name in models.CLIPS:
            got = embed(variables, models.cut(golden, name)[None])[0]
            errors[f"CED, {name}"] = _largest(got, golden[f"embedding.{name}"]) / allowed
        golden, variables = models.cases_of("sonar_encoder.cases"), models.sonar_weights_of("hf")
        embed = jax.jit(models.SONAR_MODEL.clone(dtype=dtype).apply)
        for name in models.TOKENS:
            got = embed(variables, golden[f"{name}.input_ids"])
            errors[f"SONAR, {name}"] = _largest(got, golden[f"{name}.embeddings"]) / allowed
    return _judged(errors)


def _log_mel() -> dict:
    golden = models.cases_of("ced_frontend")
    errors = {}
    for clip in ("loud", "quiet"):
        got = jax.jit(log_mel)(golden[f"waveform.{clip}"][None])[0].T
        errors[clip] = _largest(got, golden[f"logmel.{clip}"]) / models.LOG_MEL_ERROR
    return _judged(errors)


def _largest(got, expected) -> float:
    return float(np.max(np.abs(np.asarray(got, np.float64) - expected)))


def _tiled(batch: int, dim: int, tile: int) -> dict:
    """Values and gradients of both forms of each loss."""
    audio, text = unit_rows(batch, dim, "float32")
    forms = {
        "InfoNCE": lambda a, t, s, **options: symmetric_info_nce(a, t, s, **options),
        "SigLIP": lambda a, t, s, **options: siglip(a, t, s, -10.0, **options),
        "SupCLAP": lambda a, t, s, **options: supclap(
            a, t, s, audio_radius=0.3, text_radius=0.2, **options
        )[0],
    }
    errors = {}
    for name, function in forms.items():
        dense, tiled = (
            jax.jit(jax.value_and_grad(partial(function, block_size=size), argnums=(0, 1, 2)))(
                audio, text, 14.0
            )
            for size in (None, tile)
        )
        pairs = zip(jax.tree.leaves(tiled), jax.tree.leaves(dense), strict=True)
        for part, (got, expected) in zip(("value", "audio", "text", "scale"), pairs, strict=True):
            errors[f"{name}, {part}"] = _relative(got, expected) / TILED_ERROR
    return _judged(errors)


@cache
def _program(variant: str):
    config = tiny.get_config(variant)
    mesh = make_mesh(1, config.batch_size)
    return config, mesh, init_states(config, mesh), make_train_step(config, mesh)


def trained(variant: str) -> dict[str, np.ndarray]:
    """Metrics of every step of the tiny recipe, and Adam's first moments after the last.

    Moments, and not parameters, since Adam divides by the root of the second moment: an entry whose
    gradient is rounding noise moves as far as any other.
    """
    with jax.default_matmul_precision("highest"):
        config, mesh, initial, step = _program(variant)
        states, found = jax.tree.map(jnp.copy, initial), {}  # the step takes its states over
        for k in range(STEPS):
            states, metrics = step(states, put_batch(make_batch(config, k, padded=True), mesh))
            found |= {f"step {k + 1}, {name}": np.asarray(x) for name, x in metrics.items()}
    moments = [(path, x) for path, x in jax.tree.leaves_with_path(states) if _is_moment(path)]
    return found | {f"moment {jax.tree_util.keystr(path)}": np.asarray(x) for path, x in moments}


def _is_moment(path) -> bool:
    return any(getattr(key, "name", "") == "mu" for key in path)


def _steps(variant: str) -> dict:
    """The reference trains at the same time in a process of its own, which sees the CPU alone."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "cpu.npz"
        command = [sys.executable, "-m", "accelerator_parts.right", variant, file]
        with subprocess.Popen(command, env=os.environ | {"JAX_PLATFORMS": "cpu"}):
            here = trained(variant)
        expected = dict(np.load(file, allow_pickle=False))
    errors = {}
    for name, value in expected.items():
        if name.startswith("moment"):
            errors[name] = _relative(here[name], value) / MOMENT_ERROR
        else:
            size = max(abs(float(value)), 1e-2)
            errors[name] = abs(float(here[name]) - float(value)) / size / METRIC_ERROR
    return _judged(errors)


def _repeated() -> dict:
    """Not judged: sums on a GPU may be in any order, unless XLA is told otherwise."""
    first, second = trained("dynamic"), trained("dynamic")
    differing = [name for name, x in first.items() if not np.array_equal(x, second[name])]
    return {"worst": differing[0] if differing else "", "equal": not differing, "passed": None}


def _fused_attention(masked: bool) -> dict:
    """Value and gradient against XLA's, as the encoders call it."""
    qkv = jax.random.normal(jax.random.key(0), (4, 64, 3, 4, 64), "bfloat16")
    pulled = jax.random.normal(jax.random.key(1), (4, 64, 4, 64), "bfloat16")
    valid = jnp.arange(64) < jnp.array([[64], [40], [7], [64]]) if masked else None

    @partial(jax.jit, static_argnums=0)
    def both(implementation):
        value, pull_back = jax.vjp(lambda qkv: attention(qkv, valid, implementation), qkv)
        return value, pull_back(pulled)[0]

    fused, plain = both("cudnn"), both("xla")
    errors = zip(("value", "gradient"), map(_relative, fused, plain), strict=True)
    return _judged({name: error / ATTENTION_BAND for name, error in errors})


if __name__ == "__main__":
    np.savez(sys.argv[2], **trained(sys.argv[1]))
