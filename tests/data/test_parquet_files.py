"""Parquet files: clips joined by their audio, numbered classes by name, damage counted by row."""

import dataclasses

import pyarrow
import pyarrow.parquet as pq
import pytest

from supclap_jax.data.parquet_files import parquet
from supclap_jax.data.preparation_report import show
from supclap_jax.data.rows import Options
from supclap_jax.errors import DataError
from tests.data.preparing import prepared, records
from tests.data.published import encoded, write_parquet, write_sound


def rows_of(source):
    return [row for shard in parquet(source, Options()) for row in shard]


def test_rows_of_equal_audio_are_one_clip_whatever_they_are_called(tmp_path):
    one, other = encoded("one"), encoded("other")
    rows = [
        {"audio": {"bytes": one, "path": "a.flac"}, "text": "A dog"},
        {"audio": {"bytes": other, "path": "a.flac"}, "text": "Rain"},
        {"audio": {"bytes": one, "path": "b.flac"}, "text": "It barks"},
        {"audio": {"bytes": None, "path": None}, "text": "Nothing"},
        {"audio": {"bytes": None, "path": "../c.flac"}, "text": "Outside"},
        {"audio": {"bytes": other, "path": None}, "text": " "},
    ]
    write_parquet(tmp_path / "in" / "clips.parquet", rows)
    report = prepared("parquet", tmp_path / "in", tmp_path / "out", max_bad=1.0)
    found = [
        (record["id"].decode(), [text.decode() for text in record["captions"]])
        for record in records(tmp_path / "out", "train")
    ]
    assert found == [
        ("clips.parquet/a.flac", ["A dog", "It barks"]), ("clips.parquet/a.flac:2", ["Rain"]),
    ]  # fmt: skip
    assert {entry["id"]: entry["reason"] for entry in report["problems"]} == {
        "clips.parquet/4:4": "its row names no file",
        "clips.parquet/../c.flac:5": "its path '../c.flac' leads out of the folder",
    }
    assert (report["read"], report["written"], report["skipped"]) == (4, 2, 2)


def test_a_clip_in_two_files_is_told(tmp_path, capsys):
    for number in range(2):
        name = f"test-{number:05d}-of-00002.parquet"
        rows = [{"audio": encoded("same"), "caption": f"number {number}"}]
        write_parquet(tmp_path / "in" / name, rows)
    report = prepared("parquet", tmp_path / "in", tmp_path / "out")
    assert (report["splits"]["test"]["clips"], report["splits"]["test"]["repeated"]) == (2, 1)
    show(tmp_path / "out", report)
    assert "1 clips of test repeat the audio of another of them" in capsys.readouterr().out


def test_columns_of_paths_numbered_classes_folds_and_languages(tmp_path):
    write_sound(tmp_path / "in" / "test" / "sounds" / "a.wav")
    row = {"path": "sounds/a.wav", "label": [0, 2, 9], "fold": 3, "caption_2": "Zwei"}
    row |= {"caption_1": "Eins", "language": "deu_Latn", "id": "clip"}
    noted = {"label": {"feature": {"names": ["dog", "cat", "rain"], "_type": "ClassLabel"}}}
    write_parquet(tmp_path / "in" / "test" / "0000.parquet", [row], noted)
    [shard] = parquet(tmp_path / "in", Options())
    [found] = shard
    assert shard.split == "test"
    assert dataclasses.asdict(found) == {
        "id": "test/0000.parquet/clip",
        "audio": tmp_path / "in" / "test" / "sounds" / "a.wav",
        "captions": {"deu_Latn": ("Eins", "Zwei")},
        "labels": ("dog", "rain", "9"),
        "fold": 3,
        "source": "test/0000.parquet/clip",
        "start": 0.0,
        "end": None,
        "problem": "",
        "excluded": "",
        "ignored": False,
    }


@pytest.mark.parametrize(
    ("noted", "label", "expected"),
    [
        ({"label": {"names": ["dog", "cat"], "_type": "ClassLabel"}}, 1, ("cat",)),
        ({"label": {"_type": "Value"}}, 1, ("1",)),
        ({"label": "odd"}, 1, ("1",)),
        (None, "rain", ("rain",)),
        (None, None, ()),
    ],
)
def test_labels(noted, label, expected, tmp_path):
    row = {"audio": encoded("a"), "label": label, "caption": "x"}
    [found] = rows_of(write_parquet(tmp_path / "a.parquet", [row], noted))
    assert (found.labels, found.audio) == (expected, row["audio"])


def test_what_hubs_write_in_columns_of_labels_ids_and_folds(tmp_path):
    """Nulls and -1 are no labels, 0 is an id; text that is no Unicode is the fault of its row."""
    noted = {"label": [{"names": ["dog", "cat"], "_type": "ClassLabel"}]}
    labels = ([1, None], [-1], None, [0], [0], [0])
    rows = [
        {"audio": encoded(str(n)), "label": label, "id": n, "fold": fold, "caption": "x"}
        for n, (label, fold) in enumerate(zip(labels, (1, None, 3, -1, 2**40, 2), strict=True))
    ]
    found = rows_of(write_parquet(tmp_path / "a.parquet", rows, noted))
    assert {row.id: (row.labels, row.fold, row.problem) for row in found} == {
        "a.parquet/3": (("dog",), 0, "its fold is '-1'; expected a number from 1"),
        "a.parquet/4": (("dog",), 0, f"its fold is '{2**40}'; expected a number from 1"),
        "a.parquet/0": (("cat",), 1, ""),
        "a.parquet/1": ((), 0, ""),
        "a.parquet/2": ((), 3, ""),
        "a.parquet/5": (("dog",), 2, ""),
    }
    texts = [b"rain", b"\xff\xfe", b"wind"]
    audio = [encoded(str(n)) for n in range(3)]
    columns = {"audio": audio, "caption": pyarrow.array(texts).cast(pyarrow.string(), safe=False)}
    pq.write_table(pyarrow.table(columns), tmp_path / "b.parquet")
    first, second, third = rows_of(tmp_path / "b.parquet")
    assert "its row cannot be read" in first.problem and first.id == "b.parquet/2"
    assert [row.captions["eng_Latn"] for row in (second, third)] == [("rain",), ("wind",)]


def test_rows_of_equal_audio_join_their_labels_and_other_sets_have_other_recordings(tmp_path):
    rows = [
        {"audio": encoded("a"), "label": label, "caption": ""} for label in (None, "dog", "cat")
    ]
    [row] = rows_of(write_parquet(tmp_path / "one" / "train.parquet", rows))
    assert (row.labels, row.problem) == (("dog", "cat"), "")
    [other] = rows_of(
        write_parquet(tmp_path / "two" / "train.parquet", [{**rows[1], "audio": encoded("b")}])
    )
    assert row.source != other.source


def test_splits_are_told_by_file_or_folder(tmp_path):
    expected = {
        "data/train-00000-of-00002.parquet": "train",
        "data/validated-00000-of-00001-0fe.parquet": "validated",
        "data/test-00001-of-00002.parquet": "test",
        "valid/0000.parquet": "validation",
        "my-dev.parquet": "validation",
        "other.parquet": "train",
        "eval/contest.parquet": "test",
    }
    row = {"audio": encoded("a"), "caption": "x"}
    for name in expected:
        write_parquet(tmp_path / name, [row])
    (tmp_path / "._other.parquet").write_bytes(b"\0")
    (tmp_path / "folder.parquet").mkdir()
    *shards, ignored = parquet(tmp_path, Options())
    assert {str(shard.path.relative_to(tmp_path)): shard.split for shard in shards} == expected
    assert [row.ignored for row in ignored] == [True]


def test_damage_is_counted_by_row(tmp_path):
    """A flipped page ends a file's rows; what was before it is whole."""
    rows = [{"audio": encoded(str(n)), "caption": f"number {n}"} for n in range(64)]
    path = write_parquet(tmp_path / "in" / "a.parquet", rows, row_group_size=16, compression="none")
    data = bytearray(path.read_bytes())
    at = data.index(b"number 40") - 30  # the header of that column's page
    data[at : at + 20] = b"\xff" * 20
    path.write_bytes(data)
    report = prepared("parquet", tmp_path / "in", tmp_path / "out", max_bad=1.0)
    assert (report["read"], report["written"], report["skipped"]) == (64, 32, 32)
    assert all("the file is damaged here" in entry["reason"] for entry in report["problems"])


def test_checksums_of_pages_are_held_to(tmp_path):
    rows = [{"audio": encoded("a"), "caption": "UNIQUE"}]
    options = {"write_page_checksum": True, "compression": "none", "use_dictionary": False}
    path = write_parquet(tmp_path / "a.parquet", rows, **options)
    path.write_bytes(path.read_bytes().replace(b"UNIQUE", b"XNIQUE"))
    [row] = rows_of(path)
    assert "the file is damaged here" in row.problem


def test_what_is_no_set_is_refused_before_anything_is_written(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", [{"audio": encoded("a"), "year": 7}])
    with pytest.raises(DataError, match="has the columns audio, year; expected one of audio"):
        parquet(path, Options())
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match=r"lists no clips; expected \.parquet files"):
        parquet(empty, Options())
    columns = {
        "audio": pyarrow.array([], pyarrow.binary()),
        "caption": pyarrow.array([], pyarrow.string()),
    }
    pq.write_table(pyarrow.table(columns), path)
    with pytest.raises(DataError, match="name no clips"):
        prepared("parquet", path, tmp_path / "out")
    whole = write_parquet(path, [{"audio": encoded("a"), "caption": "x"}]).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"cannot be read as Parquet .*is it whole"):
        parquet(path, Options())
