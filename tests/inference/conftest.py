"""A small model that is not trained, as a run's folder has it before the first step."""

import pytest

from supclap_jax.data.opening import load_clips, load_training
from supclap_jax.runs.run import Run
from tests import tiny


@pytest.fixture(scope="session")
def untrained(soundscape, tmp_path_factory):
    """The folder; load it at step 0."""
    config = tiny.get_config("info_nce")
    config.data.path = str(soundscape)
    clips = {split: load_clips(config, split) for split in ("validation", "test")}
    workdir = tmp_path_factory.mktemp("untrained") / "run"
    Run(workdir).claim(config, {"train": load_training(config), **clips})
    return workdir
