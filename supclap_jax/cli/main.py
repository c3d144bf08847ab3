"""The command `supclap`: finds its commands, reads the arguments, runs one.

A command is a module beside this one; `export_weights.py` is `supclap export-weights`. It has

- a docstring, its help; the first line is also its line in the list of commands;
- `EXAMPLE`, command lines to copy;
- `add_arguments(parser)`, which adds its arguments to an `argparse.ArgumentParser`;
- `run(options)`, which does the work. A failure that a user can mend is raised as a `UserError`.

To add a command, add such a file. At its top it imports the standard library, `arguments` and the
errors, and all else where it is used, so that help comes at once and without the extra `train`.
"""

import argparse
import errno
import gc
import importlib
import importlib.metadata
import os
import pkgutil
import re
import shutil
import signal
import sys
import textwrap
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import supclap_jax
from supclap_jax.errors import CannotWrite, ConfigError, UserError, exit_codes

NOT_COMMANDS = ("__main__", "arguments", "main")
# Module -> distribution, where these differ by more than hyphens.
DISTRIBUTIONS = {"absl": "absl_py", "orbax": "orbax_checkpoint"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code."""
    return _run(arguments)[0]


def _run(arguments: Sequence[str] | None) -> tuple[int, bool]:
    """The exit code of a command, and whether it left threads in the midst of something."""
    try:
        options = parse(sys.argv[1:] if arguments is None else arguments)
        from absl import flags

        flags.FLAGS.mark_as_parsed()  # Grain reads its own
        options.run(options)
    except UserError as error:
        return _fail(str(error), error.exit_code), isinstance(error, CannotWrite)
    except OSError as error:
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
        where = f" {str(error.filename)!r}" if error.filename else ""
        reason = error.strerror or str(error)
        code = _fail(
            f"cannot read or write{where}: {reason}; see that it is there, yours and not full",
            CannotWrite.exit_code if is_full else ConfigError.exit_code,
        )
        return code, is_full
    except KeyboardInterrupt:
        return _fail("interrupted", 128 + signal.SIGINT), True
    except ModuleNotFoundError as error:
        extra = extra_with(error.name or "")
        if extra is None:
            raise
        code = _fail(
            f"there is no module {error.name!r}; pip install 'supclap_jax[{extra}]'",
            ConfigError.exit_code,
        )
        return code, False
    return 0, False


def run_and_exit() -> NoReturn:
    """`main`, as a process of its own.

    After a write that failed, or Ctrl-C, it ends at once: Orbax's threads wait minutes for folders
    that do not come, Python for its threads, and XLA's die badly in the middle of a compilation.
    """
    streams = [stream for stream in (sys.stdout, sys.stderr) if stream]  # none where it is closed
    for stream in streams:
        stream.reconfigure(errors="replace")  # a terminal may know ASCII alone
    warnings.showwarning = _show_warning
    code, has_threads = _run(None)
    if code:
        gc.collect()  # the frames of what failed, and the batch in shared memory that they hold
    for stream in streams:
        stream.flush()
    if has_threads:
        os._exit(code)
    sys.exit(code)


def commands() -> dict[str, ModuleType]:
    """The modules of all commands by the name of the command, in alphabetical order."""
    found = (module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)]))
    return {
        name.replace("_", "-"): importlib.import_module(f"supclap_jax.cli.{name}")
        for name in sorted(found)
        if name not in NOT_COMMANDS
    }


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Reads a command line.

    Returns:
      The command's arguments, its `run`, and where it takes a recipe (see `arguments`) `overrides`,
      the arguments that begin with --config.

    Raises:
      SystemExit: with code 0 after help, with code 2 and a line of usage where it cannot be read.
    """
    parser = argparse.ArgumentParser(
        prog="supclap",
        description=supclap_jax.__doc__,
        epilog=_exit_codes(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"supclap {supclap_jax.__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module in commands().items():
        command = subparsers.add_parser(
            name,
            help=module.__doc__.splitlines()[0].rstrip("."),
            description=module.__doc__,
            epilog=f"example:\n{textwrap.indent(module.EXAMPLE, '  ')}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        command.set_defaults(run=module.run)
        if name in arguments:  # of the others nothing is asked, and they may import their choices
            module.add_arguments(command)
    if not arguments:
        parser.print_help(sys.stderr)
        parser.exit(ConfigError.exit_code)
    options, unknown = parser.parse_known_args(arguments)
    if getattr(options, "config", None):
        options.overrides += unknown
    elif unknown:
        parser.error(f"unknown argument {unknown[0]!r}; see 'supclap {options.command} --help'")
    return options


def extra_with(module: str) -> str | None:
    """The extra of this package that installs a module; None if none does."""
    distribution = DISTRIBUTIONS.get(module, module).lower()
    for requirement in importlib.metadata.requires("supclap_jax"):
        name, extra = re.match(r"([\w.-]+)(?:.*extra == \W(\w+))?", requirement).groups()
        if name.replace("-", "_").lower() == distribution:
            return extra
    return None


def _exit_codes() -> str:
    """The table of exit codes, as wide as help is."""
    lines = (
        textwrap.fill(
            f"  {code:9}{meaning}",
            shutil.get_terminal_size().columns - 2,
            subsequent_indent=11 * " ",
        )
        for code, meaning in exit_codes().items()
    )
    return "\n".join(["exit codes:", *lines])


def _show_warning(message, category, filename, lineno, file=None, line=None) -> None:
    """Ours as a line for people; those of libraries as they are."""
    if "supclap_jax" in filename and category is UserWarning:
        print(f"supclap: warning: {message}", file=sys.stderr)
    else:
        print(warnings.formatwarning(message, category, filename, lineno, line), file=sys.stderr)


def _fail(message: str, code: int) -> int:
    print(f"supclap: {message}", file=sys.stderr)
    return code
