"""What several tests of figures need."""

import pytest
from matplotlib.figure import Figure


@pytest.fixture
def saved(monkeypatch):
    """The figures that were written, by the name of their file."""
    figures, write = {}, Figure.savefig

    def keep(figure, path, **options):
        write(figure, path, **options)
        figures[path.name] = figure

    monkeypatch.setattr(Figure, "savefig", keep)
    return figures
