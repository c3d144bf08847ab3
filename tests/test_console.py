"""What long work says as it goes, with and without a terminal."""

import re
import threading
import time

import pytest
from rich.console import Console

from supclap_jax import console
from supclap_jax.console import progress_bar, working


@pytest.fixture
def often(monkeypatch):
    monkeypatch.setattr(console, "INTERVAL", 0.05)


def test_a_line_comes_again_and_again_outside_a_terminal(often, capsys):
    with progress_bar() as bar:
        task = bar.add_task("reading", total=2_000)
        for done in (500, 1_000, 1_500):
            time.sleep(0.1)
            bar.update(task, completed=done, status="loss 1.5")
        time.sleep(0.1)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "reading: 0 of 2,000, 0:00:00 so far"
    assert re.fullmatch(
        r"reading: 1,500 of 2,000, loss 1.5, 0:00:00 so far, 0:00:0\d left", lines[-1]
    )
    assert len(lines) >= 4


def test_work_without_counts_says_for_how_long(often, capsys):
    before = threading.active_count()
    with working("compiling for v5e:2x2"):
        time.sleep(0.2)
    lines = set(capsys.readouterr().out.splitlines())
    assert lines == {"compiling for v5e:2x2: 0:00:00 so far"}
    assert threading.active_count() == before


def test_a_failure_ends_the_lines_and_is_told(often):
    before = threading.active_count()
    with pytest.raises(OSError, match="disk"), working("writing"):
        raise OSError("no disk")
    assert threading.active_count() == before


def test_a_terminal_sees_a_bar_and_no_lines(often, monkeypatch, capsys):
    monkeypatch.setattr(console, "console", Console(force_terminal=True, width=100))
    with progress_bar() as bar:
        bar.update(bar.add_task("reading", total=2), completed=2)
        time.sleep(0.2)
    printed = capsys.readouterr().out
    assert "2/2" in printed
    assert "so far" not in printed
