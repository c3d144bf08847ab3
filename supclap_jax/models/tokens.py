"""The numbering of tokens that text encoders and tokenizers share: SONAR's, or alike.

Ids 0-3 are `<s>`, `<pad>`, `</s>` and `<unk>`; sentencepiece id i is token i + 1. The languages
follow the pieces: SONAR's 202, which it knows by its 256,000 pieces, or our few.
"""

from collections.abc import Iterable

from supclap_jax.config import LANGUAGES, SONAR_LANGUAGES
from supclap_jax.errors import ConfigError

PAD_ID = 1
END_ID = 2
UNKNOWN_ID = 3

SONAR_PIECES = 256_000
SONAR_ROWS = 256_206


def language_ids(vocab_size: int) -> dict[str, int]:
    """The token of each language, for a tokenizer of `vocab_size` pieces."""
    languages = SONAR_LANGUAGES if vocab_size == SONAR_PIECES else LANGUAGES
    return {language: vocab_size + 1 + i for i, language in enumerate(languages)}


def check_languages(languages: Iterable[str], vocab_size: int) -> None:
    """Raises ConfigError where a tokenizer of `vocab_size` pieces lacks one of the languages."""
    known = language_ids(vocab_size)
    lacking = next((language for language in languages if language not in known), None)
    if lacking is not None:
        raise ConfigError(
            f"the tokenizer has no token for {lacking!r}, a language to be used; it has "
            f"{', '.join(known)}"
        )


def table_rows(vocab_size: int) -> int:
    """Rows of the embedding table for a tokenizer of `vocab_size` pieces.

    >>> table_rows(256_000), table_rows(8_000)
    (256206, 8009)
    """
    return SONAR_ROWS if vocab_size == SONAR_PIECES else vocab_size + 1 + len(LANGUAGES)


def vocab_size_of(rows: int) -> int:
    """The `vocab_size` whose embedding table has that many rows; inverse of `table_rows`."""
    return SONAR_PIECES if rows == SONAR_ROWS else rows - 1 - len(LANGUAGES)
