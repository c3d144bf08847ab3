"""A soundscape on disk: Clotho's layout, whatever the workers and interruptions."""

import csv
import dataclasses
import json

import numpy as np
import pytest
import soundfile

from supclap_jax.config import LANGUAGES
from supclap_jax.data.soundscape import Soundscape, scene
from supclap_jax.data.soundscape_captions import captions
from supclap_jax.data.soundscape_files import write_clotho
from supclap_jax.data.soundscape_rendering import render
from tests.data.preparing import files_of


def read(path, encoding="utf-8"):
    with open(path, encoding=encoding, newline="") as file:
        return list(csv.DictReader(file))


def test_layout_on_disk(tmp_path):
    config = Soundscape(seed=1, seconds=2)
    seen = []
    sizes = write_clotho(config, tmp_path, 12, "flac", workers=1, progress=seen.append)
    assert sizes == {"development": 9, "validation": 1, "evaluation": 2}
    assert seen[-1] == 12 and seen == sorted(seen)
    assert json.loads((tmp_path / "soundscape.json").read_text())["clips"] == 12
    columns = ["file_name", *(f"caption_{i}" for i in range(1, 6))]
    for split, size in sizes.items():
        metadata = read(tmp_path / f"clotho_metadata_{split}.csv", "iso-8859-1")
        for index, row in enumerate(metadata):
            drawn = scene(config, split, index)
            assert row["keywords"].split(";") == list(drawn.kinds)
            path = tmp_path / split / row["file_name"]
            assert soundfile.info(path).subtype == "PCM_16"
            audio, rate = soundfile.read(path, dtype="float32")
            assert rate == config.sample_rate
            np.testing.assert_allclose(audio, render(config, drawn), atol=2**-15)
        for language in LANGUAGES:
            suffix = "" if language == "eng_Latn" else f".{language}"
            rows = read(tmp_path / f"clotho_captions_{split}{suffix}.csv")
            assert len(rows) == size == len(metadata) and list(rows[0]) == columns
            for index, row in enumerate(rows):
                assert list(row.values())[1:] == captions(scene(config, split, index), language)
                assert row["file_name"] == metadata[index]["file_name"]
    assert not list(tmp_path.rglob("*.part"))


def test_a_clip_of_several_scenes_is_these_in_a_row(tmp_path):
    config = Soundscape(seed=1, seconds=2, scenes=3)
    write_clotho(config, tmp_path, 10, workers=1)
    (row,) = read(tmp_path / "clotho_captions_validation.fra_Latn.csv")
    scenes = [scene(config, "validation", place) for place in range(3)]
    described = [captions(each, "fra_Latn") for each in scenes]
    expected = [" ".join(sentences[i] for sentences in described) for i in range(5)]
    assert list(row.values())[1:] == expected
    audio, _ = soundfile.read(tmp_path / "validation" / row["file_name"], dtype="float32")
    rendered = np.concatenate([render(config, each) for each in scenes])
    np.testing.assert_allclose(audio, rendered, atol=2**-15)
    (row,) = read(tmp_path / "clotho_metadata_validation.csv", "iso-8859-1")
    assert set(row["keywords"].split(";")) == {kind for each in scenes for kind in each.kinds}
    assert row["start_end_samples"] == f"[0, {len(audio)}]"
    second = read(tmp_path / "clotho_captions_evaluation.csv")[1]
    assert captions(scene(config, "evaluation", 3), "eng_Latn")[0] in second["caption_1"]


def test_files_do_not_depend_on_workers_and_a_cut_run_is_completed(tmp_path, monkeypatch):
    monkeypatch.setattr("supclap_jax.data.soundscape_files.CLIPS_IN_JOB", 3)
    config = Soundscape(seconds=2)
    one, two = tmp_path / "one", tmp_path / "two"
    write_clotho(config, one, 12, workers=1)
    write_clotho(config, two, 12, workers=2)
    whole = files_of(one)
    assert whole == files_of(two)
    (one / "development" / "development_00003.wav").unlink()
    (one / "clotho_captions_evaluation.csv").unlink()
    (one / ".clotho_captions_evaluation.csv.1.part").write_text("what a kill leaves")
    write_clotho(config, one, 12, workers=1)
    assert files_of(one) == whole


def test_a_folder_with_other_content_is_refused(tmp_path):
    config = Soundscape(seconds=2)
    write_clotho(config, tmp_path / "mine", 10, workers=1)
    with pytest.raises(ValueError, match=r"seed=0 \(not 5\)"):
        write_clotho(dataclasses.replace(config, seed=5), tmp_path / "mine", 10)
    with pytest.raises(ValueError, match=r"file_format=wav \(not flac\)"):
        write_clotho(config, tmp_path / "mine", 10, "flac")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.txt").write_text("precious")
    with pytest.raises(ValueError, match="not empty"):
        write_clotho(config, tmp_path / "foreign", 10)
    assert [path.name for path in (tmp_path / "foreign").iterdir()] == ["thesis.txt"]


def test_clips_held_out_by_number(tmp_path):
    config = Soundscape(seconds=2)
    sizes = write_clotho(config, tmp_path / "few", 12, workers=1, held_out=2)
    assert sizes == {"development": 8, "validation": 2, "evaluation": 2}
    write_clotho(config, tmp_path / "many", 12, workers=1)
    few, many = (
        {path.name: path.read_bytes() for path in (tmp_path / name).rglob("*.wav")}
        for name in ("few", "many")
    )
    shared = few.keys() & many.keys()
    assert len(few) == 12 and len(shared) == 8 + 1 + 2
    assert all(few[name] == many[name] for name in shared)
    with pytest.raises(ValueError, match="held_out is 6; expected a number from 1 to 5"):
        write_clotho(config, tmp_path / "none", 12, held_out=6)
