"""Quick compilation, for these tests compile more than anything else."""

import jax
import pytest


@pytest.fixture(autouse=True, scope="module")
def quick_compilation():
    """XLA compiles in half the time without its optimisations, which are not what is tested.

    Processes that a test starts compile so too.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
        jax.config.update("jax_disable_most_optimizations", True)
        yield
        jax.config.update("jax_disable_most_optimizations", False)
