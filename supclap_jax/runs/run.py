"""The folder of a run: which config and data it belongs to, and its tokenizer."""

import json
from pathlib import Path

from ml_collections import ConfigDict

from supclap_jax.config import changed_keys, load, save
from supclap_jax.errors import ConfigError
from supclap_jax.data.clips import Clips
from supclap_jax.errors import DataError
from supclap_jax.data.prepared import Mixture
from supclap_jax.data.text import SONAR_PIECES, Tokenizer, normalize, train_tokenizer
from supclap_jax.models.weight_files import find

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


def claim_data(clips_of_split: dict[str, Clips | Mixture], workdir: Path) -> None:
    """Remembers number and digest of the clips of each split, or checks that they are the run's.

    Raises:
      DataError: clips or captions are others than when the run began.
    """
    path = workdir / "data.json"
    mine = {
        split: {"clips": len(clips), "fingerprint": clips.fingerprint()}
        for split, clips in clips_of_split.items()
    }
    if not path.is_file():
        path.write_text(json.dumps(mine, indent=2) + "\n")
        return
    theirs = json.loads(path.read_text())
    for split in mine:
        if mine[split] != theirs[split]:
            raise DataError(
                f"the {split} clips or captions are not those that the run in {workdir} began "
                f"with ({theirs[split]['clips']} clips then, {mine[split]['clips']} now); restore "
                "them or choose another --workdir"
            )


def read_tokenizer(config: ConfigDict) -> bytes:
    """The sentencepiece model that `config.text.tokenizer` names.

    Raises:
      ConfigError: it cannot be read, or does not fit `config.text.vocab_size`.
    """
    source, vocab_size = config.text.tokenizer, config.text.vocab_size
    model = find(source).read_bytes()
    try:
        pieces = Tokenizer(model, vocab_size).pieces
    except RuntimeError as error:
        raise ConfigError(f"text.tokenizer {source} is not a sentencepiece model") from error
    if pieces > vocab_size or (vocab_size == SONAR_PIECES and pieces != vocab_size):
        raise ConfigError(
            f"text.tokenizer {source} has {pieces} pieces, but text.vocab_size is {vocab_size}; "
            f"set that to {pieces}, or, for a tokenizer of another run, as it was there"
        )
    return model


def load_tokenizer(
    config: ConfigDict, workdir: Path, clips: Clips | Mixture | None = None
) -> Tokenizer:
    """The run's tokenizer, `workdir/tokenizer.model`.

    If absent, it is a copy of `config.text.tokenizer`, or else trained on the captions of `clips`,
    at most 20,000 of them, evenly spaced.

    Raises:
      ConfigError: as `read_tokenizer`, or `config.text.vocab_size` is smaller than the number of
        characters in use.
    """
    path = workdir / "tokenizer.model"
    if not path.is_file() and config.text.tokenizer:
        path.write_bytes(read_tokenizer(config))
    elif not path.is_file():
        captions = [normalize(text) for text in clips.some_captions(TOKENIZER_CAPTIONS)]
        try:
            path.write_bytes(train_tokenizer(captions, config.text.vocab_size))
        except RuntimeError as error:
            raise ConfigError(
                f"no tokenizer of text.vocab_size {config.text.vocab_size} can be trained on the "
                f"captions: {error}"
            ) from error
    return Tokenizer(path.read_bytes(), config.text.vocab_size)
