"""Captions to tokens: a sentencepiece model and SONAR's way to number and tag them."""

import io
import unicodedata
from collections.abc import Iterable

import numpy as np
import sentencepiece

from supclap_jax.config import LANGUAGES
from supclap_jax.models.sonar import PAD_ID

END_ID = 2
UNKNOWN_ID = 3


def normalize(caption: str) -> str:
    """Lower case, without punctuation, single spaces (as in ML-CLAP).

    >>> normalize("A dog barks, then  it's silent.")
    'a dog barks then it s silent'
    """
    letters = (" " if unicodedata.category(c).startswith("P") else c for c in caption.lower())
    return " ".join("".join(letters).split())


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


class Tokenizer:
    """Tokens as in SONAR: `[language] + (sentencepiece id + 1) + [</s>]`, padded on the right.

    Ids 0-3 are `<s>`, `<pad>`, `</s>` and `<unk>`; the languages follow the pieces.
    """

    def __init__(self, model: bytes, vocab_size: int):
        self._pieces = sentencepiece.SentencePieceProcessor(model_proto=model)
        self._first_language = vocab_size + 1

    @staticmethod
    def size(vocab_size: int) -> int:
        """Rows of the embedding table for a tokenizer of `vocab_size` pieces."""
        return vocab_size + 1 + len(LANGUAGES)

    def encode(self, caption: str, language: str, max_tokens: int) -> np.ndarray:
        """int32 `[max_tokens]`; a longer caption loses its last pieces, never its end token."""
        pieces = self._pieces.encode(normalize(caption))[: max_tokens - 2]
        unknown = self._pieces.unk_id()
        ids = [UNKNOWN_ID if piece == unknown else piece + 1 for piece in pieces]
        tokens = np.full(max_tokens, PAD_ID, np.int32)
        ids = [self._first_language + LANGUAGES.index(language), *ids, END_ID]
        tokens[: len(ids)] = ids
        return tokens
