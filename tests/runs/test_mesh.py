"""Training on meshes of any shape: the same losses, a share of the memory, states in place."""

import os
import re
from pathlib import Path

import jax
import numpy as np
import pytest

from supclap_jax.config import default, set_variant
from supclap_jax.errors import ConfigError
from supclap_jax.runs import mesh as meshes
from supclap_jax.runs.checkpoints import Checkpoints
from supclap_jax.runs.mesh import make_mesh, mesh_at_hand, mesh_of, put_batch
from supclap_jax.runs.states import abstract_states, init_states
from supclap_jax.train.step import make_train_step
from tests.train.test_step import initial_states, make_batch, program

pytestmark = pytest.mark.slow

GOLDEN = Path(__file__).parents[1] / "golden"
STEPS = 20


@pytest.fixture(autouse=True)
def divide_small_arrays_too(monkeypatch):
    monkeypatch.setattr(meshes, "MIN_SHARDED", 1)


def curve(config, data, fsdp):
    """Losses of `STEPS` steps."""
    config.mesh.update(data=data, fsdp=fsdp)
    mesh, step = program(config)
    states, losses = initial_states(config, mesh), []
    for k in range(STEPS):
        states, metrics = step(states, put_batch(make_batch(config, k), mesh))
        losses.append(float(metrics["loss"]))
    return losses


def test_losses_are_the_same_on_any_mesh(config):
    set_variant(config, "dynamic")
    config.total_steps = STEPS
    alone = curve(config, 1, 1)
    config.loss.block_size, config.mesh.slices = 3, 2
    np.testing.assert_allclose(curve(config, 2, 4), alone, rtol=1e-5)


def test_every_process_has_a_device_in_the_mesh(config, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    config.mesh.data = 1
    with pytest.raises(ConfigError, match="take 1 devices, of 1 of 2 processes"):
        mesh_of(config)


def test_states_stay_inside_a_slice(config):
    """Of two of four devices each: what they gather across slices is the loss's alone."""
    config.loss.block_size = 3
    config.mesh.update(data=4, fsdp=2, slices=2)
    mesh = mesh_of(config)
    assert [[device.id for device in row] for row in mesh.devices] == [
        [0, 1],
        [2, 3],
        [4, 5],
        [6, 7],
    ]
    step = make_train_step(config, mesh)
    batch = put_batch(make_batch(config), mesh)
    text = step.lower(abstract_states(config, mesh), batch).compile().as_text()
    gathers, sums = (
        [line for line in text.splitlines() if f" {kind}(" in line]
        for kind in ("all-gather", "all-reduce")
    )
    assert len(gathers) > 20
    assert all("_on_mesh" in line for line in gathers if crosses(line))
    assert any(crosses(line) for line in sums if "_on_mesh" not in line)  # of gradients


def crosses(line):
    """Whether a collective joins devices of both slices of four."""
    return any(len({device // 4 for device in group}) > 1 for group in groups(line))


def groups(line):
    """Device groups of a collective, in any of the ways that XLA writes them."""
    if lists := re.search(r"replica_groups=\{\{(.*?)\}\}", line):
        return [list(map(int, part.split(","))) for part in lists[1].split("},{")]
    numbers = lambda text: [int(x) for x in text.split(",")]  # noqa: E731
    order = re.search(r"(?:<=|device_ids=\()\[([\d,]+)\](?:T\(([\d,]+)\))?", line)
    ids = np.arange(8)
    if order:
        ids = ids.reshape(numbers(order[1]))
        ids = ids.transpose(numbers(order[2])) if order[2] else ids
    if axes := re.search(r"replica_groups=mesh\[(.*?)\].*? \{('axis_.*?)\}", line):
        sizes = dict(re.findall(r"'(axis_\d+)'=(\d+)", axes[1]))
        ids = ids.reshape([int(size) for size in sizes.values()])
        own = [list(sizes).index(name) for name in re.findall(r"'(axis_\d+)'", axes[2])]
        ids = np.moveaxis(ids, own, range(-len(own), 0))
        return ids.reshape(-1, np.prod([ids.shape[i] for i in range(-len(own), 0)])).tolist()
    shape = numbers(re.search(r"replica_groups=\[([\d,]+)\]<=", line)[1])
    return ids.reshape(shape).tolist()


@pytest.mark.parametrize(
    ("slices", "fsdp", "message"),
    [
        (3, 1, "mesh.slices is 3, which does not divide 8 devices"),
        (4, 4, "mesh.data is 2, but there are 4 slices; a copy of the states stays inside one"),
    ],
)
def test_slices_are_shared_equally(slices, fsdp, message):
    with pytest.raises(ConfigError, match=message):
        make_mesh(-1, 8, fsdp, slices=slices)


def test_eight_devices_hold_an_eighth_of_the_states(config):
    """Arguments of the compiled step, which are the states and a small batch; and averages too."""
    config.audio.update(dim=256, seconds=0.2)
    config.text.update(dim=256, ffn_dim=1024)
    config.ema_decay = 0.9

    def argument_bytes(data, fsdp):
        mesh = make_mesh(data, config.batch_size, fsdp)
        batch = put_batch(make_batch(config), mesh)
        step = make_train_step(config, mesh).lower(abstract_states(config, mesh), batch)
        return step.compile().memory_analysis().argument_size_in_bytes

    assert argument_bytes(1, 8) <= argument_bytes(1, 1) / 7


def test_a_run_is_used_on_the_devices_that_are_there(config, monkeypatch):
    devices = jax.devices()
    for data, fsdp, count, shape in (
        (1, 1, 8, (1, 1)), (1, 8, 8, (1, 8)), (64, 8, 8, (1, 8)), (16, 16, 6, (3, 2)),
        (2, 3, 4, (4, 1)), (1, 8, 1, (1, 1)), (-1, 4, 1, (1, 1)), (4, -1, 2, (2, 1)),
    ):  # fmt: skip
        config.mesh.update(data=data, fsdp=fsdp)
        monkeypatch.setattr(jax, "devices", lambda count=count: devices[:count])
        assert mesh_at_hand(config).devices.shape == shape


def test_a_checkpoint_of_one_mesh_continues_on_another(config, tmp_path):
    set_variant(config, "static")
    config.ema_decay = 0.9
    states = init_states(config, make_mesh(2, config.batch_size, 4))
    checkpoints = Checkpoints(tmp_path, keep_last=1)
    checkpoints.save(states, 1)
    checkpoints.close()
    target = abstract_states(config, make_mesh(1, config.batch_size, 2))
    checkpoints = Checkpoints(tmp_path, keep_last=1)
    restored = checkpoints.restore(1, target)
    checkpoints.close()
    jax.tree.map(np.testing.assert_array_equal, restored, states)
    assert jax.tree.map(lambda x: x.sharding, restored) == jax.tree.map(
        lambda x: x.sharding, target
    )


def test_shardings_are_as_reviewed(monkeypatch):
    """Of CED-Base and SONAR over 8 devices. UPDATE_GOLDEN=1 rewrites the file."""
    monkeypatch.undo()
    state = abstract_states(default(), make_mesh(1, 8, 8)).dual
    lines = []
    for path, leaf in jax.tree.leaves_with_path(state.params):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        lines.append(f"{name} {list(leaf.shape)} {[*leaf.sharding.spec]}\n")
    moments = [leaf for leaf in jax.tree.leaves(state.opt_state) if leaf.ndim]
    places = [(leaf.shape, leaf.sharding) for leaf in jax.tree.leaves(state.params) if leaf.ndim]
    assert [(leaf.shape, leaf.sharding) for leaf in moments] == 2 * places
    path = GOLDEN / "shardings.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text("".join(lines))
    assert "".join(lines) == path.read_text()


@pytest.mark.parametrize(
    ("data", "fsdp", "shape"), [(-1, 1, (8, 1)), (-1, 4, (2, 4)), (2, -1, (2, 4)), (2, 2, (2, 2))]
)
def test_minus_one_takes_what_is_left(data, fsdp, shape):
    assert make_mesh(data, 8, fsdp).devices.shape == shape


@pytest.mark.parametrize(
    ("data", "fsdp", "batch_size", "message"),
    [
        (8, 1, 12, "batch_size 12 is not divisible by the 8 devices of mesh.data and mesh.fsdp"),
        (3, 3, 9, "mesh.data is 3 and mesh.fsdp is 3, but there are 8 devices"),
        (-1, 3, 9, "mesh.data is -1 and mesh.fsdp is 3, but there are 8 devices"),
        (0, 1, 8, "mesh.data is 0"),
        (-2, -4, 8, "mesh.data is -2"),
        (-1, -1, 8, "only one of them can be all that are left"),
    ],
)
def test_what_cannot_be_is_refused(data, fsdp, batch_size, message):
    with pytest.raises(ConfigError, match=message):
        make_mesh(data, batch_size, fsdp)
