"""Plans for TPU slices that are not there."""

import importlib.util
import json
import math
import os
import re
import subprocess
import sys

import jax
import pytest

from supclap_jax.cli.main import main
from supclap_jax.errors import ConfigError
from supclap_jax.planning import hlo, planner
from supclap_jax.planning.chips import CHIPS
from supclap_jax.planning.communication import between_slices
from supclap_jax.planning.compiled_step import abstract_batch, compile_step, devices_of
from supclap_jax.planning.flops import train_step_flops
from supclap_jax.planning.hosts import host_needs
from supclap_jax.planning.planner import plan
from supclap_jax.planning.roofline import Sent, floor
from supclap_jax.runs.mesh import make_mesh
from supclap_jax.runs.states import abstract_states
from tests import tiny

OPTIMIZED = True

needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed"
)


@pytest.mark.parametrize(
    ("work", "seconds", "bound_by", "with_exposed"),
    [
        ((197e12 * 3, 819e9), 3.0, "matrix", 3.0),
        ((197e12 * 3, 819e9, Sent(200e9, 100e9)), 3.0, "matrix", 3.5),
        ((197e12, 819e9 * 2, Sent(200e9)), 2.0, "hbm", 2.0),
        ((0, 0, Sent(200e9 * 0.5)), 0.5, "interconnect", 0.5),
        ((0, 0, Sent(200e9 * 0.5, 200e9 * 0.3)), 0.5, "interconnect", 0.5),
        ((197e12, 0, Sent(200e9), Sent(3.125e9 * 2, 3.125e9)), 2.0, "network", 2.0),
    ],
)
def test_the_slowest_part_sets_the_floor(work, seconds, bound_by, with_exposed):
    """What nothing hides is added to the longest of the rest."""
    least = floor(CHIPS["v5e"], *work)
    assert (least["seconds"], least["bound_by"]) == (pytest.approx(seconds), bound_by)
    assert least["with_exposed"] == pytest.approx(with_exposed)


@pytest.mark.parametrize(("microbatch_size", "unit"), [(None, 8), (24, 24)])
@pytest.mark.parametrize("most", [48, 53, 100, 1_000, 12_345])
def test_the_search_ends_within_ten_percent(monkeypatch, microbatch_size, unit, most):
    """On a device that holds a batch of `most`, or within the least that batches differ by."""
    tried = []

    def fits(config, devices):
        tried.append(config.batch_size)
        return config.batch_size <= most

    monkeypatch.setattr(planner, "fits", fits)
    config = tiny.get_config()
    config.batch_size, config.microbatch_size = 48, microbatch_size
    found = planner._largest(config, range(8)).batch_size
    assert found <= most < max(1.1 * found, found + unit)
    assert all(size % unit == 0 for size in tried)
    assert len(tried) <= 14


@pytest.mark.parametrize(("rows", "step_seconds"), [(64, 0.5), (128, 2.0)])
def test_what_a_host_must_deliver(rows, step_seconds):
    """Two hosts, clips of 2 s: of each half the rows of a step in its time."""
    config = tiny.get_config()
    config.update(batch_size=rows, audio={"seconds": 2.0}, text={"max_tokens": 24})
    batch = abstract_batch(config, make_mesh(8, rows))
    needs = host_needs(batch, 2.0, step_seconds, hosts=2)
    clips = rows / 2 / step_seconds
    assert needs["hosts"] == 2
    assert needs["clips_per_second"] == pytest.approx(clips)
    assert needs["stored_bytes_per_second"] == pytest.approx(clips * 2 * 16_000 * 2)
    assert needs["decoding_cores"] == pytest.approx(clips / (427 * 5), rel=1e-3)
    assert needs["device_bytes_per_second"] == pytest.approx(clips * (2 * 16_000 * 2 + 4 + 96 + 4))


@needs_libtpu
@pytest.mark.slow
def test_a_plan_adds_up(tmp_path, capsys):
    out = tmp_path / "plan.json"
    options = ["--config.mesh.data=2", "--config.mesh.fsdp=2", f"--json={out}"]
    command = ["plan", "--config=tests/tiny.py:dynamic", "--topology=v5e:2x2", *options]
    assert main(command) == 0
    assert "batch 8, on 4 chips of v5e:2x2" in capsys.readouterr().out
    result = json.loads(out.read_text())
    assert list(result) == [
        *("topology", "slices", "chips", "devices", "chip", "batch_size", "microbatch_size"),
        *("compile_seconds", "memory", "largest", "collectives", "between_slices", "hbm_bytes"),
        *("flops", "floor", "mfu_bound", "clips_per_second", "recipe", "host"),
    ]
    *parts, total, capacity = result["memory"].values()
    assert 0 < sum(parts) == total < capacity
    assert result["collectives"]["all-reduce"]["count"] > 0
    flops = sum(train_step_flops(tiny.get_config("dynamic")).values())
    assert result["floor"]["matrix"] == pytest.approx(flops / 4 / 197e12)
    assert result["recipe"]["chip_hours"] == pytest.approx(
        6 * 4 * result["floor"]["seconds"] / 3600
    )
    assert 0 < result["mfu_bound"] < 1


@needs_libtpu
@pytest.mark.slow
def test_a_chip_may_be_two_devices():
    config = tiny.get_config("info_nce")
    config.mesh.data = 8
    result = plan(config, "tpu7x:2x2x1")
    assert (result["chips"], result["devices"]) == (4, 8)
    flops = sum(train_step_flops(config).values())
    assert result["floor"]["matrix"] == pytest.approx(flops / 4 / 2307e12)
    assert result["recipe"]["chip_hours"] == pytest.approx(4 * result["recipe"]["hours"])
    assert 94 * 2**30 < result["memory"]["capacity"] < 96 * 2**30


@needs_libtpu
@pytest.mark.slow
def test_two_slices_exchange_gradients_and_keys_alone():
    config = tiny.get_config("info_nce")
    config.update(batch_size=16, mesh={"data": 4, "fsdp": 2})
    config.loss.block_size = 2
    program = hlo.parse(compile_step(config, devices_of("v5e:2x2", slices=2)).as_text())
    kinds = re.findall(r'megascale_transfer_type="(\w+)"', str(program))
    assert set(kinds) == {"ALL_REDUCE", "ONE_TO_ONE"}
    crossing = between_slices(program, slices=2)
    assert set(crossing) == {"all-reduce", "collective-permute"}
    params = jax.tree.leaves(abstract_states(config, make_mesh(1, 16)).dual.params)
    gradients = 4 * sum(math.prod(leaf.shape) for leaf in params)
    padding = 4 * 8 * 128 * len(params)  # to whole tiles
    assert gradients <= crossing["all-reduce"]["bytes"] <= gradients + padding


@needs_libtpu
@pytest.mark.slow
def test_what_does_not_fit_ends_with_what_does(capsys):
    """The batch-by-batch matrix of 2^17 rows alone is 16 GiB on each of four chips."""
    options = ["--config.batch_size=131072", "--config.microbatch_size=4", "--config.mesh.data=4"]
    options += ["--config.audio.seconds=0.2"]
    command = ["plan", "--config=tests/tiny.py:info_nce", "--topology=v5e:2x2", *options]
    assert main(command) == 3
    printed = capsys.readouterr()
    assert "batch_size 131072 does not fit the memory of v5e:2x2" in printed.err
    assert "--config.batch_size=65536 --config.microbatch_size=4" in printed.out


@needs_libtpu
@pytest.mark.parametrize(
    ("topology", "message"),
    [
        ("v5e:2x3", "knows no topology 'v5e:2x3'"),
        ("h100:8", "topology is 'h100:8'; expected a generation of v4, v5e, v5p, v6e"),
        ("v5e:2x2", "mesh.data is 8 and mesh.fsdp is 1, but there are 4 devices"),
    ],
)
def test_other_slices_are_refused(topology, message):
    config = tiny.get_config()
    config.mesh.data = 8
    with pytest.raises(ConfigError, match=message):
        plan(config, topology)


def test_without_libtpu_it_says_what_to_install():
    command = [sys.executable, "-m", "supclap_jax.cli", "plan", "--config=tests/tiny.py"]
    environment = {name: x for name, x in os.environ.items() if name != "PYTHONPATH"}
    result = subprocess.run(
        [*command, "--topology=v5e:2x2"], env=environment, capture_output=True, text=True
    )
    assert result.returncode == 2
    assert "pip install --no-deps --target=.venv/libtpu libtpu==" in result.stderr
