"""Lists as they are found: any encoding, ragged rows, blank lines."""

import pytest

from supclap_jax.data.list_files import Entry, read_csv, read_jsonl
from supclap_jax.errors import DataError


def test_records_are_numbered_as_an_editor_counts_them(tmp_path):
    """With blank lines; a caption of two lines is one record; all columns are there."""
    path = tmp_path / "clips.csv"
    path.write_text('a,b\n1,2\n\n"x\ny",4\n5\n6,7,8\n')
    assert list(read_csv(path, ("b",))) == [
        Entry(2, {"a": "1", "b": "2"}, ""),
        Entry(4, {"a": "x\ny", "b": "4"}, ""),
        Entry(5, {"a": "5", "b": ""}, "its row has 1 fields, expected 2"),
        Entry(6, {"a": "6", "b": "7"}, "its row has 3 fields, expected 2"),
    ]
    path.write_text("1,2\n")
    assert list(read_csv(path, ("a", "b"), header=False)) == [Entry(1, {"a": "1", "b": "2"}, "")]


def test_the_first_encoding_that_fits_is_used(tmp_path):
    path = tmp_path / "clips.csv"
    for content in ("a\né".encode("utf-8-sig"), "a\né".encode(), "a\né".encode("iso-8859-1")):
        path.write_bytes(content)
        assert [entry.fields for entry in read_csv(path, ("a",))] == [{"a": "é"}]
    with pytest.raises(DataError, match="not a utf-8-sig CSV file"):
        list(read_csv(path, ("a",), encodings=("utf-8-sig",)))


def test_lines_that_are_no_object_are_told_by_number(tmp_path):
    path = tmp_path / "clips.jsonl"
    path.write_text('{"path": "a.wav"}\n\n[1]\n')
    assert list(read_jsonl(path)) == [
        Entry(1, {"path": "a.wav"}, ""),
        Entry(3, {"id": "clips.jsonl:3"}, "its line is no JSON object"),
    ]
