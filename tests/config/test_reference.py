"""docs/config.md is what the table of fields says; `supclap config` prints the same."""

import os
from pathlib import Path

import pytest

from supclap_jax.cli.main import main
from supclap_jax.config import FIELDS
from supclap_jax.config.reference import markdown, table

PAGE = Path(__file__).parents[2] / "docs" / "config.md"


def test_the_page_is_up_to_date():
    """UPDATE_GOLDEN=1 rewrites it."""
    if os.environ.get("UPDATE_GOLDEN"):
        PAGE.write_text(markdown())
    assert markdown() == PAGE.read_text()


def test_the_page_has_a_row_of_six_cells_for_every_field():
    rows = [line for line in markdown().splitlines() if line.startswith("| `")]
    assert sorted(row.split("`")[1] for row in rows) == sorted(FIELDS)
    assert {len(row.split("|")) for row in rows} == {1 + 6 + 1}


@pytest.mark.parametrize(
    ("key", "keys"),
    [
        ("", list(FIELDS)),
        ("seed", ["seed"]),
        ("loss.svr.beta", ["loss.svr.beta"]),
        ("mesh", ["mesh.data", "mesh.fsdp", "mesh.slices"]),
        ("text", [key for key in FIELDS if key.startswith("text.")]),
    ],
)
def test_a_key_or_a_section_is_shown(key, keys):
    assert list(table(key).columns[0].cells) == keys


def test_the_command_prints_what_there_is_to_know_or_the_nearest_key(capsys):
    assert main(["config", "evaluate.ema"]) == 0
    printed = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "evaluate.ema True evaluate the moving average where there is one" in printed
    assert "Expected: True or False. Only with ema_decay above zero." in printed
    assert "A resumed run may change it." in printed
    assert main(["config", "loss.svr.alpa"]) == 2
    assert "nearest known key is 'loss.svr.alpha'" in capsys.readouterr().err
