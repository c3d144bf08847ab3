"""The rooms of the package: imports only point down, and every name is found in one place."""

import ast
import graphlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "supclap_jax"
MODULES = sorted(PACKAGE.rglob("*.py"))
ROOMS = [
    "errors",
    "console",
    "files",
    "losses",
    "config",
    "models",
    "data",
    "runs",
    "inference",
    "evaluate",
    "train",
    "planning",
    "experiments",
    "cli",
]
LINES = 350
TABLES = {"config/fields.py", "data/soundscape_phrases.py"}  # data, which may be longer


def name_of(path):
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {name_of(path) for path in MODULES}


def imports(path):
    """Full names of all that a file imports, also in its functions.

    The losses, whose folder may be copied, import each other relatively; nothing else does.
    """
    relative = path.parent.name == "losses"
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level <= relative, f"{path} imports relatively"
            module = f"supclap_jax.losses.{node.module}" if node.level else node.module
            for alias in node.names:
                inner = f"{module}.{alias.name}"
                yield inner if inner in NAMES else module


def room_of(module):
    """A module's room; None of the package itself, which holds its version alone."""
    return [*module.split("."), None][1]


def ours(path):
    return sorted({name for name in imports(path) if name.partition(".")[0] == "supclap_jax"})


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path):
    room = room_of(name_of(path))
    if room is None:
        assert not ours(path)
        return
    below = {None, *ROOMS[: ROOMS.index(room) + 1]}
    up = [name for name in ours(path) if room_of(name) not in below]
    assert not up


def test_imports_make_no_circle():
    graph = {name_of(path): set(ours(path)) - {name_of(path)} for path in MODULES}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names it


def test_the_losses_need_jax_and_numpy_alone():
    known = sys.stdlib_module_names | {"jax", "numpy"}
    for path in sorted((PACKAGE / "losses").glob("*.py")):
        for name in imports(path):
            assert name.split(".")[0] in known or name.startswith("supclap_jax.losses"), path


def test_the_folder_of_the_losses_can_be_copied(tmp_path):
    """Under another name, into a project that has nothing else of this one."""
    shutil.copytree(PACKAGE / "losses", tmp_path / "contrast")
    script = "import contrast, sys; assert 'supclap_jax' not in sys.modules"
    result = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True)
    assert result.returncode == 0, result.stderr.decode()


def test_no_two_modules_share_a_name():
    """But the files of `cli`, named after their commands, and folders."""
    files = [path for path in MODULES if path.stem not in ("__init__", "__main__")]
    folders = [path.parent.name for path in MODULES if path.name == "__init__.py"]
    elsewhere = [path.stem for path in files if path.parent.name != "cli"]
    twice = {name for name in elsewhere if (elsewhere + folders).count(name) > 1}
    commands = {path.stem for path in files if path.parent.name == "cli"}
    assert sorted(twice | commands & set(elsewhere)) == []


def test_no_module_has_a_name_of_the_standard_library():
    parts = {part for name in NAMES for part in name.split(".")}
    assert sorted(parts & sys.stdlib_module_names) == []


def test_files_are_short():
    lengths = {
        str(path.relative_to(PACKAGE)): len(path.read_text().splitlines()) for path in MODULES
    }
    assert {name for name, length in lengths.items() if length > LINES} == TABLES


def test_every_folder_of_modules_is_a_package():
    """Or a wheel leaves it out, and tests of one name collide."""
    for folder in {path.parent for path in [*MODULES, *Path(__file__).parent.rglob("test_*.py")]}:
        assert (folder / "__init__.py").is_file(), folder


def test_every_room_has_tests_that_are_not_slow():
    """`launch/test.sh --fast` leaves out the marked files, and touches every room."""
    for folder in sorted(path.parent for path in Path(__file__).parent.glob("*/__init__.py")):
        files = [path.read_text() for path in folder.glob("test_*.py")]
        assert any("pytestmark = pytest.mark.slow" not in text for text in files), folder.name
