"""Clotho's layout on disk, whole and with everything that can be wrong in it."""

import csv
import shutil

import pytest

from supclap_jax.data.clotho import read_clotho
from supclap_jax.errors import DataError

ENGLISH = ("eng_Latn",)


def rewrite(path, change):
    """Lets `change` edit the rows of a CSV file, header first."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    change(rows)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)


@pytest.fixture
def folder(soundscape, tmp_path):
    return shutil.copytree(soundscape, tmp_path / "copy")


def test_reads_audio_captions_and_labels(soundscape):
    clips = read_clotho(soundscape, "evaluation", ("fra_Latn", "eng_Latn"))
    assert len(clips) == 8
    assert list(clips.captions) == ["fra_Latn", "eng_Latn"]
    with (soundscape / "clotho_captions_evaluation.csv").open(encoding="utf-8", newline="") as file:
        for index, row in enumerate(csv.DictReader(file)):
            assert clips.paths[index] == soundscape / "evaluation" / row["file_name"]
            assert clips.captions["eng_Latn"][index] == tuple(
                row[f"caption_{i}"] for i in range(1, 6)
            )
    metadata = (soundscape / "clotho_metadata_evaluation.csv").read_text("iso-8859-1")
    for row, labels in zip(csv.DictReader(metadata.splitlines()), clips.labels, strict=True):
        assert labels == (() if ";" in row["keywords"] else (row["keywords"],))
    assert any(clips.labels)


def test_bom_crlf_and_odd_names_are_read(folder):
    audio = folder / "evaluation"
    odd = 'rain, "heavy" é.wav'
    (audio / "evaluation_00000.wav").rename(audio / odd)
    path = folder / "clotho_captions_evaluation.csv"

    def rename(rows):
        rows[1][0] = odd

    rewrite(path, rename)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_clotho(folder, "evaluation", ENGLISH).paths[0].name == odd


def test_keywords_of_other_data_sets_are_not_labels(folder):
    (folder / "soundscape.json").unlink()
    assert not any(read_clotho(folder, "evaluation", ENGLISH).labels)


def test_absent_audio_is_told_of_the_file_that_names_it(folder):
    (folder / "evaluation" / "evaluation_00001.wav").unlink()
    with pytest.raises(DataError, match=r"evaluation.fra_Latn.csv, row 3: there is no audio"):
        read_clotho(folder, "evaluation", ("fra_Latn", "eng_Latn"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows.clear(), r"columns \(none\); expected file_name, caption_1"),
        (lambda rows: rows.__delitem__(slice(1, None)), "lists no clips"),
        (lambda rows: rows[0].__setitem__(0, "name"), "expected file_name as well"),
        (
            lambda rows: rows[3].__setitem__(2, "  "),
            "row 4: caption_2 of 'evaluation_00002.wav' is",
        ),
        (lambda rows: rows[2].pop(), "row 3: caption_5 .* is empty"),
        (lambda rows: rows[2].append("more"), "row 3: its row has 7 fields, expected 6"),
        (
            lambda rows: rows[2].__setitem__(0, "gone.wav"),
            "row 3: there is no audio file .*gone.wav",
        ),
        (lambda rows: rows[2].__setitem__(0, "../x.wav"), r"row 3: file_name is '\.\./x.wav'"),
        (lambda rows: rows[2].__setitem__(0, rows[1][0]), "row 3: .* is listed twice"),
    ],
)
def test_errors_name_file_and_row(folder, change, message):
    rewrite(folder / "clotho_captions_evaluation.csv", change)
    with pytest.raises(DataError, match=message) as error:
        read_clotho(folder, "evaluation", ENGLISH)
    assert "clotho_captions_evaluation.csv" in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_folder_file_and_language(folder, tmp_path):
    with pytest.raises(DataError, match="supclap synthesize"):
        read_clotho(tmp_path / "nowhere", "evaluation", ENGLISH)
    (folder / "clotho_captions_evaluation.deu_Latn.csv").unlink()
    with pytest.raises(DataError, match=r"no file .*deu_Latn.csv"):
        read_clotho(folder, "evaluation", ("eng_Latn", "deu_Latn"))


def test_languages_must_caption_the_same_clips(folder):
    rewrite(folder / "clotho_captions_evaluation.fra_Latn.csv", lambda rows: rows.pop())
    with pytest.raises(DataError, match=r"'evaluation_00007.wav' is in only one of the two"):
        read_clotho(folder, "evaluation", ("eng_Latn", "fra_Latn"))


def test_not_utf8_is_said(folder):
    path = folder / "clotho_captions_evaluation.csv"
    path.write_bytes(path.read_bytes() + b"\xff\xfe\xff")
    with pytest.raises(DataError, match="not a utf-8-sig CSV"):
        read_clotho(folder, "evaluation", ENGLISH)
