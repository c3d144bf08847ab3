"""Time and memory of compiled programs on the default device."""

import statistics
import time

import flax
import jax
import jax.numpy as jnp
from jax.extend.backend import get_backend

from accelerator_parts.rows import OutOfMemory

MIB = 2**20
LEAST_RUNS, LEAST_SECONDS, MOST_RUNS = 5, 0.5, 50


def machine() -> dict:
    """The device, and the versions that a figure depends on."""
    device = jax.devices()[0]
    return {
        "device": device.device_kind,
        "platform": device.platform,
        "jax": jax.__version__,
        "jaxlib": jax.lib.__version__,
        "flax": flax.__version__,
        "runtime": " ".join(get_backend().platform_version.split()),
    }


def measure(function, *arguments) -> dict:
    """Compiles, warms up and times `function(*arguments)`; every run is waited for.

    Returns:
      "ms": median of at least five runs; "compile_s"; "planned_mib": arguments, results and
      temporaries as compiled; "peak_mib": the device's own count, where this program raised it,
      else None.

    Raises:
      OutOfMemory: the device has too little.
    """
    try:
        return _measure(function, arguments)
    except jax.errors.JaxRuntimeError as error:
        if out_of_memory(error):
            raise OutOfMemory from error
        raise


def out_of_memory(error: Exception) -> bool:
    return "RESOURCE_EXHAUSTED" in str(error) or "out of memory" in str(error).lower()


def _measure(function, arguments) -> dict:
    began = time.perf_counter()
    compiled = jax.jit(function).lower(*arguments).compile()
    compile_seconds, before = time.perf_counter() - began, _peak()
    for _ in range(2):
        jax.block_until_ready(compiled(*arguments))
    seconds = []
    while len(seconds) < LEAST_RUNS or (sum(seconds) < LEAST_SECONDS and len(seconds) < MOST_RUNS):
        began = time.perf_counter()
        jax.block_until_ready(compiled(*arguments))
        seconds.append(time.perf_counter() - began)
    after = _peak()
    return {
        "ms": 1e3 * statistics.median(seconds),
        "compile_s": compile_seconds,
        "planned_mib": planned_mib(compiled),
        "peak_mib": after / MIB if before is not None and after > before else None,
    }


def planned_mib(compiled) -> float:
    """Arguments, results and temporaries of a compiled program."""
    memory = compiled.memory_analysis()
    results = memory.output_size_in_bytes - memory.alias_size_in_bytes
    return (memory.argument_size_in_bytes + results + memory.temp_size_in_bytes) / MIB


def _peak() -> int | None:
    """Most bytes in use since the process began; None where the platform does not count."""
    return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")


def matrix_rate(dtype: str, size: int) -> dict:
    """What a product of two `size` x `size` matrices reaches, in TFLOP/s."""
    x, y = (jax.random.normal(key, (size, size), dtype) for key in _keys(2))
    row = measure(lambda x, y: jnp.matmul(x, y, precision="highest"), x, y)
    return {"ms": row["ms"], "tflops": 2 * size**3 / row["ms"] / 1e9}


def unit_rows(batch: int, dim: int, dtype: str) -> tuple[jax.Array, jax.Array]:
    """Audio and text, unit rows that are half alike in each pair; made on the device."""

    @jax.jit
    def make(keys):
        audio = jax.random.normal(keys[0], (batch, dim))
        text = audio + jax.random.normal(keys[1], (batch, dim))
        return tuple(
            (x / jnp.linalg.norm(x, axis=1, keepdims=True)).astype(dtype) for x in (audio, text)
        )

    return make(_keys(2))


def _keys(count: int) -> jax.Array:
    return jax.random.split(jax.random.key(0), count)
