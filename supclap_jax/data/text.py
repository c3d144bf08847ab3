"""Captions to tokens: a sentencepiece model and SONAR's way to number and tag them."""

import io
import unicodedata
from collections.abc import Iterable

import numpy as np
import sentencepiece

from supclap_jax.config import LANGUAGES
from supclap_jax.models.sonar import PAD_ID, SONAR

LABEL_LANGUAGE = "eng_Latn"
END_ID = 2
UNKNOWN_ID = 3

SONAR_PIECES = 256_000
SONAR_LANGUAGE_IDS = {
    "eng_Latn": 256_047,
    "fra_Latn": 256_057,
    "deu_Latn": 256_042,
    "spa_Latn": 256_161,
    "nld_Latn": 256_127,
    "cat_Latn": 256_034,
    "jpn_Jpan": 256_079,
    "zho_Hans": 256_200,
}
_ML_CLAP_PUNCTUATION = str.maketrans(dict.fromkeys('()，。！？：；、,.!?;:|*"', " "))


def normalize(caption: str) -> str:
    """Lower case, without any punctuation, single spaces.

    >>> normalize("A dog barks, then  it's silent.")
    'a dog barks then it s silent'
    """
    letters = (" " if unicodedata.category(c).startswith("P") else c for c in caption.lower())
    return " ".join("".join(letters).split())


def normalize_as_ml_clap(caption: str) -> str:
    """Lower case, without the punctuation that ML-CLAP leaves out, single spaces.

    >>> normalize_as_ml_clap("A dog barks, then  it's (half-)silent.")
    "a dog barks then it's half- silent"
    """
    return " ".join(caption.lower().translate(_ML_CLAP_PUNCTUATION).split())


def label_caption(label: str) -> str:
    """A caption for a clip that has only a class.

    >>> label_caption("dog_bark")
    'This is a sound of dog bark.'
    """
    return f"This is a sound of {label.replace('_', ' ')}."


def train_tokenizer(captions: Iterable[str], vocab_size: int) -> bytes:
    """Trains a byte-pair sentencepiece model; the same captions give the same bytes.

    Args:
      captions: normalised.
      vocab_size: an upper bound; few or short captions give fewer pieces.
    """
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(captions),
        model_writer=model,
        model_type="bpe",
        vocab_size=vocab_size,
        hard_vocab_limit=False,
        character_coverage=1.0,
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()


def vocab_size_of(rows: int) -> int:
    """The `vocab_size` whose embedding table has that many rows; inverse of `Tokenizer.size`."""
    return SONAR_PIECES if rows == SONAR["vocab_size"] else rows - 1 - len(LANGUAGES)


class Tokenizer:
    """Tokens as in SONAR: `[language] + (sentencepiece id + 1) + [</s>]`, padded on the right.

    Ids 0-3 are `<s>`, `<pad>`, `</s>` and `<unk>`. The languages follow the pieces: SONAR's 202,
    which it knows by its 256,000 pieces, or our few. Captions are lower-cased and lose their
    punctuation; for SONAR no more of it than in ML-CLAP, apostrophes and hyphens stay.

    Args:
      model: bytes of a sentencepiece model.
      vocab_size: at least its number of pieces; SONAR's is 256,000.
    """

    def __init__(self, model: bytes, vocab_size: int):
        self._model = sentencepiece.SentencePieceProcessor(model_proto=model)
        sonar = vocab_size == SONAR_PIECES
        own = {language: vocab_size + 1 + i for i, language in enumerate(LANGUAGES)}
        self._language_ids = SONAR_LANGUAGE_IDS if sonar else own
        self._normalize = normalize_as_ml_clap if sonar else normalize

    @property
    def pieces(self) -> int:
        """Number of pieces of the sentencepiece model."""
        return self._model.vocab_size()

    @staticmethod
    def size(vocab_size: int) -> int:
        """Rows of the embedding table for a tokenizer of `vocab_size` pieces."""
        if vocab_size == SONAR_PIECES:
            return SONAR["vocab_size"]
        return vocab_size + 1 + len(LANGUAGES)

    def encode(self, caption: str, language: str, max_tokens: int) -> np.ndarray:
        """int32 `[max_tokens]`; a longer caption loses its last pieces, never its end token."""
        pieces = self._model.encode(self._normalize(caption))[: max_tokens - 2]
        unknown = self._model.unk_id()
        ids = [UNKNOWN_ID if piece == unknown else piece + 1 for piece in pieces]
        tokens = np.full(max_tokens, PAD_ID, np.int32)
        ids = [self._language_ids[language], *ids, END_ID]
        tokens[: len(ids)] = ids
        return tokens
