"""What is imported is declared, what is declared is pinned, and one version is told everywhere."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml

import supclap_jax

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OURS = {"supclap_jax", "tests"}
DISTRIBUTIONS = packages_distributions()
# No extra: jax2onnx asks for an orbax-checkpoint older than ours, and must be installed without it.
ONNX = ("jax2onnx", "onnx", "onnxruntime")


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
        ("supclap_jax", ("train", "beam", "demo", "gcs", "index")),
        ("configs", ("train",)),
        ("tests", ("train", "beam", "test")),
    ],
)
def test_what_is_imported_is_declared(folder, extras):
    known = declared(*extras) | dict.fromkeys(ONNX)
    undeclared = {name: path for name, path in imported(folder).items() if name not in known}
    assert not undeclared


def test_what_is_declared_is_imported():
    """The distributions of `train`; httpx2 and others in functions alone."""
    assert set(declared("train")) <= set(imported("supclap_jax"))


def test_what_is_declared_is_pinned():
    pins = dict(
        line.split("==")
        for file in ("requirements.txt", "requirements-extras.txt")
        for line in (ROOT / file).read_text().splitlines()
        if "==" in line
    )
    pins = {canonical(name): numbers(version) for name, version in pins.items()}
    for name, floor in declared("train", "test", "demo", "gcs", "index").items():
        assert pins[name] >= floor, name


def test_accelerators_bring_all_that_trains():
    for extra in ("tpu", "cuda12", "cuda13", "beam", "demo", "gcs", "index", "test"):
        assert "supclap_jax[train]" in PROJECT["optional-dependencies"][extra]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder that holds what is in the wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    shutil.copytree(ROOT / "supclap_jax", source / "supclap_jax", symlinks=True)
    shutil.copytree(ROOT / "configs", source / "configs")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = "from setuptools.build_meta import build_wheel; build_wheel('..')"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    shutil.rmtree(source)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        wheel.extractall(folder / "installed")
    return folder / "installed"


def test_all_python_files_are_in_the_wheel(installed):
    for source, target in [("supclap_jax", "supclap_jax"), ("configs", "supclap_jax/recipes")]:
        files = {path.relative_to(ROOT / source) for path in (ROOT / source).rglob("*.py")}
        found = {
            path.relative_to(installed / target) for path in (installed / target).rglob("*.py")
        }
        assert files <= found


def test_recipes_and_sweeps_are_found_by_name_after_an_installation(installed, tmp_path):
    program = """
from pathlib import Path
from supclap_jax.config import read_config
from supclap_jax.experiments.sweep_file import read_sweep
print(read_config("soundscape:static", []).loss.svr.radius, len(read_sweep("variants", Path())))
"""
    ran = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
    )
    assert ran.stdout.split() == ["static", "15"], ran.stderr


def test_one_version_is_told_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["version"] == supclap_jax.__version__
    assert citation["license"] == PROJECT["license"]
    released = re.findall(r"^## \[([\d.]+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert released[0] == supclap_jax.__version__
