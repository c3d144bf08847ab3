"""The ladders of configs/ladder.py and configs/sweeps/ladder.py."""

from collections import defaultdict
from pathlib import Path

import pytest

from supclap_jax.config import read_config
from supclap_jax.errors import ConfigError
from supclap_jax.experiments.costs import training_cost
from supclap_jax.experiments.sweep_file import read_sweep

ROOT = Path(__file__).parents[2]
LADDER = f"{ROOT}/configs/ladder.py"
CED_MILLIONS = {"tiny": 5.5, "mini": 9.6, "small": 22, "base": 86}  # Dinkel et al., 2308.11957
SOUNDSCAPE = ("w16", "w32", "w48", "w80", "w144")


def configs(sizes):
    return [read_config(f"{LADDER}:{size},info_nce", []) for size in sizes]


def encoder_parameters(sizes):
    return [training_cost(config)["encoder_parameters"] for config in configs(sizes)]


def test_the_real_sizes_are_those_of_ced_with_text_towers_as_large():
    published = [2e6 * millions for millions in CED_MILLIONS.values()]
    assert encoder_parameters(CED_MILLIONS) == pytest.approx(published, rel=0.03)


def test_sizes_of_the_soundscape_cover_a_factor_of_fifty():
    counts = encoder_parameters(SOUNDSCAPE)
    assert counts == sorted(counts) and counts[-1] > 50 * counts[0]


@pytest.mark.parametrize("sizes", [tuple(CED_MILLIONS), SOUNDSCAPE])
def test_one_rule_for_the_learning_rate(sizes):
    products = {config.optimizer.learning_rate * config.audio.dim for config in configs(sizes)}
    assert max(products) == pytest.approx(min(products))


def test_an_unknown_size_is_refused():
    with pytest.raises(ConfigError, match="unknown size 'huge'; expected one of tiny, mini"):
        read_config(f"{LADDER}:huge", [])


def test_the_sweep_has_budgets_that_double_and_branch_before_their_cooldown(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    planned = read_sweep("configs/sweeps/ladder.py", tmp_path)
    budgets, trunks = defaultdict(list), {}
    for run, config, _ in planned:
        if run.trunk is None:
            trunks[run.name] = config
            continue
        trunk, optimizer = trunks[run.trunk], config.optimizer
        assert run.branch_step == config.total_steps - optimizer.decay_steps
        assert run.branch_step in trunk.keep_steps and trunk.total_steps >= run.branch_step
        assert (trunk.audio, trunk.loss) == (config.audio, config.loss)
        budgets[run.trunk].append(config.total_steps)
    assert len(trunks) == 5 * 3
    assert set(map(tuple, budgets.values())) == {(250, 500, 1_000, 2_000)}


def test_no_clip_is_repeated_and_the_saving_is_as_documented(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    planned = read_sweep("configs/sweeps/ladder.py", tmp_path)
    assert max(config.total_steps * config.batch_size for _, config, _ in planned) <= 64_000
    own = sum(config.total_steps - (run.branch_step or 0) for run, config, _ in planned)
    alone = sum(config.total_steps for run, config, _ in planned if run.trunk)
    assert 1 - own / alone == pytest.approx(0.373, abs=0.001)
