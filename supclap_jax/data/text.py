"""Captions to tokens: a sentencepiece model and SONAR's way to number and tag them."""

import io
import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np
import sentencepiece

from supclap_jax.models.tokens import END_ID, PAD_ID, SONAR_PIECES, UNKNOWN_ID, language_ids

LABEL_LANGUAGE = "eng_Latn"
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


def label_caption(labels: Sequence[str]) -> str:
    """A caption for a clip that has only classes.

    >>> label_caption(["dog_bark"])
    'This is a sound of dog bark.'
    >>> label_caption(["dog_bark", "rain", "wind"])
    'This is a sound of dog bark, rain and wind.'
    """
    *others, last = (label.replace("_", " ") for label in labels)
    return f"This is a sound of {' and '.join(filter(None, [', '.join(others), last]))}."


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

    As `models.tokens` numbers them. Captions are lower-cased and lose their punctuation; for SONAR,
    known by its 256,000 pieces, no more of it than in ML-CLAP: apostrophes and hyphens stay.

    Args:
      model: bytes of a sentencepiece model.
      vocab_size: at least its number of pieces; SONAR's is 256,000.
    """

    def __init__(self, model: bytes, vocab_size: int):
        self._model = sentencepiece.SentencePieceProcessor(model_proto=model)
        self._language_ids = language_ids(vocab_size)
        self.normalize = normalize_as_ml_clap if vocab_size == SONAR_PIECES else normalize

    @property
    def serialized(self) -> bytes:
        """The sentencepiece model."""
        return self._model.serialized_model_proto()

    @property
    def pieces(self) -> int:
        """Number of pieces of the sentencepiece model."""
        return self._model.vocab_size()

    def pieces_of(self, caption: str) -> list[int]:
        """The sentencepiece ids of the whole caption, normalised."""
        return self._model.encode(self.normalize(caption))

    def encode(self, caption: str, language: str, max_tokens: int) -> np.ndarray:
        """int32 `[max_tokens]`; a longer caption loses its last pieces, never its end token."""
        pieces = self.pieces_of(caption)[: max_tokens - 2]
        unknown = self._model.unk_id()
        ids = [UNKNOWN_ID if piece == unknown else piece + 1 for piece in pieces]
        tokens = np.full(max_tokens, PAD_ID, np.int32)
        ids = [self._language_ids[language], *ids, END_ID]
        tokens[: len(ids)] = ids
        return tokens
