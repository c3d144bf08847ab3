"""A part of the bad command lines of `benchmarks/adversarial.py`, and what counts as a fault."""

import itertools
import sys
from importlib import import_module
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

adversarial = import_module("adversarial")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def materials(tmp_path_factory):
    return adversarial.make_materials(tmp_path_factory.mktemp("materials"))


def test_bad_command_lines_end_in_a_line(materials, tmp_path):
    lines = list(adversarial.command_lines())
    assert len(lines) >= 300
    for line in itertools.islice(lines, 4, None, 10):
        found = adversarial.attempt(line, materials, tmp_path / "try")
        assert not found["fault"], found


def test_faults_are_seen(materials, tmp_path, monkeypatch):
    line = adversarial.Line(("status", "--workdir={missing}"))
    assert adversarial.attempt(line, materials, tmp_path / "try")["fault"] == ""

    def crash(arguments):
        raise KeyError("x")

    for command, fault in (
        (crash, "KeyError: 'x'"),
        (lambda arguments: 77, "code 77"),
        (lambda arguments: 2, "0 lines of error"),
        (lambda arguments: (materials["folder"] / "new").write_text("x") and 0, "written outside"),
    ):
        monkeypatch.setattr(adversarial, "supclap", command)
        assert fault in adversarial.attempt(line, materials, tmp_path / "try")["fault"]
