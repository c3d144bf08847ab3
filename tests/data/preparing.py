"""Sets prepared in tests."""

import tensorflow_datasets as tfds

from supclap_jax.data.layouts import read_layout
from supclap_jax.data.preparation import prepare
from supclap_jax.data.rows import Options
from tests.data import published
from tests.data.published import write_csv, write_sound


def shards_of(name, source):
    return read_layout(name, source, Options(template=published.TEMPLATES.get(name, "")))


def prepared(name, source, out, **options):
    return prepare(shards_of(name, source), out, **options)


def records(folder, split):
    return list(tfds.builder_from_directory(folder).as_data_source(split))


def one(tmp_path, rows, **options):
    """A table with these rows, prepared whatever is wrong with it: report and training records."""
    write_csv(tmp_path / "in" / "clips.csv", [("path", "caption", "id"), *rows])
    write_sound(tmp_path / "in" / "good.wav")
    report = prepared("table", tmp_path / "in", tmp_path / "out", max_bad=1.0, **options)
    return report, records(tmp_path / "out", "train")


def files_of(folder):
    """Content of every file by its path in the folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
