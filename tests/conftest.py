"""Settings for all tests: eight CPU devices, and compiled programs kept between runs."""

import os
from pathlib import Path

import jax
from absl import flags

jax.config.update("jax_num_cpu_devices", 8)
cache = os.environ.get("JAX_COMPILATION_CACHE_DIR", Path(__file__).parents[1] / ".jax_cache")
jax.config.update("jax_compilation_cache_dir", str(cache))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
flags.FLAGS.mark_as_parsed()
