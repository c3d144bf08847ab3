"""The benchmark of accelerators, tiny and on the CPU; and that a step needs no data packages."""

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
PARTS = ("right", "losses", "encoders")  # and PyTorch where there is one
# Imports what a training step needs, traces one, and prints what has been imported meanwhile.
TRACE_A_STEP = """
import sys
import flax.linen, jax, ml_collections, numpy, optax, safetensors
import jax.numpy
jax.jit(lambda x: x + 1).lower(1.0).compile()
before = {name.partition(".")[0] for name in sys.modules}
from supclap_jax.runs.mesh import make_mesh
from supclap_jax.runs.states import abstract_states
from supclap_jax.train.step import make_train_step
from tests import tiny
sys.path.insert(0, "benchmarks")
from inputs import make_batch
config = tiny.get_config()
mesh = make_mesh(1, config.batch_size)
make_train_step(config, mesh).lower(abstract_states(config, mesh), make_batch(config))
print(*{name.partition(".")[0] for name in sys.modules} - before)
"""


def python(*arguments):
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=600
    )


def test_a_step_needs_no_data_packages():
    """Of what is not in the standard library, only what jax, flax and the others bring."""
    result = python("-c", TRACE_A_STEP)
    assert result.returncode == 0, result.stderr
    found = set(result.stdout.split()) - sys.stdlib_module_names
    assert found == {"supclap_jax", "tests", "inputs"}


def test_tiny_runs_all_parts_and_a_second_call_goes_on(tmp_path):
    command = ["benchmarks/accelerator.py", "--tiny", f"--out={tmp_path}"]
    result = python(*command, "--budget=550")
    assert result.returncode == 0, result.stdout + result.stderr
    parts = {name: json.loads((tmp_path / f"{name}.json").read_text()) for name in PARTS}
    assert all(part["complete"] for part in parts.values())
    *judged, repeated = parts["right"]["rows"]
    assert all(row["passed"] for row in judged)
    assert repeated["equal"]  # as on a CPU; elsewhere it is only told
    assert {row["what"] for row in parts["losses"]["rows"]} > {"SigLIP", "InfoNCE"}
    assert {row["what"] for row in parts["encoders"]["rows"]} > {
        "step",
        "audio, forward + backward",
    }
    page = (tmp_path / "README.md").read_text()
    assert page.count("\n## ") == len(PARTS)

    *rows, last = parts["losses"]["rows"]
    killed = parts["losses"] | {"complete": False, "rows": rows}
    (tmp_path / "losses.json").write_text(json.dumps(killed))
    result = python(*command, "--part=losses")
    assert result.returncode == 0, result.stdout + result.stderr
    again = json.loads((tmp_path / "losses.json").read_text())
    assert again["complete"]
    assert again["rows"][:-1] == rows
    assert again["rows"][-1].keys() == last.keys()


def test_a_wrong_number_and_another_machine_are_said(tmp_path):
    row = {"what": "losses", "dtype": "float32", "worst": "svr", "passed": False}
    machine = {"device": "another"}
    content = {"machine": machine, "complete": True, "rows": [row]}
    (tmp_path / "right.json").write_text(json.dumps(content))
    result = python("benchmarks/accelerator.py", "--tiny", f"--out={tmp_path}", "--part=right")
    assert result.returncode == 1
    assert "WRONG: losses, float32: svr" in result.stdout
    assert "holds figures of {'device': 'another'}" in result.stderr
    assert json.loads((tmp_path / "right.json").read_text()) == content


def test_towers_are_as_the_step_has_them(monkeypatch):
    """Dtype, attention and remat of the config reach the module."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    tower_module = import_module("accelerator_parts.encoders").tower_module
    recipe = import_module("inputs").recipe

    given = {"compute_dtype": "bfloat16", "attention": "cudnn", "remat": "full"}
    config = recipe("audiocaps", "info_nce", **given)
    for tower in ("audio", "text"):
        module = tower_module(config, tower)
        assert (module.dtype, module.attention, module.remat) == ("bfloat16", "cudnn", "full")


def test_what_fails_is_a_row_and_is_tried_again(monkeypatch, tmp_path):
    """A slow case of one kind leaves time for another; short memory stays as it is."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    rows_module = import_module("accelerator_parts.rows")
    Case, Rows = rows_module.Case, rows_module.Rows

    def fail(error):
        raise error

    def cases(mended):
        works = {"ms": 1.0}
        broken = lambda: works if mended else fail(ValueError("no kernel"))  # noqa: E731
        yield Case({"what": "broken"}, broken, lambda: 0.0)
        yield Case({"what": "large"}, lambda: fail(rows_module.OutOfMemory()), lambda: 0.0)
        yield Case({"what": "long"}, lambda: works, lambda: 1e9)
        yield Case({"what": "short"}, lambda: works, lambda: 0.0)

    def rows():
        return Rows(tmp_path / "part.json", {"device": "one"})

    first = rows()
    first.measure(cases(mended=False), seconds=100)
    assert [row["what"] for row in first.rows] == ["broken", "large", "short"]
    assert [row["what"] for row in first.failed] == ["broken"]
    again = rows()
    again.measure(cases(mended=True), seconds=100)
    assert again.find(what="broken") == {"what": "broken", "ms": 1.0}
    assert again.find(what="large")["failed"] == rows_module.SHORT
    assert not again.failed
    assert not json.loads((tmp_path / "part.json").read_text())["complete"]
    with pytest.raises(SystemExit, match="choose another folder"):
        Rows(tmp_path / "part.json", {"device": "another"})
