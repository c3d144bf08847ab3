"""Tokens: SONAR's numbering, tags, padding, and a tokenizer that depends on the captions alone."""

import numpy as np
import pytest
import sentencepiece

from supclap_jax.config import LANGUAGES
from supclap_jax.data.text import Tokenizer, normalize, train_tokenizer
from supclap_jax.errors import ConfigError
from supclap_jax.models.tokens import check_languages, language_ids, table_rows, vocab_size_of

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
    assert largest == table_rows(80) - 1


def test_same_captions_same_model(model):
    assert train_tokenizer(CAPTIONS, 80) == model


def test_few_captions_give_fewer_pieces():
    model = train_tokenizer(["a b", "b a"] * 3, 5_000)
    assert sentencepiece.SentencePieceProcessor(model_proto=model).vocab_size() < 50


def test_sonars_language_ids_and_table():
    """Reference: the published tokenizer's ids; 202 languages follow 256,000 pieces."""
    model = train_tokenizer(CAPTIONS, 80)
    tokenizer = Tokenizer(model, 256_000)
    batch = [tokenizer.encode("a dog", language, 8) for language in LANGUAGES]
    assert [row[0] for row in batch] == [
        256047, 256057, 256042, 256161, 256127, 256034, 256079, 256200
    ]  # fmt: skip
    assert len({tuple(row[1:]) for row in batch}) == 1
    assert table_rows(256_000) == 256_206


def test_all_of_sonars_languages():
    """Reference: published ids, from all parts of the list."""
    ids = language_ids(256_000)
    assert len(ids) == len(set(ids.values())) == 202
    published = {
        "arb_Arab": 256011, "pes_Arab": 256053, "ita_Latn": 256077, "kaz_Cyrl": 256089,
        "kor_Hang": 256098, "plt_Latn": 256119, "gaz_Latn": 256135, "por_Latn": 256141,
        "rus_Cyrl": 256147, "sat_Beng": 256150, "tur_Latn": 256184, "zho_Hant": 256201,
    }  # fmt: skip
    assert {name: ids[name] for name in published} == published
    check_languages(["por_Latn", "zul_Latn"], 256_000)
    with pytest.raises(ConfigError, match=r"no token for 'por_Latn', .* it has eng_Latn, fra"):
        check_languages(["eng_Latn", "por_Latn"], 8_000)


@pytest.mark.parametrize("vocab_size", [80, 300, 256_000])
def test_the_table_tells_the_vocabulary(vocab_size):
    assert vocab_size_of(table_rows(vocab_size)) == vocab_size


def test_for_sonar_captions_keep_what_ml_clap_keeps(model):
    pieces = sentencepiece.SentencePieceProcessor(model_proto=model)
    caption = "L'eau, mi-figue; «oui»。"
    for vocab_size, words in ((256_000, "l'eau mi-figue «oui»"), (80, "l eau mi figue oui")):
        tokens = Tokenizer(model, vocab_size).encode(caption, "fra_Latn", 64)
        ids = [3 if i == pieces.unk_id() else i + 1 for i in pieces.encode(words)]
        assert tokens[1 : tokens.tolist().index(2)].tolist() == ids
