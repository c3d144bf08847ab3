"""Noun phrases in eight languages: articles, plurals, agreement and the place of adjectives.

A phrase is made by a function `(noun, quantity, adjectives) -> phrase`; the quantity is a word for
two or more, or "" for one event or a sustained one. An adjective is listed with its forms:
masculine, feminine, their plurals in Romance languages, the stem in German, the bare and the
inflected form in Dutch.
"""

import dataclasses
from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class Noun:
    """A noun of the phrase tables.

    Attributes:
        code: the first letter is its gender, a following `0` marks a mass noun and `p` a plural
            one; in Chinese it is the measure word.
        singular: "" for a plural-only noun; adjectives go where `*` stands, otherwise to the usual
            place of the language.
        plural: as `singular`.
    """

    code: str
    singular: str
    plural: str

    @property
    def gender(self) -> str:
        return self.code[0]

    @property
    def mass(self) -> bool:
        return self.code.endswith("0")

    @classmethod
    def parse(cls, entry: str) -> "Noun":
        """Reads `CODE text` or `CODE singular|plural`."""
        code, text = entry.split(" ", 1)
        singular, _, plural = text.partition("|")
        return cls(code, "", text) if code.endswith("p") else cls(code, singular, plural)


def english(noun: Noun, quantity: str, adjectives: list[str]) -> str:
    """With an indefinite article where the noun can be counted.

    >>> english(Noun.parse("c owl hoot|owl hoots"), "", [])
    'an owl hoot'
    """
    if quantity or not noun.singular:
        return f"{quantity} {_before(noun.plural, adjectives)}".strip()
    text = _before(noun.singular, adjectives)
    if noun.mass:
        return text
    return f"{'an' if text[0] in 'aeio' else 'a'} {text}"


def german(noun: Noun, quantity: str, adjectives: list[str]) -> str:
    """An accusative phrase without a definite article, as every German frame needs."""
    if quantity or not noun.singular:
        words = _before(noun.plural, [f"{stem}e" for stem in adjectives])
        return f"{quantity} {words}".strip()
    ending = {"m": "en", "f": "e", "n": "es"}[noun.gender]
    words = _before(noun.singular, [stem + ending for stem in adjectives])
    return (
        words if noun.mass else {"m": "einen", "f": "eine", "n": "ein"}[noun.gender] + f" {words}"
    )


def dutch(noun: Noun, quantity: str, adjectives: list[str]) -> str:
    """With an indefinite article where the noun can be counted."""
    plural = bool(quantity) or not noun.singular
    inflected = plural or noun.gender != "n"
    forms = [adjective.split()[inflected] for adjective in adjectives]
    words = _before(noun.plural if plural else noun.singular, forms)
    article = "" if plural or noun.mass else "een"
    return f"{quantity or article} {words}".strip()


def romance(
    conjunction: str, article: Callable[[Noun], str]
) -> Callable[[Noun, str, list[str]], str]:
    """The phrases of a language whose adjectives follow the noun, joined by `conjunction`."""

    def phrase(noun: Noun, quantity: str, adjectives: list[str]) -> str:
        plural = bool(quantity) or not noun.singular
        form = (noun.gender == "f") + 2 * plural
        agreed = _enumerate([adjective.split()[form] for adjective in adjectives], conjunction)
        words = _insert(noun.plural if plural else noun.singular, agreed)
        return f"{quantity} {words}" if quantity else article(noun) + words

    return phrase


def french_article(noun: Noun) -> str:
    """Indefinite or partitive, with the space after it."""
    if not noun.singular:
        return "des "
    if noun.mass:
        return {"m": "du ", "f": "de la "}[noun.gender]
    return {"m": "un ", "f": "une "}[noun.gender]


def iberian_article(noun: Noun) -> str:
    """Indefinite, of Spanish and Catalan, with the space after it; mass nouns have none."""
    if noun.mass or not noun.singular:
        return ""
    return {"m": "un ", "f": "una "}[noun.gender]


def japanese(noun: Noun, quantity: str, adjectives: list[str]) -> str:
    """A subject with its particle and count, to be followed by a verb."""
    return noun.singular.replace("*", "".join(adjectives)) + "が" + quantity


def chinese(noun: Noun, quantity: str, adjectives: list[str]) -> str:
    """Count and measure word, adjectives, noun."""
    count = quantity + noun.code if quantity else ""
    return count + ("、".join(adjectives) + "的" if adjectives else "") + noun.singular


def _enumerate(words: list[str], conjunction: str) -> str:
    """Returns "a", "a and b" or "a, b and c"."""
    return f" {conjunction} ".join([*filter(None, [", ".join(words[:-1])]), *words[-1:]])


def _insert(text: str, words: str) -> str:
    """Puts words where `*` stands in a noun, or else behind it."""
    return " ".join((text if "*" in text else f"{text} *").replace("*", words).split())


def _before(text: str, adjectives: list[str]) -> str:
    return f"{', '.join(adjectives)} {text}".strip()
