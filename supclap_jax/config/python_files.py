"""Python files of users, recipes and sweeps: read, and called for what they say."""

import importlib.util
import sys
import textwrap
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from supclap_jax.errors import ConfigError, UserError
from supclap_jax.files import path_of

LONGEST = 300  # letters of what a file raised
INCLUDED = Path(__file__).parents[1] / "recipes"
FOLDERS = {"recipe": INCLUDED, "sweep": INCLUDED / "sweeps"}


def call_in_file(kind: str, reference: str, function: str) -> Any:
    """What `function` of a file returns; an iterator is run to its end, and its items are a list.

    The file's folder is put on Python's path.

    Args:
      kind: "recipe" or "sweep", for messages.
      reference: FILE.py, or the name of one that comes with the package, without folder and ending;
        after a ":" what to give to the function.
      function: its name.

    Raises:
      ConfigError: there is no such file or function, or whatever the file raises, in one line.
    """
    name, *argument = reference.split(":", 1)
    path = find_file(kind, name)
    spec = importlib.util.spec_from_file_location(kind, path)
    if spec is None or not path.is_file():
        files = sorted(FOLDERS[kind].glob("*.py"))
        included = ", ".join(file.stem for file in files if f"def {function}" in file.read_text())
        raise ConfigError(
            f"there is no {kind} {name!r}; expected the path of a Python file, FILE.py, or one of "
            f"{included}, which come with supclap_jax"
        )
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        if not hasattr(module, function):
            raise ConfigError(f"{kind} {name} has no function {function}")
        result = getattr(module, function)(*argument)
        return list(result) if isinstance(result, Iterator) else result
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # a file may raise any kind
        reason = textwrap.shorten(str(error), LONGEST, placeholder=" ...")
        raise ConfigError(
            f"{kind} {name}{_line(path, error)} fails: {type(error).__name__}: {reason}"
        ) from error


def find_file(kind: str, name: str) -> Path:
    """Where FILE.py lies, or the included file of that name; it need not be there."""
    is_file = name.endswith(".py") or "/" in name
    return path_of(name).absolute() if is_file else FOLDERS[kind] / f"{name}.py"


def _line(path: Path, error: BaseException) -> str:
    """Says the file's innermost line that led to an error: ", line 7", or "" if none did."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f", line {error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(path)]
    return f", line {lines[-1]}" if lines else ""
