"""What all tests share: eight CPU devices, kept compilations, a small data set, a small config."""

import os
from pathlib import Path

import jax
import pytest
from absl import flags

from supclap_jax.config import default
from supclap_jax.data.soundscape import Soundscape, write_clotho

CACHE = os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".jax_cache")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_compilation_cache_dir", CACHE)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
flags.FLAGS.mark_as_parsed()


@pytest.fixture(scope="session")
def soundscape(tmp_path_factory):
    """A folder with 40 clips of 2 s in Clotho's layout: 28 to train, 4 and 8 held out."""
    folder = tmp_path_factory.mktemp("data") / "soundscape"
    write_clotho(Soundscape(seconds=2.0), folder, 40, workers=1)
    return folder


@pytest.fixture
def config(soundscape):
    """A run of seconds: the real architecture at its smallest, on one device."""
    config = default()
    config.data.path = str(soundscape)
    config.data.workers = 0
    config.total_steps = 6
    config.batch_size = 8
    config.eval_every = 3
    config.checkpoint_every = 3
    config.log_every = 1
    config.audio.update(dim=32, depth=1, heads=2, seconds=1.0)
    config.text.update(dim=32, depth=1, heads=2, ffn_dim=32, vocab_size=300, max_tokens=24)
    config.projection_dim = 16
    config.optimizer.update(learning_rate=1e-3, warmup_steps=2, weight_decay=0.01)
    config.evaluate.update(batch_size=8, resamples=50)
    config.mesh.data = 1
    return config.lock()
