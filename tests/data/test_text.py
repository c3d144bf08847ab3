"""Tokens: SONAR's numbering, tags, padding, and a tokenizer that depends on the captions alone."""

import numpy as np
import pytest
import sentencepiece

from supclap_jax.config import LANGUAGES
from supclap_jax.data.text import Tokenizer, normalize, train_tokenizer

CAPTIONS = ["a dog barks twice", "the rain falls on a roof", "un chien aboie", "犬が二回吠える"] * 9


@pytest.fixture(scope="module")
def model():
    return train_tokenizer(CAPTIONS, 80)


def test_normalize_drops_case_and_punctuation_of_any_script():
    assert normalize("«Un chien», dit-il…  犬が、吠える。") == "un chien dit il 犬が 吠える"


def test_tokens_are_sonars(model):
    """Reference: sentencepiece itself, with SONAR's shift by one."""
    pieces = sentencepiece.SentencePieceProcessor(model_proto=model).encode("the dog barks")
    tokens = Tokenizer(model, 80).encode("The dog barks!", "fra_Latn", 20)
    language = 80 + 1 + LANGUAGES.index("fra_Latn")
    expected = [language, *(piece + 1 for piece in pieces), 2]
    assert tokens.tolist() == expected + [1] * (20 - len(expected))
    assert tokens.dtype == np.int32


def test_unknown_letters_are_id_3(model):
    assert 3 in Tokenizer(model, 80).encode("Ω", "eng_Latn", 8)


def test_long_captions_keep_their_end(model):
    tokens = Tokenizer(model, 80).encode("a dog barks on a roof " * 5, "eng_Latn", 12)
    assert tokens[-1] == 2
    assert 1 not in tokens


def test_every_id_fits_the_embedding_table(model):
    tokenizer = Tokenizer(model, 80)
    largest = max(tokenizer.encode(c, LANGUAGES[-1], 64).max() for c in CAPTIONS)
    assert largest == Tokenizer.size(80) - 1


def test_same_captions_same_model(model):
    assert train_tokenizer(CAPTIONS, 80) == model


def test_few_captions_give_fewer_pieces():
    model = train_tokenizer(["a b", "b a"] * 3, 5_000)
    assert sentencepiece.SentencePieceProcessor(model_proto=model).vocab_size() < 50
