"""The search for settings, on a compiler that is a formula, and on that of TPUs."""

import importlib.util
import json
import math
import shlex

import jax
import pytest

from supclap_jax.cli.main import main
from supclap_jax.config import validate
from supclap_jax.config.recipes import read_config
from supclap_jax.config.values import flatten
from supclap_jax.planning import tuning
from supclap_jax.planning.chips import CHIPS
from tests import tiny

OPTIMIZED = True

CHIP = CHIPS["v5e"]


@pytest.fixture
def large():
    """A recipe whose states do not fit a device, of full size on a topology of eight."""
    config = read_config("pretrain", [])
    config.batch_size, config.microbatch_size = 4_096, 256
    config.mesh.data, config.mesh.fsdp = 1, 8
    return config


def law(table, place):
    """Memory, HBM's and links' bytes that no regression is told, of settings by their counts."""
    held, rows, _ = table.counts["memory"][place]
    weights = table.counts["hbm"][place][-2]
    gathered, summed = table.counts["links"][place][1:3]
    memory = table.known[place] + 1.15 * held + 6e6 * rows + 3e8
    hbm = 1e11 + 3.5 * table.counts["hbm"][place][0] + 9e10 * math.log2(2 * rows) + weights
    return memory, hbm, 0.6 * gathered + 1.5 * summed + 1e9


@pytest.mark.parametrize("capacity", [8, 16, 32])
def test_finds_the_fastest_that_fits(large, monkeypatch, capacity):
    """Within one percent of the best of all, in eight compilations."""
    tables, size = [], capacity * 2**30

    class Table(tuning._Table):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            tables.append(self)

    class Chip:
        hbm_bytes, flops = size, CHIP.flops
        hbm_rate, ici_rate = CHIP.hbm_rate, CHIP.ici_rate

    def entry_of(table, place):
        memory, hbm, links = law(table, place)
        alone = 0.3 * links / CHIP.ici_rate
        parts = table.flops[place] / CHIP.flops, hbm / CHIP.hbm_rate, 0.7 * links / CHIP.ici_rate
        return {
            "memory": {"total": memory, "capacity": size} if memory < size else None,
            "used": memory - table.known[place],
            "hbm_bytes": hbm,
            "collectives": {"all-gather": {"bytes": links, "exposed": 0.3 * links}},
            "between_slices": {},
            "floor": {"with_exposed": max(parts) + alone},
        }

    def compiled(config, settings, *_):
        return entry_of(tables[0], spaces[0].index(settings)) | {"settings": settings}

    spaces = [list(dict.fromkeys(tuning._space(large, 8)))]
    monkeypatch.setattr(tuning, "_Table", Table)
    monkeypatch.setattr(tuning, "_compiled", compiled)
    monkeypatch.setattr(tuning, "devices_of", lambda *_: jax.devices())
    monkeypatch.setattr(tuning, "CHIPS", {"v5e": Chip})
    result = tuning.tune(large, "v5e:2x4")
    entries = [entry_of(tables[0], place) for place in range(len(spaces[0]))]
    seconds = [
        x["floor"]["with_exposed"]
        for x in entries
        if x["memory"] and x["memory"]["total"] <= 0.95 * size
    ]
    assert result["compilations"] <= 8
    assert result["candidates"] == len(spaces[0]) > 1_000
    assert result["best"][0]["floor"]["with_exposed"] <= 1.01 * min(seconds)


def test_no_traffic_is_predicted_as_none():
    """On one device, and where all of it is hidden."""
    config = tiny.get_config("info_nce")
    space = list(dict.fromkeys(tuning._space(config, 1)))
    table = tuning._Table(config, space, jax.devices()[:1], CHIP, 1)
    nothing = {
        "memory": {"total": 10**9, "capacity": CHIP.hbm_bytes},
        "hbm_bytes": 10**9,
        "collectives": {},
        "between_slices": {},
        "floor": {"with_exposed": 1.0},
    }
    for place in (0, 1):
        table.learn(place, nothing)
        assert table._predicted("links", 0).max() <= 10
        table.faster(0)


def test_only_what_is_accepted_is_proposed():
    """With a mesh that leaves devices idle, and activations on the host, which "none" refuses."""
    config = tiny.get_config("info_nce")
    config.update(batch_size=64, remat="full", audio={"offloaded": ("hidden",)})
    config.mesh.update(data=1, fsdp=4)
    space = list(dict.fromkeys(tuning._space(config, 8)))
    assert {x.data * x.fsdp for x in space} == {8}
    for settings in space:
        validate(tuning.with_settings(config, settings))
    config.mesh.fsdp = 8  # more than a slice of two has
    assert {x.fsdp for x in tuning._space(config, 8, slices=2)} == {1, 2, 4}


def test_encoders_that_keep_nothing_are_only_cut_and_spread():
    config = tiny.get_config("info_nce")
    config.audio.frozen = config.text.frozen = True
    settings = list(tuning._space(config, 4))
    assert {(x.audio_saved, x.text_saved) for x in settings} == {((), ())}
    assert {x.data * x.fsdp for x in settings[1:]} == {4}


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed")
@pytest.mark.slow
def test_what_is_found_can_be_pasted(tmp_path, capsys, monkeypatch):
    """Read again with the overrides, the recipe has the settings that were compiled."""
    monkeypatch.setattr(tuning.tune, "__defaults__", (2, *tuning.tune.__defaults__[1:]))
    out = tmp_path / "tuned.json"
    command = ["plan", "--config=tests/tiny.py:info_nce", "--topology=v5e:2x2", "--tune"]
    assert main([*command, "--config.mesh.data=4", f"--json={out}"]) == 0
    result = json.loads(out.read_text())
    best = result["best"][0]
    assert best["floor"]["with_exposed"] <= result["recipe"]["floor"]["with_exposed"]
    pasted = capsys.readouterr().out.split("\n1: ")[1].splitlines()[0]
    overrides = ["--config.mesh.data=4", *shlex.split(pasted)]
    config = read_config("tests/tiny.py:info_nce", overrides)
    assert {key: flatten(config)[key] for key in best["settings"]} == best["settings"]
