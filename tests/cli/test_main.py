"""What all commands share: they are found, their help, exit codes, and what a bare install says."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import supclap_jax
from supclap_jax.cli import status
from supclap_jax.cli.main import commands, extra_with, main, parse
from supclap_jax.errors import ConfigError, DoesNotFit, Interrupted, exit_codes

ROOT = Path(__file__).parents[2]
COMMANDS = [
    "classify",
    "compare",
    "config",
    "demo",
    "embed",
    "embed-reference",
    "evaluate",
    "export",
    "export-weights",
    "fit",
    "plan",
    "prepare",
    "search",
    "status",
    "sweep",
    "synthesize",
    "train",
]


def python(*arguments):
    """What a fresh interpreter prints, and its exit code."""
    result = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=300
    )
    return result.stdout + result.stderr, result.returncode


def test_every_command_is_found_and_documented(capsys):
    assert list(commands()) == COMMANDS
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert [name for name in listed if name in COMMANDS] == COMMANDS


@pytest.mark.parametrize("name", COMMANDS)
def test_the_examples_of_help_are_command_lines(name, capsys):
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    assert stop.value.code == 0
    examples = capsys.readouterr().out.partition("example:\n")[2].replace("\\\n", "")
    assert examples
    for line in examples.splitlines():
        program, *arguments = shlex.split(line)
        assert (program, arguments[0]) == ("supclap", name)
        options = parse(arguments)
        assert options.run is commands()[name].run
        assert all(word.startswith("--config.") for word in getattr(options, "overrides", []))


def test_no_command_prints_help_and_exits_2(capsys):
    with pytest.raises(SystemExit) as stop:
        main([])
    assert stop.value.code == 2
    printed = capsys.readouterr()
    assert "export-weights" in printed.err
    assert not printed.out


@pytest.mark.parametrize(
    "arguments",
    [
        ["fly"],
        ["evaluate"],
        ["evaluate", "--workdir=x", "--y"],
        ["evaluate", "--workdir=x", "--model=y"],
        ["evaluate", "--workdir=x", "--config.seed=1"],
        ["status", "x"],
    ],
)
def test_wrong_arguments_exit_2(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith("usage: supclap")


def test_overrides_are_what_a_recipe_takes():
    arguments = [
        "train",
        "--config=r.py:x",
        "--config.seed=1",
        "--workdir=w",
        "--config.text.dim=2",
    ]
    options = parse(arguments)
    assert options.overrides == ["--config.seed=1", "--config.text.dim=2"]


def test_the_placeholder_of_help_is_an_unknown_key(tmp_path, capsys):
    recipe = f"--config={ROOT / 'tests' / 'tiny.py'}"
    assert main(["train", recipe, f"--workdir={tmp_path}", "--config.KEY=3"]) == 2
    assert "unknown config key 'KEY'" in capsys.readouterr().err


@pytest.mark.parametrize("columns", [60, 100])
def test_the_table_of_exit_codes_fits_the_terminal(columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    with pytest.raises(SystemExit):
        main(["--help"])
    table = capsys.readouterr().out.partition("exit codes:\n")[2]
    assert max(map(len, table.splitlines())) <= columns
    words = " ".join(table.split())
    for code, meaning in exit_codes().items():
        assert f"{code} {meaning}" in words


def test_version(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"supclap {supclap_jax.__version__}\n"


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (ConfigError("no"), 2, "no"),
        (DoesNotFit("too large"), 3, "too large"),
        (Interrupted(15, "stopped"), 143, "SIGTERM: stopped"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_what_a_user_can_mend_is_one_line(error, code, message, monkeypatch, capsys):
    def fail(_):
        raise error

    monkeypatch.setattr(status, "run", fail)
    assert main(["status", "--workdir=x"]) == code
    assert capsys.readouterr().err == f"supclap: {message}\n"


@pytest.mark.parametrize(
    "error", [KeyError("x"), ModuleNotFoundError("x", name="supclap_jax.x"), ModuleNotFoundError()]
)
def test_an_error_in_the_program_is_not_hidden(error, monkeypatch):
    def fail(_):
        raise error

    monkeypatch.setattr(status, "run", fail)
    with pytest.raises(type(error)):
        main(["status", "--workdir=x"])


def test_the_package_is_a_program():
    output, code = python("-m", "supclap_jax.cli", "status", "--workdir=nowhere")
    assert code == 2
    assert output.startswith("supclap: nowhere holds no run")
    assert output.count("\n") == 1


def test_commands_are_found_without_what_they_run():
    """Help in a tenth of a second, and with jax and numpy alone."""
    output, code = python(
        "-c",
        "import sys\n"
        "before = set(sys.modules)\n"
        "from supclap_jax.cli.main import commands\n"
        "commands()\n"
        "roots = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(roots - sys.stdlib_module_names))",
    )
    assert (output, code) == ("['supclap_jax']\n", 0)


def test_without_an_extra_a_command_says_which_to_install():
    output, code = python(
        "-c",
        "import sys\n"
        "sys.modules['absl'] = None  # as if it were not installed\n"
        "from supclap_jax.cli.main import main\n"
        "sys.exit(main(['status', '--workdir=x']))",
    )
    assert code == 2
    assert output == "supclap: there is no module 'absl'; pip install 'supclap_jax[train]'\n"


def test_the_extra_of_every_dependency_is_known():
    for name in ("absl", "array_record", "grain", "orbax", "tensorboardX", "tensorflow_datasets"):
        assert extra_with(name) == "train"
    assert extra_with("apache_beam") == "beam"
    for name in ("jax", "supclap_jax.losses", "train", ""):
        assert extra_with(name) is None


def test_output_may_be_closed_or_know_ascii_alone(tmp_path):
    """A missing run is code 2 in both; its name, which ASCII lacks, is no error of its own."""
    command = [sys.executable, "-m", "supclap_jax.cli", "status", f"--workdir={tmp_path / 'ü→'}"]
    closed = ["sh", "-c", 'exec "$@" >&-', "sh", *command]
    assert subprocess.run(closed, stderr=subprocess.DEVNULL, timeout=300).returncode == 2
    ascii_alone = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    told = subprocess.run(command, env=ascii_alone, capture_output=True, text=True, timeout=300)
    assert told.returncode == 2
    assert "holds no run" in told.stderr and "Traceback" not in told.stderr
