"""The folder of a run: which config and data it belongs to, and its tokenizer."""

import json
from pathlib import Path

from ml_collections import ConfigDict

from supclap_jax.config import ConfigError, changed_keys, load, save
from supclap_jax.data.datasets import Clips, DataError
from supclap_jax.data.text import Tokenizer, normalize, train_tokenizer

TOKENIZER_CAPTIONS = 20_000


def claim(config: ConfigDict, workdir: Path) -> None:
    """Makes `workdir` this config's, or checks that it is.

    Raises:
      ConfigError: the folder holds a run of another config.
    """
    path = workdir / "config.json"
    if path.is_file():
        changed = changed_keys(load(path), config)
        if changed:
            raise ConfigError(
                f"{workdir} holds a run of another config, which differs in "
                f"{', '.join(changed)}; choose another --workdir, or set them as in {path}"
            )
    elif workdir.is_dir() and any(workdir.iterdir()):
        raise ConfigError(
            f"{workdir} is not empty and holds no run (no config.json); choose another --workdir"
        )
    workdir.mkdir(parents=True, exist_ok=True)
    save(config, path)


def claim_data(clips: Clips, workdir: Path) -> None:
    """Remembers the training data, or checks that they are those of the run so far.

    Raises:
      DataError: the clips or captions are others than when the run began.
    """
    path = workdir / "data.json"
    mine = {"clips": len(clips), "fingerprint": clips.fingerprint()}
    if not path.is_file():
        path.write_text(json.dumps(mine) + "\n")
        return
    theirs = json.loads(path.read_text())
    if mine != theirs:
        raise DataError(
            f"the training clips or captions are not those that the run in {workdir} began with "
            f"({theirs['clips']} clips then, {len(clips)} now); restore them or choose another "
            "--workdir"
        )


def load_tokenizer(config: ConfigDict, workdir: Path, clips: Clips | None = None) -> Tokenizer:
    """The run's tokenizer, `workdir/tokenizer.model`, trained on the captions of `clips` if absent.

    Trains on at most 20,000 captions, evenly spaced.
    """
    path = workdir / "tokenizer.model"
    if not path.is_file():
        captions = [
            normalize(text)
            for by_clip in clips.captions.values()
            for texts in by_clip
            for text in texts
        ]
        captions = captions[:: -(-len(captions) // TOKENIZER_CAPTIONS)]
        path.write_bytes(train_tokenizer(captions, config.text.vocab_size))
    return Tokenizer(path.read_bytes(), config.text.vocab_size)
