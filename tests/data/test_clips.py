"""Clips in memory: their fingerprint; files that cannot be used."""

import dataclasses
import shutil

import numpy as np
import pytest
import soundfile

from supclap_jax.data.clips import Clip, without_bad_clips
from supclap_jax.data.clotho import read_clotho
from supclap_jax.errors import DataError

ENGLISH = ("eng_Latn",)


@pytest.fixture
def folder(soundscape, tmp_path):
    return shutil.copytree(soundscape, tmp_path / "copy")


def test_bad_clips_are_refused_or_skipped(folder):
    clips = read_clotho(folder, "evaluation", ENGLISH)
    clips.paths[2].write_bytes(b"")
    soundfile.write(clips.paths[5], np.array([np.inf]), 16_000, "FLOAT")
    with pytest.raises(DataError, match="2 of 8 audio files cannot be used") as error:
        without_bad_clips(clips, "error", lambda done: None)
    assert "evaluation_00002.wav: the file is empty" in str(error.value)
    assert "evaluation_00005.wav: it holds NaN" in str(error.value)
    left, bad = without_bad_clips(clips, "skip", lambda done: None)
    assert set(bad) == {clips.paths[2], clips.paths[5]}
    assert left.paths == tuple(p for i, p in enumerate(clips.paths) if i not in (2, 5))
    assert left.captions["eng_Latn"][2] == clips.captions["eng_Latn"][3]
    assert left.labels[4] == clips.labels[6]


def test_names_are_ids_or_those_of_files(folder):
    clips = read_clotho(folder, "evaluation", ENGLISH)
    assert clips.names == tuple(f"evaluation_{i:05}.wav" for i in range(8))
    assert clips.select([3, 1]).names == ("evaluation_00003.wav", "evaluation_00001.wav")
    assert dataclasses.replace(clips, ids=tuple("abcdefgh")).names == tuple("abcdefgh")


def test_skipping_everything_is_an_error(folder):
    clips = read_clotho(folder, "validation", ENGLISH)
    for path in clips.paths:
        path.write_bytes(b"")
    with pytest.raises(DataError, match="none of the 4 audio files"):
        without_bad_clips(clips, "skip", lambda done: None)


def test_fingerprint_is_of_the_content_not_of_the_place(soundscape, folder):
    here = read_clotho(soundscape, "evaluation", ENGLISH).fingerprint()
    assert read_clotho(folder, "evaluation", ENGLISH).fingerprint() == here

    captions = folder / "clotho_captions_evaluation.csv"
    captions.write_bytes(captions.read_bytes().replace(b".\r\n", b"!\r\n", 1))
    changed = read_clotho(folder, "evaluation", ENGLISH).fingerprint()
    soundfile.write(folder / "evaluation" / "evaluation_00003.wav", np.zeros(9), 16_000)
    shorter = read_clotho(folder, "evaluation", ENGLISH).fingerprint()
    assert len({here, changed, shorter}) == 3


def test_a_clip_without_captions_has_the_text_of_its_labels():
    clip = Clip(b"", {}, ("dog_bark", "rain"))
    assert clip.texts == {"eng_Latn": ("This is a sound of dog bark and rain.",)}
    assert Clip(b"", {"fra_Latn": ("x",)}, ("rain",)).texts == {"fra_Latn": ("x",)}
