"""The tokenizer that a run begins with."""

from ml_collections import ConfigDict

from supclap_jax.data.clips import Clips
from supclap_jax.data.prepared import Mixture
from supclap_jax.data.text import Tokenizer, normalize, train_tokenizer
from supclap_jax.errors import ConfigError
from supclap_jax.files import path_of
from supclap_jax.models.tokens import SONAR_PIECES, check_languages
from supclap_jax.models.weight_files import find

TOKENIZER = "tokenizer.model"  # in the folder of a run
CAPTIONS = 20_000


def make_tokenizer(config: ConfigDict, clips: Clips | Mixture) -> bytes:
    """A sentencepiece model: a branch's trunk's, the one of `config.text.tokenizer`, or a new one.

    A new one is trained on captions of `clips`, at most 20,000 of them, evenly spaced.

    Raises:
      ConfigError: as `read_tokenizer` and `check_languages`, or `config.text.vocab_size` is smaller
        than the number of characters in use.
    """
    check_languages(config.data.languages, config.text.vocab_size)
    if config.branch.run:
        return (path_of(config.branch.run) / TOKENIZER).read_bytes()
    if config.text.tokenizer:
        return read_tokenizer(config)
    captions = [normalize(text) for text in clips.some_captions(CAPTIONS)]
    try:
        return train_tokenizer(captions, config.text.vocab_size)
    except RuntimeError as error:
        raise ConfigError(
            f"no tokenizer of text.vocab_size {config.text.vocab_size} can be trained on the "
            f"captions: {error}"
        ) from error


def read_tokenizer(config: ConfigDict) -> bytes:
    """The sentencepiece model that `config.text.tokenizer` names.

    Raises:
      ConfigError: it cannot be read, or does not fit `config.text.vocab_size`.
    """
    source, vocab_size = config.text.tokenizer, config.text.vocab_size
    model = find(source).read_bytes()
    try:
        pieces = Tokenizer(model, vocab_size).pieces
    except RuntimeError:
        pieces = 0
    if not pieces:
        raise ConfigError(f"text.tokenizer {source} is not a sentencepiece model")
    if pieces > vocab_size or (vocab_size == SONAR_PIECES and pieces != vocab_size):
        raise ConfigError(
            f"text.tokenizer {source} has {pieces} pieces, but text.vocab_size is {vocab_size}; "
            f"set that to {pieces}, or, for a tokenizer of another run, as it was there"
        )
    return model
