"""Captions that are cut, empty or shared are counted, each by its definition."""

import numpy as np
import pytest

from supclap_jax.data.text import Tokenizer, train_tokenizer
from supclap_jax.data.text_counts import TextCounts, count_captions, told
from supclap_jax.models.tokens import PAD_ID


@pytest.fixture(scope="module")
def tokenizer():
    texts = ["a dog barks", "rain falls", "a dog barks and rain falls on a roof"]
    return Tokenizer(train_tokenizer(texts * 3, 60), 60)


def test_captions_are_counted(tokenizer):
    long = "a dog barks and rain falls on a roof"
    room = np.count_nonzero(tokenizer.encode(long, "eng_Latn", 200) != PAD_ID)
    clips = [
        {"eng_Latn": ("A dog barks.", "a dog barks", long), "fra_Latn": ("rain falls",)},
        {"eng_Latn": ("...", "Rain falls!")},
        {"eng_Latn": ("a DOG, barks", "rain")},
        {},
    ]
    assert count_captions(clips, tokenizer, room) == TextCounts(8, 0, 1, 3)
    assert count_captions(clips, tokenizer, room - 1) == TextCounts(8, 1, 1, 3)


def test_only_what_there_is_is_told():
    assert told(TextCounts(1_000, 0, 0, 0), 24) == []
    first, second = told(TextCounts(1_000, 20, 0, 3), 24)
    assert first.startswith("20 of 1,000 captions are longer") and "text.max_tokens is 24" in first
    assert second.startswith("3 of 1,000 captions are the caption of another clip")
