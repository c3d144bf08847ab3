"""A run: all that its folder holds, opened and restored here."""

import json
import math
from contextlib import closing
from pathlib import Path

from jax.sharding import Mesh
from ml_collections import ConfigDict

from supclap_jax import config as configs
from supclap_jax.data import splits
from supclap_jax.data.clips import Clips
from supclap_jax.data.prepared import Mixture
from supclap_jax.data.text import Tokenizer
from supclap_jax.errors import ConfigError, DataError, RunError
from supclap_jax.files import is_unfinished, write_whole
from supclap_jax.runs import health
from supclap_jax.runs.checkpoints import Checkpoints
from supclap_jax.runs.history import read_history
from supclap_jax.runs.mesh import make_mesh
from supclap_jax.runs.metrics import read_metrics
from supclap_jax.runs.states import States, abstract_states
from supclap_jax.runs.tokenizer import TOKENIZER, make_tokenizer


class Run:
    """The folder of a run; to make one reads nothing.

    | in the folder | read by | written by |
    |---|---|---|
    | `config.json`, `data.json`, `tokenizer.model` | `config`, `tokenizer` | `claim` |
    | `checkpoints/`, `damaged/` | `restore` | `checkpoints` |
    | `metrics.jsonl`, `tensorboard/` | `metrics` | `metrics.MetricsWriter` |
    | `history.jsonl` | `history` | `history.session` |
    | `profile/` | | `train.profiler.Trace` |
    | `evaluation.json`, `per_clip.npz`, `figures/` | | `evaluate.evaluation` |

    Args:
      workdir: the folder, which need not be there yet.
    """

    def __init__(self, workdir: Path):
        self.workdir = workdir

    @property
    def exists(self) -> bool:
        """Whether the folder holds a run."""
        return (self.workdir / health.CONFIG).is_file()

    @property
    def config(self) -> ConfigDict:
        """The run's config, locked; a new one each time.

        Raises:
          RunError: there is no run.
          ConfigError: it is not valid.
        """
        return configs.load(health.config_file(self.workdir))

    def claim(self, config: ConfigDict, clips_of_split: dict[str, Clips | Mixture]) -> None:
        """Makes the folder this config's and these clips', with a tokenizer, or checks that it is.

        Args:
          config: fields that are `resumable` may differ from those of the run.
          clips_of_split: their numbers and digests are remembered; a tokenizer, if the config names
            none and the run is no branch, is trained on captions of "train".

        Raises:
          ConfigError: the folder holds a run of another config, or other files; or as
            `make_tokenizer`.
          DataError: clips or captions are others than when the run began.
        """
        self._claim_config(config)
        self._claim_data(clips_of_split)
        path = self.workdir / TOKENIZER
        if not path.is_file():
            write_whole(path, make_tokenizer(config, clips_of_split["train"]))

    def check_data(self, clips_of_split: dict[str, Clips | Mixture]) -> None:
        """Raises DataError where clips or captions are others than when the run began."""
        mine, theirs = _facts(clips_of_split), json.loads(self._data.read_text())
        for split in clips_of_split:
            name = splits.CLOTHO[split]
            if mine[name] != theirs[name]:
                raise DataError(
                    f"the {split} clips or captions are not those that the run in {self.workdir} "
                    f"began with ({theirs[name]['clips']} clips then, {mine[name]['clips']} now); "
                    "restore them or begin another run"
                )

    @property
    def tokenizer(self) -> Tokenizer:
        """The run's own.

        Raises:
          RunError: there is none, or no run.
        """
        path = self.workdir / TOKENIZER
        vocab_size = self.config.text.vocab_size
        if not path.is_file():
            raise RunError(f"{self.workdir} holds no tokenizer ({path.name}); it was not begun")
        return Tokenizer(path.read_bytes(), vocab_size)

    def checkpoints(self, repair: bool = False) -> Checkpoints:
        """Its checkpoints, to be closed after use.

        Args:
          repair: as of `Checkpoints`.

        Raises:
          RunError: there is no run, or a checkpoint is damaged, and that is not to be repaired.
        """
        config = self.config
        return Checkpoints(self.workdir, config.keep_last, config.keep_steps, repair)

    def find_step(self, step: int | None = None) -> int:
        """`step` if it has a checkpoint; by default the one with the highest validation recall.

        Raises:
          RunError: as `checkpoints`, or there is no such checkpoint.
        """
        with closing(self.checkpoints()) as checkpoints:
            return checkpoints.find(step)

    def restore(self, step: int | None = None, mesh: Mesh | None = None) -> tuple[int, States]:
        """A checkpoint's step and states.

        Args:
          step: as of `find_step`.
          mesh: to lay the states on; by default one device.

        Raises:
          RunError: as `find_step`, or it is damaged or cannot be restored.
        """
        with closing(self.checkpoints()) as checkpoints:
            step = checkpoints.find(step)
            abstract = abstract_states(self.config, mesh or make_mesh(1, 1))
            return step, checkpoints.restore(step, abstract)

    def metrics(self, last_step: float = math.inf) -> list[dict]:
        """The lines of `metrics.jsonl` up to a step."""
        return read_metrics(self.workdir, last_step)

    @property
    def history(self) -> list[dict]:
        """Starts and ends, as `read_history`."""
        return read_history(self.workdir)

    @property
    def status(self) -> dict:
        """Progress and health, as `health.status`. Raises RunError where there is no run."""
        return health.status(self.workdir)

    def _claim_config(self, config: ConfigDict) -> None:
        if self.exists:
            changed = configs.changed_keys(self.config, config)
            if changed:
                raise ConfigError(
                    f"{self.workdir} holds a run of another config, which differs in "
                    f"{', '.join(changed)}; choose another --workdir, or set them as in "
                    f"{self.workdir / health.CONFIG}"
                )
        elif self.workdir.is_dir() and not all(map(is_unfinished, self.workdir.iterdir())):
            raise ConfigError(
                f"{self.workdir} is not empty and holds no run (no {health.CONFIG}); choose "
                "another --workdir"
            )
        self.workdir.mkdir(parents=True, exist_ok=True)
        write_whole(self.workdir / health.CONFIG, configs.to_json(config))

    def _claim_data(self, clips_of_split: dict[str, Clips | Mixture]) -> None:
        if self._data.is_file():
            self.check_data(clips_of_split)
        else:
            write_whole(self._data, json.dumps(_facts(clips_of_split), indent=2) + "\n")

    @property
    def _data(self) -> Path:
        return self.workdir / "data.json"


def _facts(clips_of_split: dict[str, Clips | Mixture]) -> dict[str, dict]:
    """What `data.json` holds; there, the splits have Clotho's names."""
    return {
        splits.CLOTHO[split]: {"clips": len(clips), "fingerprint": clips.fingerprint()}
        for split, clips in clips_of_split.items()
    }
