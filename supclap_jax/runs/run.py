"""A run: all that its folder holds, opened and restored here."""

import hashlib
import json
import math
from contextlib import closing
from pathlib import Path
from typing import Any

from jax.sharding import Mesh
from ml_collections import ConfigDict

from supclap_jax import config as configs
from supclap_jax.config.conditions import OFFLINE
from supclap_jax.data import splits
from supclap_jax.data.clips import Clips
from supclap_jax.data.prepared import Mixture
from supclap_jax.data.reference_embeddings import open_reference
from supclap_jax.data.text import Tokenizer
from supclap_jax.errors import ConfigError, DataError, RunError
from supclap_jax.files import is_unfinished, write_whole
from supclap_jax.runs import health
from supclap_jax.runs.bucket import ADDRESS, entries, home_of, reaching
from supclap_jax.runs.checkpoint_files import step_folders
from supclap_jax.runs.checkpoints import Checkpoints
from supclap_jax.runs.history import read_history
from supclap_jax.runs.lock import LOCK
from supclap_jax.runs.mesh import make_mesh
from supclap_jax.runs.metrics import read_metrics
from supclap_jax.runs.optimizer import SCHEDULE, has_same_rates
from supclap_jax.runs.states import States, abstract_states
from supclap_jax.runs.tokenizer import TOKENIZER, make_tokenizer

REFERENCE = "reference embeddings"  # in data.json


class Run:
    """The folder of a run; to make one reads nothing.

    | in the folder | read by | written by |
    |---|---|---|
    | `config.json`, `data.json`, `tokenizer.model` | `config`, `tokenizer` | `claim` |
    | `.lock` | | `lock.locked` |
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
            `make_tokenizer`. Then it is left as it was.
          DataError: clips or captions are others than when the run began; likewise.
        """
        self.check_claim(config, clips_of_split)
        facts = _facts_of(config, clips_of_split)
        path = self.workdir / TOKENIZER
        tokenizer = None if path.is_file() else make_tokenizer(config, clips_of_split["train"])
        self.workdir.mkdir(parents=True, exist_ok=True)
        write_whole(self.workdir / health.CONFIG, configs.to_json(config))
        if tokenizer is not None:
            write_whole(path, tokenizer)
        if not self._data.is_file():
            facts[TOKENIZER] = hashlib.sha256(path.read_bytes()).hexdigest()
            write_whole(self._data, json.dumps(facts, indent=2) + "\n")

    def check_claim(self, config: ConfigDict, clips_of_split: dict[str, Clips | Mixture]) -> None:
        """Raises what `claim` would, but for a tokenizer that cannot be made; writes nothing."""
        self._check_config(config)
        if self._data.is_file() or self._newest_step():
            self.check_data(_facts_of(config, clips_of_split))

    def check_data(self, facts: dict[str, dict]) -> None:
        """Raises DataError where clips, captions or audio are others than when the run began.

        Args:
          facts: of `data_facts`.
        """
        begun = self._facts
        for split, name in splits.CLOTHO.items():
            mine, theirs = facts.get(name), begun.get(name)
            if mine is None or theirs is None:
                continue
            is_other = any(mine[key] != theirs[key] for key in ("clips", "fingerprint"))
            sounds = {mine["audio"], theirs.get("audio", "")} - {""}
            if is_other or len(sounds) > 1:
                what = "clips or captions" if is_other else "sounds"
                raise DataError(
                    f"the {split} {what} are not those that the run in {self.workdir} "
                    f"began with ({theirs['clips']} clips then, {mine['clips']} now); "
                    "restore them or begin another run"
                )
        if facts.get(REFERENCE) != begun.get(REFERENCE) and REFERENCE in facts:
            raise DataError(
                f"the reference embeddings are not those that the run in {self.workdir} began "
                "with; restore them or begin another run"
            )

    @property
    def tokenizer(self) -> Tokenizer:
        """The run's own.

        Raises:
          RunError: there is none, or no run; or it is not the one that the run began with.
        """
        path = self.workdir / TOKENIZER
        vocab_size = self.config.text.vocab_size
        if not path.is_file():
            raise RunError(f"{self.workdir} holds no tokenizer ({path.name}); it was not begun")
        model, began_with = path.read_bytes(), self._facts.get(TOKENIZER)
        try:
            if began_with is None or hashlib.sha256(model).hexdigest() == began_with:
                return Tokenizer(model, vocab_size)
        except RuntimeError:  # of sentencepiece, which cannot read it
            pass
        raise RunError(
            f"{path} is not the tokenizer that the run began with; restore it, or begin another run"
        )

    def checkpoints(self, repair: bool = False) -> Checkpoints:
        """Its checkpoints, to be closed after use.

        Args:
          repair: as of `Checkpoints`.

        Raises:
          RunError: there is no run, or no checkpoint and none is to be made; or as `Checkpoints`.
        """
        config = self.config
        with reaching(self.workdir, RunError):
            is_there = bool(entries(home_of(self.workdir) / "checkpoints"))
        if not repair and not is_there:
            raise RunError(f"{self.workdir} holds no checkpoint yet; train it further")
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

    def _check_config(self, config: ConfigDict) -> None:
        if not self.exists:
            others = [path for path in self.workdir.glob("*") if not is_unfinished(path)]
            if any(path.name not in (LOCK, ADDRESS) for path in others):
                raise ConfigError(
                    f"{self.workdir} is not empty and holds no run (no {health.CONFIG}); choose "
                    "another --workdir"
                )
            return
        theirs = self.config
        changed = set(configs.changed_keys(theirs, config))
        if changed <= SCHEDULE and has_same_rates(theirs, config, self._newest_step()):
            return
        differs = f"{self.workdir} holds a run that differs in {', '.join(sorted(changed))}"
        if changed <= SCHEDULE:
            raise ConfigError(
                f"{differs}: its learning rates so far would have been others. To train for "
                "longer, branch in another --workdir from a checkpoint before they differ, with "
                "--config.branch.run and --config.branch.step"
            )
        raise ConfigError(
            f"{differs}; choose another --workdir, or set them as in {self.workdir / health.CONFIG}"
        )

    def _newest_step(self) -> int:
        with reaching(self.workdir, RunError):
            steps = step_folders(home_of(self.workdir) / "checkpoints")
        return max((int(step.name) for step in steps), default=0)

    @property
    def _facts(self) -> dict:
        """What `data.json` holds."""
        try:
            facts = json.loads(self._data.read_text())
            of_splits = [facts[name] for name in splits.CLOTHO.values() if name in facts]
            if not of_splits or any(type(mine["clips"]) is not int for mine in of_splits):
                raise ValueError("it does not say what the run began with")
            if any(not isinstance(mine["fingerprint"], str) for mine in of_splits):
                raise ValueError("it lacks digests")
            return facts
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(
                f"{self._data} cannot be read ({error}), by which clips and tokenizer are known; "
                "restore it, or begin another run"
            ) from error

    @property
    def _data(self) -> Path:
        return self.workdir / "data.json"


def _facts_of(config: ConfigDict, clips_of_split: dict[str, Clips | Mixture]) -> dict[str, Any]:
    """`data_facts`, and the digest of reference embeddings where the run has them."""
    facts = data_facts(clips_of_split)
    if OFFLINE.holds(config):
        facts[REFERENCE] = open_reference(config.loss.svr.reference).digest
    return facts


def data_facts(clips_of_split: dict[str, Clips | Mixture]) -> dict[str, dict]:
    """What `data.json` holds of the splits, by Clotho's names: number, and digests of all."""
    return {
        splits.CLOTHO[split]: {
            "clips": len(clips),
            "fingerprint": clips.fingerprint(),
            "audio": clips.audio_fingerprint(),
        }
        for split, clips in clips_of_split.items()
    }
