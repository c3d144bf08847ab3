"""Runs that start from a checkpoint of another run, their trunk."""

from ml_collections import ConfigDict

from supclap_jax.config import changed_keys
from supclap_jax.data.clips import Clips
from supclap_jax.data.prepared import Mixture
from supclap_jax.errors import ConfigError
from supclap_jax.files import path_of
from supclap_jax.runs.health import CONFIG
from supclap_jax.runs.optimizer import SCHEDULE, has_same_rates
from supclap_jax.runs.run import Run, data_facts

BRANCH = {"branch.run", "branch.step"}


def check_branch(config: ConfigDict, clips_of_split: dict[str, Clips | Mixture]) -> None:
    """Refuses to branch where the run would not be one that has made all steps itself.

    The trunk's config may differ in what a resumed run may change, in its own branch, and in its
    schedule after the checkpoint: the learning rate of every step up to it is the same.

    Args:
      config: of the run that is to begin; `branch.run` is set.
      clips_of_split: that it is to train, validate and evaluate on.

    Raises:
      ConfigError: the configs do not go together; it names the keys.
      RunError: the trunk is no run, or has no such checkpoint.
      DataError: the trunk has other clips or captions.
    """
    trunk, step = Run(path_of(config.branch.run)), config.branch.step
    check_configs(trunk.config, config)
    trunk.find_step(step)
    trunk.check_data(data_facts(clips_of_split))


def check_configs(theirs: ConfigDict, config: ConfigDict) -> None:
    """The part of `check_branch` that needs no trunk yet, only its config.

    Raises:
      ConfigError: as `check_branch`; or the trunk does not make so many steps.
    """
    trunk, step = config.branch.run, config.branch.step
    if step > theirs.total_steps:
        raise ConfigError(
            f"branch.step is {step}, but {trunk} ends after {theirs.total_steps} steps"
        )
    changed = set(changed_keys(theirs, config)) - BRANCH
    if others := changed - SCHEDULE:
        raise ConfigError(
            f"a branch of {trunk} cannot differ from it in {', '.join(sorted(others))}; set them "
            f"as in its {CONFIG}, or choose another branch.run"
        )
    if not has_same_rates(theirs, config, step):
        raise ConfigError(
            f"{', '.join(sorted(changed))} give the steps up to branch.step {step} another "
            f"learning rate than they had in {trunk}; branch from a run with "
            "optimizer.schedule = 'constant', before the cooldown begins"
        )
