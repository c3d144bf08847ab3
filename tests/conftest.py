"""What all tests share: eight CPU devices, kept compilations, a small data set, a small config."""

import os
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # processes that tests start see it too

import jax
import pytest
from absl import flags

from supclap_jax.data.soundscape import Soundscape
from supclap_jax.data.soundscape_files import write_clotho
from tests import tiny

CACHE = os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".jax_cache")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
# XLA compiles in a third of the time without its optimisations and its newer code generator, which
# most tests are not about.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
if jax.__version_info__ < (0, 11):  # later ones end at a flag that they no longer know
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false")
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_compilation_cache_dir", CACHE)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
jax.config.update("jax_disable_most_optimizations", True)
flags.FLAGS.mark_as_parsed()

LONGEST = (
    "launch",
    "runs",
    "train",
    "experiments",
    "tests",
    "cli",
    "planning",
    "losses",
    "evaluate",
)  # begun first, in this order


def pytest_collection_modifyitems(items):
    """Files of tests run in parallel: the last to end should not be a long one."""
    rooms = {room: place for place, room in enumerate(LONGEST)}
    items.sort(key=lambda item: rooms.get(item.path.parent.name, len(rooms)))


@pytest.fixture(autouse=True, scope="module")
def optimizations(request):
    """A module that is about the compiled program says `OPTIMIZED = True`."""
    if not getattr(request.module, "OPTIMIZED", False):
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "0")
        jax.config.update("jax_disable_most_optimizations", False)
        yield
        jax.config.update("jax_disable_most_optimizations", True)


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
