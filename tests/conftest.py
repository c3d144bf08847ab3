"""What all tests share: eight CPU devices, kept compilations, a small data set, a small config."""

import os
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # processes that tests start see it too

import jax
import pytest
from absl import flags

from supclap_jax.data.soundscape import Soundscape, write_clotho
from tests import tiny

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
    """The config of `tests/tiny.py`, plain InfoNCE, on that data set."""
    config = tiny.get_config("info_nce")
    config.data.path = str(soundscape)
    return config.lock()
