"""The numbering of tokens that text encoders and tokenizers share: SONAR's, or alike.

Ids 0-3 are `<s>`, `<pad>`, `</s>` and `<unk>`; sentencepiece id i is token i + 1. The languages
follow the pieces: SONAR's 202, which it knows by its 256,000 pieces, or our few.
"""

from supclap_jax.config import LANGUAGES

PAD_ID = 1
END_ID = 2
UNKNOWN_ID = 3

SONAR_PIECES = 256_000
SONAR_ROWS = 256_206
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


def language_ids(vocab_size: int) -> dict[str, int]:
    """The token of each language, for a tokenizer of `vocab_size` pieces."""
    if vocab_size == SONAR_PIECES:
        return SONAR_LANGUAGE_IDS
    return {language: vocab_size + 1 + i for i, language in enumerate(LANGUAGES)}


def table_rows(vocab_size: int) -> int:
    """Rows of the embedding table for a tokenizer of `vocab_size` pieces.

    >>> table_rows(256_000), table_rows(8_000)
    (256206, 8009)
    """
    return SONAR_ROWS if vocab_size == SONAR_PIECES else vocab_size + 1 + len(LANGUAGES)


def vocab_size_of(rows: int) -> int:
    """The `vocab_size` whose embedding table has that many rows; inverse of `table_rows`."""
    return SONAR_PIECES if rows == SONAR_ROWS else rows - 1 - len(LANGUAGES)
