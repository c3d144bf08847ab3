"""What can go wrong for a user: one class a meaning, each with the exit code of the command.

The message of each is one or two sentences: what was given, what was expected, what to do.
"""

import signal
from argparse import ArgumentTypeError


class UserError(Exception):
    """An error that is not the program's: its message is all that a user needs to see.

    Attributes:
      exit_code: of the command that ends with it.
    """

    exit_code = 2


class ConfigError(UserError, ValueError):
    """bad configuration or arguments"""


class BadArgument(ConfigError, ArgumentTypeError):
    """An argument of a command, whose name argparse puts before the message."""


class DataError(UserError, ValueError):
    """data that cannot be used"""


class RunError(UserError):
    """no such run or checkpoint, or a damaged one"""


class DoesNotFit(UserError):
    """the recipe does not fit the memory of the chips it was planned for"""

    exit_code = 3


class Diverged(UserError):
    """training diverged: too many steps in a row were not finite"""

    exit_code = 4


class Disconnected(UserError):
    """another process of the run is gone"""

    exit_code = 5


class CannotWrite(UserError):
    """checkpoints or metrics cannot be written, such as on a full disk"""

    exit_code = 6


class Interrupted(UserError):
    """stopped by signal N after a checkpoint (130 Ctrl-C, 143 SIGTERM)

    Attributes:
      exit_code: 128 + the signal's number.
    """

    exit_code = 128

    def __init__(self, number: int, message: str):
        super().__init__(f"{signal.Signals(number).name}: {message}")
        self.exit_code = 128 + number


def exit_codes() -> dict[str, str]:
    """Meanings by exit code, in order, from the classes above.

    >>> exit_codes()["4"]
    'training diverged: too many steps in a row were not finite'
    """
    meanings = {"0": "done", "1": "an error in the program"}
    for kind in UserError.__subclasses__():
        code = "128 + N" if kind is Interrupted else str(kind.exit_code)
        meaning = kind.__doc__.splitlines()[0]
        meanings[code] = f"{meanings[code]}; {meaning}" if code in meanings else meaning
    return meanings
