"""What a field may hold: its type, its bounds, and the sentence that says so.

Every check has a `sentence` that follows "expected" in an error and stands in the reference.
"""

import difflib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict, FieldReference

from supclap_jax.config.language_codes import SONAR_LANGUAGES
from supclap_jax.config.named_objects import is_reference

LARGEST = sys.float_info.max


class Check:
    """One value's check; subclasses say what passes, or what is wrong in words of their own."""

    sentence: str
    type: type

    def passes(self, value: Any) -> bool:
        raise NotImplementedError

    def problem(self, value: Any) -> str | None:
        """What to say of a value after its key; None where it passes."""
        return None if self.passes(value) else f"is {value!r}; expected {self.sentence}"

    def typed(self, value: Any) -> Any:
        """A value that passes, perhaps from JSON, as a ConfigDict is to hold it."""
        return value


@dataclass(frozen=True)
class Number(Check):
    """A finite number within bounds, whole if `type` is int; `why` they are where they are."""

    type: type
    least: float | None = None
    above: float | None = None
    most: float | None = None
    below: float | None = None
    why: str = ""

    def passes(self, value):
        kinds = (int,) if self.type is int else (int, float)
        return (
            type(value) in kinds
            and -LARGEST <= value <= LARGEST  # False for nan
            and (self.least is None or value >= self.least)
            and (self.above is None or value > self.above)
            and (self.most is None or value <= self.most)
            and (self.below is None or value < self.below)
        )

    @property
    def sentence(self):
        bounds = [
            f"{words} {bound:,}"
            for words, bound in (
                ("at least", self.least),
                ("above", self.above),
                ("at most", self.most),
                ("less than", self.below),
            )
            if bound is not None
        ]
        words = " and ".join(bounds) or "a finite number"
        words = {"at least 0": "zero or more", "above 0": "a number above zero"}.get(words, words)
        if self.least is not None and self.most is not None:
            words = f"{self.least:,} to {self.most:,}"
        words = f"a whole number, {words}" if self.type is int else words
        return f"{words} ({self.why})" if self.why else words

    def typed(self, value):
        return self.type(value)


def whole(least: int, most: int | None = None, why: str = "") -> Number:
    """A whole number from `least` to `most`.

    >>> whole(3, why="a tag, a piece and the end").sentence
    'a whole number, at least 3 (a tag, a piece and the end)'
    """
    return Number(int, least=least, most=most, why=why)


def number(
    least: float | None = None,
    *,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
    why: str = "",
) -> Number:
    """A finite number, whole or not: at `least`, or `above`; at `most`, or `below`.

    >>> number(0, below=1).sentence, number(above=0).sentence, number(0).sentence
    ('at least 0 and less than 1', 'a number above zero', 'zero or more')
    """
    return Number(float, least, above, most, below, why)


@dataclass(frozen=True)
class Choice(Check):
    """One of some words."""

    options: tuple[str, ...]
    type = str

    def passes(self, value):
        return value in self.options

    @property
    def sentence(self):
        return f"one of {', '.join(self.options)}"


def choice(*options: str) -> Choice:
    return Choice(options)


@dataclass(frozen=True)
class Named(Check):
    """A name, one of `options` if there are any, or an object of the user's: "module:name"."""

    options: tuple[str, ...] = ()
    type = str

    def passes(self, value):
        if not isinstance(value, str):
            return False
        if not is_reference(value):
            return value in self.options if self.options else value.isidentifier()
        module, name = value.split(":", 1)
        return name.isidentifier() and all(part.isidentifier() for part in module.split("."))

    @property
    def sentence(self):
        known = f"one of {', '.join(self.options)}" if self.options else "a name"
        return f"{known}, or MODULE:NAME of one's own"


class Flag(Check):
    """True or False."""

    sentence = "True or False"
    type = bool

    def passes(self, value):
        return isinstance(value, bool)


class Text(Check):
    """Any text, such as a path; often "" for none."""

    sentence = "text"
    type = str

    def passes(self, value):
        return isinstance(value, str)


@dataclass(frozen=True)
class Either(Check):
    """One of some constants, None among them for an optional field, or what `check` lets pass."""

    constants: tuple[Any, ...]
    check: Check

    def passes(self, value):
        among = any(type(value) is type(c) and value == c for c in self.constants)
        return among or self.check.passes(value)

    @property
    def sentence(self):
        return f"{', '.join(map(repr, self.constants))} or {self.check.sentence}"

    @property
    def type(self):
        types = {type(constant) for constant in self.constants if constant is not None}
        return self.check.type if types <= {self.check.type} else object

    def typed(self, value):
        return FieldReference(value, field_type=self.type) if None in self.constants else value


def either(*constants_then_check: Any) -> Either:
    """Constants or what the last argument, a check, lets pass.

    >>> either(None, "auto", whole(1)).sentence
    "None, 'auto' or a whole number, at least 1"
    """
    *constants, check = constants_then_check
    return Either(tuple(constants), check)


def optional(check: Check) -> Either:
    """None, or what `check` lets pass."""
    return either(None, check)


@dataclass(frozen=True)
class Languages(Check):
    """A tuple of languages that SONAR's tokenizer has, at least one."""

    type = tuple

    def problem(self, value):
        if not isinstance(value, tuple | list):
            return f"is {value!r}; expected a tuple, {self.sentence}"
        strange = [item for item in value if item not in SONAR_LANGUAGES]
        if strange:
            like = difflib.get_close_matches(str(strange[0]), SONAR_LANGUAGES)
            return f"names {strange[0]!r}; expected {', '.join(like) or self.sentence}"
        return None if value else "is empty; name at least one, such as 'eng_Latn'"

    @property
    def sentence(self):
        return "some of SONAR's 202 languages, such as eng_Latn"

    def typed(self, value):
        return tuple(value)


@dataclass(frozen=True)
class Some(Check):
    """A tuple of some of a few words, each once; it may be empty."""

    options: tuple[str, ...]
    type = tuple

    def passes(self, value):
        if not isinstance(value, tuple | list) or not all(isinstance(x, str) for x in value):
            return False
        return len(set(value)) == len(value) and set(value) <= set(self.options)

    @property
    def sentence(self):
        return f"a tuple of some of {', '.join(self.options)}"

    def typed(self, value):
        return tuple(value)


@dataclass(frozen=True)
class Growing(Check):
    """A tuple of numbers, each larger than the last; it may be empty."""

    each: Number
    type = tuple

    def passes(self, value):
        if not isinstance(value, tuple | list) or not all(map(self.each.passes, value)):
            return False
        return list(value) == sorted(set(value))

    @property
    def sentence(self):
        return f"a tuple of growing numbers, each {self.each.sentence}"

    def typed(self, value):
        return tuple(value)


class Weights(Check):
    """Weights of folders by name; it may be empty."""

    sentence = "a weight above 0 for each of some folders"
    type = ConfigDict

    def problem(self, value):
        if not isinstance(value, Mapping):
            return f"is {value!r}; expected {self.sentence}"
        for name, weight in value.items():
            if not number(above=0).passes(weight):
                return f"gives {name!r} the weight {weight!r}; expected above 0"
            if not isinstance(name, str) or not name or Path(name).name != name:
                return f"names {name!r}; expected folders inside data.path"
        return None

    def typed(self, value):
        return ConfigDict(value)
