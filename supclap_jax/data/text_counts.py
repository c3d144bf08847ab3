"""What becomes of captions on their way into the model: counted, so that it can be told."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from supclap_jax.data.text import Tokenizer


class TextCounts(NamedTuple):
    """Numbers of captions.

    Attributes:
      captions: that were looked at.
      cut: longer than the text encoder reads.
      empty: of which normalisation leaves nothing.
      shared: that another clip has as well, in the same language, once normalised.
    """

    captions: int
    cut: int
    empty: int
    shared: int


def count_captions(
    clips: Iterable[Mapping[str, Iterable[str]]], tokenizer: Tokenizer, max_tokens: int
) -> TextCounts:
    """Counts the captions, by language, of each clip."""
    captions, cut, empty = 0, 0, 0
    owners: dict[tuple[str, str], list[int]] = defaultdict(list)
    for clip, by_language in enumerate(clips):
        for language, texts in by_language.items():
            for text in texts:
                normalized, room = tokenizer.normalize(text), max_tokens - 2
                captions += 1
                empty += not normalized
                cut += len(tokenizer.pieces_of(text)) > room
                owners[language, normalized].append(clip)
    shared = sum(len(those) for those in owners.values() if len(set(those)) > 1)
    return TextCounts(captions, cut, empty, shared)


def told(counts: TextCounts, max_tokens: int) -> list[str]:
    """A sentence for each count that is not zero."""
    what = {
        "cut": f"longer than the text encoder reads, and cut (text.max_tokens is {max_tokens})",
        "empty": "without a letter or digit, and embedded as empty",
        "shared": "the caption of another clip too, so that no ranking can tell these clips apart",
    }
    found = ((getattr(counts, name), text) for name, text in what.items())
    total = f"of {counts.captions:,} captions"
    return [f"{number:,} {total} are {text}." for number, text in found if number]
