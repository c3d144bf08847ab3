"""A dual encoder with all that embedding takes: of a run, of an export, or of a config."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

from jax.sharding import Mesh
from ml_collections import ConfigDict

from supclap_jax.config import stored
from supclap_jax.data.clips import Clips
from supclap_jax.data.text import Tokenizer
from supclap_jax.errors import ConfigError, RunError
from supclap_jax.files import path_of
from supclap_jax.inference.model_folder import CONFIG, FACTS, WEIGHTS, read_weights
from supclap_jax.models.registry import check_config
from supclap_jax.models.weight_files import find
from supclap_jax.runs.bucket import folder_of, name_of
from supclap_jax.runs.run import Run, data_facts
from supclap_jax.runs.states import init_states, variables_of
from supclap_jax.runs.tokenizer import TOKENIZER, read_tokenizer

HUB = "hf://"


@dataclasses.dataclass(frozen=True)
class Model:
    """What is known of a model before its weights are read.

    Attributes:
      name: folder or recipe, for people.
      config: of the run that it is from.
      step: of its training.
      tokenizer: of its captions.
      variables: reads its weights, as `DualEncoder.apply` takes them, onto a mesh.
      check: raises DataError where clips of a split are not those that its run began with.
      space: id that an export says it is of.
      training: folders of the data sets that it was trained on, where that is known.
    """

    name: str
    config: ConfigDict
    step: int
    tokenizer: Tokenizer
    variables: Callable[[Mesh], dict]
    check: Callable[[str, Clips], None] = lambda split, clips: None
    training: tuple[Path, ...] = ()
    space: str | None = None


def find_model(path: Path, step: int | None = None) -> Model:
    """The model in the folder of a run, or in one that `supclap export` wrote.

    Args:
      path: the folder; or `hf://OWNER/REPOSITORY` of an export on the Hugging Face Hub, or
        `gs://BUCKET/PATH` of a run.
      step: of a run: as of `model_of_run`.

    Raises:
      RunError: there is neither; or as `model_of_run`.
      ConfigError: an export has one step alone, and this is another; or as `model_of_run`.
    """
    if path.parts[:1] == ("hf:",):
        name = HUB + "/".join(path.parts[1:])
        folder = [find(f"{name}/{file}") for file in (WEIGHTS, TOKENIZER, CONFIG)][-1].parent
        return dataclasses.replace(_exported(folder, step), name=name)
    if path.parts[:1] == ("gs:",):
        path = folder_of("gs://" + "/".join(path.parts[1:]))
    if (path / WEIGHTS).is_file():
        return _exported(path, step)
    if (path / FACTS).is_file():
        raise RunError(
            f"{path} holds programs for other runtimes; give the run that they are of, or what "
            "'supclap export --format=safetensors' writes"
        )
    if not (path / CONFIG).is_file():
        raise RunError(f"{path} holds neither a run nor what 'supclap export' writes")
    return model_of_run(path, step)


def model_of_run(path: Path, step: int | None = None) -> Model:
    """The model in the folder of a run.

    Args:
      path: the folder.
      step: another checkpoint than the best on validation; 0 for what it began with.

    Raises:
      RunError: there is no run; or as `Run.find_step` and `Run.tokenizer`.
      ConfigError: the run is a branch, which did not begin with step 0.
    """
    if (path / WEIGHTS).is_file():
        raise RunError(f"{path} is what 'supclap export' wrote, and no run; give it as --model")
    run = Run(path)
    config, tokenizer = run.config, run.tokenizer
    if step == 0 and config.branch.run:
        raise ConfigError(
            f"{path} began with step {config.branch.step} of {config.branch.run}; evaluate that, "
            "or that run's step 0"
        )

    def check(split: str, clips: Clips) -> None:
        run.check_data(data_facts({split: clips}))

    name, data = name_of(path), config.data
    if step == 0:
        return Model(name, config, 0, tokenizer, lambda mesh: _initial(config, mesh), check)
    step = run.find_step(step)
    folder = path_of(data.path)
    training = [folder / name for name in data.mixture] or [folder]

    def variables(mesh: Mesh) -> dict:
        return variables_of(run.restore(step, mesh)[1].dual, config)

    return Model(name, config, step, tokenizer, variables, check, tuple(training))


def initial_model(name: str, config: ConfigDict) -> Model:
    """The published weights that a run of this config would begin with.

    Raises:
      ConfigError: the config names no weights or no tokenizer, or cannot be.
    """
    check_config(config)
    if not (config.pretrained or (config.audio.pretrained and config.text.pretrained)):
        raise ConfigError(
            f"{name} names no weights of both towers; without a run, set pretrained, or "
            "audio.pretrained and text.pretrained"
        )
    tokenizer = Tokenizer(read_tokenizer(config), config.text.vocab_size)
    return Model(name, config, 0, tokenizer, lambda mesh: _initial(config, mesh))


def _exported(path: Path, step: int | None) -> Model:
    config = stored.load(path / CONFIG)
    known, space, variables = read_weights(path, config)
    if step not in (None, known):
        raise ConfigError(f"{path} is an export of step {known}, and has no step {step}")
    try:
        tokenizer = Tokenizer((path / TOKENIZER).read_bytes(), config.text.vocab_size)
    except (OSError, RuntimeError) as error:
        raise RunError(f"{path / TOKENIZER} cannot be read; export the model again") from error
    return Model(name_of(path), config, known, tokenizer, variables, space=space)


def _initial(config: ConfigDict, mesh: Mesh) -> dict:
    return variables_of(init_states(config, mesh).dual, config)
