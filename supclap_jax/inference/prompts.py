"""Classes as text: prompts from templates, and one embedding a class."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from supclap_jax.errors import DataError

PROMPTS = ("This is a sound of {}.",)


def read_prompts(path: Path) -> tuple[str, ...]:
    """Templates from a text file, one with one `{}` on each line; empty lines are skipped.

    Raises:
      DataError: there is no such file, or a line is not a template.
    """
    lines = _read_lines(path, "prompts")
    for number, line in enumerate(lines, 1):
        if line.strip() and line.count("{}") != 1:
            raise DataError(
                f"{path}, line {number}: {line.strip()!r} is no template; expected text with {{}} "
                f"once, such as {PROMPTS[0]!r}"
            )
    templates = tuple(line.strip() for line in lines if line.strip())
    if not templates:
        raise DataError(f"{path} holds no templates; write one a line, such as {PROMPTS[0]!r}")
    return templates


def read_classes(path: Path) -> tuple[str, ...]:
    """Names of classes from a text file, one on each line; empty lines are skipped.

    Raises:
      DataError: there is no such file, it names none, or one twice.
    """
    names = [line.strip() for line in _read_lines(path, "classes") if line.strip()]
    twice = next((name for name in names if names.count(name) > 1), None)
    if not names or twice:
        fault = f"names {twice!r} twice" if twice else "names no classes"
        raise DataError(f"{path} {fault}; expected each class once, one a line")
    return tuple(names)


def label_prompts(labels: Sequence[str], prompt: str = PROMPTS[0]) -> list[str]:
    """One prompt per label, underscores read as spaces: "This is a sound of dog bark."

    Args:
      labels: class names as the data set spells them.
      prompt: text with one `{}`.
    """
    if prompt.count("{}") != 1:
        raise ValueError(f"prompt must contain {{}} once, got {prompt!r}.")
    return [prompt.replace("{}", label.replace("_", " ")) for label in labels]


def class_embeddings(prompts: np.ndarray) -> np.ndarray:
    """The normalised mean of a class's prompts.

    Args:
      prompts: `[templates, classes, dim]`, unit rows.

    Returns:
      `[classes, dim]`, unit rows.
    """
    mean = prompts.mean(axis=0)
    return mean / np.linalg.norm(mean, axis=1, keepdims=True)


def _read_lines(path: Path, what: str) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the {what} in {str(path)!r}: {error}") from error
