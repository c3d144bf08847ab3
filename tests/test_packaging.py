"""What is imported is declared, what is declared is pinned, and one version is told everywhere."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml

import supclap_jax

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OURS = {"supclap_jax", "tests"}
DISTRIBUTIONS = packages_distributions()


def canonical(distribution):
    return re.sub(r"[-_.]+", "-", distribution).lower()


def named(requirements):
    """Distribution -> lowest version, as numbers, of what comes from elsewhere."""
    found = (
        re.fullmatch(r"([\w-]+)(\[\w+\])?(?:>=([\d.]+))?", requirement).groups()
        for requirement in requirements
    )
    return {canonical(name): numbers(floor) for name, _, floor in found if name not in OURS}


def numbers(version):
    return tuple(map(int, version.split(".")))


def declared(*extras):
    optional = PROJECT["optional-dependencies"]
    return named(
        [*PROJECT["dependencies"], *(line for extra in extras for line in optional[extra])]
    )


def imported(folder):
    """Distribution -> one of the files that import it, anywhere in them."""
    found = {}
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                modules = [node.module]
            else:
                continue
            for module in {name.partition(".")[0] for name in modules}:
                if module not in sys.stdlib_module_names | OURS:
                    name = DISTRIBUTIONS.get(module, [module])[0]
                    found[canonical(name)] = str(path.relative_to(ROOT))
    return found


@pytest.mark.parametrize(
    ("folder", "extras"),
    [
        ("supclap_jax/losses", ()),
        ("supclap_jax", ("train", "beam")),
        ("configs", ("train",)),
        ("tests", ("train", "beam", "test")),
    ],
)
def test_what_is_imported_is_declared(folder, extras):
    known = declared(*extras)
    undeclared = {name: path for name, path in imported(folder).items() if name not in known}
    assert not undeclared


def test_what_is_declared_is_imported():
    """The distributions of `train`; httpx2 and others in functions alone."""
    assert set(declared("train")) <= set(imported("supclap_jax"))


def test_what_is_declared_is_pinned():
    pins = dict(
        line.split("==")
        for line in (ROOT / "requirements.txt").read_text().splitlines()
        if "==" in line
    )
    pins = {canonical(name): numbers(version) for name, version in pins.items()}
    for name, floor in declared("train", "test").items():
        assert pins[name] >= floor, name


def test_accelerators_bring_all_that_trains():
    for extra in ("tpu", "cuda12", "cuda13", "beam", "test"):
        assert "supclap_jax[train]" in PROJECT["optional-dependencies"][extra]


def test_one_version_is_told_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["version"] == supclap_jax.__version__
    assert citation["license"] == PROJECT["license"]
    released = re.findall(r"^## \[([\d.]+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert released[0] == supclap_jax.__version__
