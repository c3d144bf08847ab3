"""Prepared sets read back: for evaluation, in mixtures, in length buckets; leaks are found."""

import io
import itertools
import json
import os
import pickle
import shutil

import numpy as np
import pytest
import soundfile
import tensorflow_datasets as tfds
from tensorflow_datasets.proto import tf_example_pb2

from supclap_jax.data.audio import read_clip
from supclap_jax.data.batches import audio_batches, training_batches
from supclap_jax.data.clotho import read_clotho
from supclap_jax.data.prepared import Mixture, PreparedSplit, find_leaks, open_training
from supclap_jax.data.text import Tokenizer, train_tokenizer
from supclap_jax.errors import DataError
from tests.data import published
from tests.data.preparing import prepared
from tests.data.published import write_csv, write_sound

pytestmark = pytest.mark.slow

ENGLISH = ("eng_Latn",)


def lengths_table(folder, seconds):
    """A set with one clip of each length."""
    rows = [("path", "caption")]
    for number, length in enumerate(seconds):
        write_sound(folder / f"{number}.wav", seconds=length)
        rows.append((f"{number}.wav", f"a clip {number} of some length"))
    write_csv(folder / "clips.csv", rows)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Prepared sets, in training 10, 4, 12 and 18 clips; the last ones are of two lengths."""
    folder = tmp_path_factory.mktemp("sets")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("supclap_jax.data.rows.CLIPS_IN_SHARD", 4)
        for name in ("audiocaps", "esc50", "vggsound", "wavcaps"):
            prepared(name, published.make(name, folder / "in" / name), folder / name)
        lengths = lengths_table(folder / "in" / "lengths", [0.5] * 12 + [1.5] * 6)
        prepared("table", lengths, folder / "lengths")
    return folder


@pytest.fixture(scope="module")
def prepared_soundscape(soundscape, folder):
    prepared("clotho", soundscape, folder / "soundscape")
    return folder / "soundscape"


@pytest.fixture(scope="module")
def tokenizer(folder):
    mixture = open_training(folder, {"audiocaps": 1.0, "wavcaps": 1.0}, ENGLISH)
    return Tokenizer(train_tokenizer(mixture.some_captions(1_000), 300), 300)


@pytest.fixture
def mixed(config, folder):
    with config.unlocked():
        config.data.mixture = {"wavcaps": 0.7, "audiocaps": 0.3}
        config.data.evaluation = "audiocaps"
    return config


def take(clips, tokenizer, config, count, **options):
    return list(itertools.islice(training_batches(clips, tokenizer, config, **options), count))


def test_a_prepared_set_is_the_set_it_was_made_of(soundscape, prepared_soundscape):
    languages = ("fra_Latn", "eng_Latn")
    files = read_clotho(soundscape, "evaluation", languages)
    clips = PreparedSplit(prepared_soundscape, "test", languages).clips()
    assert clips.captions == files.captions
    assert clips.labels == files.labels
    assert clips.ids == tuple(path.name for path in files.paths)
    assert list(clips.captions) == list(languages)
    for name in ("audio", "audio_lengths"):
        for mine, theirs in zip(
            audio_batches(clips.select([5, 1]), 1.5, 2),
            audio_batches(files.select([5, 1]), 1.5, 2),
            strict=True,
        ):
            np.testing.assert_array_equal(mine[name], theirs[name])
    assert clips.select([5, 1]).ids == (clips.ids[5], clips.ids[1])


def test_training_on_it_is_training_on_the_files(
    soundscape, prepared_soundscape, config, tokenizer
):
    """Same clips, crops and captions, at every step; of 16 bit, which travel as such."""
    files = read_clotho(soundscape, "development", ENGLISH)
    records = open_training(prepared_soundscape, {}, ENGLISH)
    for mine, theirs in zip(
        take(records, tokenizer, config, 4), take(files, tokenizer, config, 4), strict=True
    ):
        assert (mine["audio"].dtype, theirs["audio"].dtype) == (np.int16, np.float32)
        np.testing.assert_array_equal(mine.pop("audio"), theirs.pop("audio") * 2**15)
        for name in theirs:
            np.testing.assert_array_equal(mine[name], theirs[name])


@pytest.mark.parametrize("change", [{"gain_db": 3.0}, {"mixup": 0.5}, {}])
def test_what_may_not_be_of_sixteen_bit_stays_float(
    change, soundscape, prepared_soundscape, config, tokenizer, tmp_path
):
    """Louder and mixed clips, sets in their original form, and sets that do not say."""
    config.data.update(change)
    folder = prepared_soundscape
    if not change:
        folder = shutil.copytree(folder, tmp_path / "older")
        report = json.loads((folder / "report.json").read_text())
        assert report["splits"]["train"].pop("sixteen_bit") is True
        (folder / "report.json").write_text(json.dumps(report))
    batch = take(open_training(folder, {}, ENGLISH), tokenizer, config, 1)[0]
    assert batch["audio"].dtype == np.float32


def test_clips_with_only_a_label_are_captioned_by_it(folder, config, tokenizer):
    records = open_training(folder / "vggsound", {}, ENGLISH)
    batch = take(records, tokenizer, config, 1)[0]
    expected = [
        tokenizer.encode(f"This is a sound of {label}.", "eng_Latn", 24).tolist()
        for label in ("dog barking", "people eating, noisily")
    ]
    assert {tuple(row) for row in batch["tokens"].tolist()} == set(map(tuple, expected))
    assert set(records.some_captions(9)) == {
        "This is a sound of dog barking.",
        "This is a sound of people eating, noisily.",
    }


def test_languages_are_drawn_among_those_of_the_clip(tmp_path, config, tokenizer):
    prepared("table", published.table(tmp_path / "in", clips=8), tmp_path / "out")
    config.data.languages = ("fra_Latn", "eng_Latn", "jpn_Jpan")
    records = open_training(tmp_path / "out", {}, config.data.languages)
    batches = take(records, tokenizer, config, 6)
    tags = np.concatenate([batch["tokens"][:, 0] for batch in batches])
    assert np.unique(tags).tolist() == [301, 302]  # English and French
    assert 0.2 < (tags == 301).mean() < 0.8
    with pytest.raises(DataError, match="neither a label nor a caption in jpn_Jpan"):
        open_training(tmp_path / "out", {}, ("jpn_Jpan",))
    with pytest.raises(DataError, match="no captions in jpn_Jpan; they have them in eng_Latn, fra"):
        PreparedSplit(tmp_path / "out", "train", ("eng_Latn", "jpn_Jpan")).clips()


def test_absent_sets_and_splits_are_said(folder, tmp_path):
    with pytest.raises(DataError, match="is no prepared data set"):
        PreparedSplit(tmp_path, "train", ENGLISH)
    with pytest.raises(DataError, match="has no split 'validation'; it has test"):
        PreparedSplit(folder / "esc50", "validation", ENGLISH)


def test_a_mixture_keeps_its_proportions_and_numbers_its_clips(folder, mixed, tokenizer):
    mixture = open_training(folder, mixed.data.mixture, ENGLISH)
    assert [part[:2] for part in mixture.parts] == [(0, 10), (10, 22)]
    batches = take(mixture, tokenizer, mixed, 25)
    ids = np.concatenate([batch["group_ids"] for batch in batches])
    assert abs((ids < 10).mean() - 0.3) < 0.01
    for start, stop in ((0, 10), (10, 22)):  # each set passes through all its clips
        mine = ids[(ids >= start) & (ids < stop)]
        for epoch in range(len(mine) // (stop - start)):
            these = mine[epoch * (stop - start) : (epoch + 1) * (stop - start)]
            assert sorted(these) == list(range(start, stop))
    for batch in batches[:2]:
        for audio, clip in zip(batch["audio"], batch["group_ids"], strict=True):
            expected, _ = read_clip(mixture[int(clip)].audio, 1.0)
            np.testing.assert_array_equal(audio, expected * 2**15)


@pytest.mark.parametrize(("buckets", "workers"), [((), 1), ((0.75,), 2)])
def test_hosts_workers_and_start_change_nothing(buckets, workers, folder, mixed, tokenizer):
    """With and without length buckets; the last step of 12 is beyond an epoch."""
    with mixed.unlocked():
        mixed.data.mixture = {"wavcaps": 0.7, "lengths": 0.3}
        mixed.data.buckets = buckets
    mixture = open_training(folder, mixed.data.mixture, ENGLISH)
    whole = take(mixture, tokenizer, mixed, 12)
    for hosts in (2, 4):
        parts = [take(mixture, tokenizer, mixed, 12, host=h, hosts=hosts) for h in range(hosts)]
        for step, batch in enumerate(whole):
            for name, values in batch.items():
                shares = [part[step][name] for part in parts]
                np.testing.assert_array_equal(values, np.concatenate(shares))
    for mixed.data.workers, start in ((0, 7), (workers, 3)):
        rest = take(mixture, tokenizer, mixed, 12 - start, start_step=start)
        for mine, theirs in zip(rest, whole[start:], strict=True):
            for name in theirs:
                np.testing.assert_array_equal(mine[name], theirs[name])
    with mixed.unlocked():
        mixed.seed = 1
    other = take(mixture, tokenizer, mixed, 12)
    assert any(
        set(a["group_ids"]) != set(b["group_ids"]) for a, b in zip(whole, other, strict=True)
    )


def test_buckets_hold_clips_of_their_length(folder, config, tokenizer):
    """Two clips of three are short, and so are two batches of three; all clips come in turn."""
    with config.unlocked():
        config.audio.seconds = 1.5
        config.data.buckets = (0.25, 0.5)
        config.batch_size = 6
    records = open_training(folder / "lengths", {}, ENGLISH)
    batches = take(records, tokenizer, config, 9)
    shapes = [batch["audio"].shape for batch in batches]
    assert sorted(shapes) == [(6, 8_000)] * 6 + [(6, 24_000)] * 3
    for batch in batches:
        np.testing.assert_array_equal(batch["audio_lengths"], batch["audio"].shape[1])
        assert ((batch["group_ids"] < 12) == (batch["audio"].shape[1] == 8_000)).all()
    ids = np.concatenate([batch["group_ids"] for batch in batches])
    assert (np.bincount(ids, minlength=18) == 3).all()


def test_mixup_mixes_clips_of_one_set(folder, mixed, tokenizer):
    mixed.data.mixup = 0.9
    mixed.text.max_tokens = 64
    mixture = open_training(folder, mixed.data.mixture, ENGLISH)
    captions = [mixture[clip].captions["eng_Latn"][0] for clip in range(22)]
    pairs = 0
    for batch in take(mixture, tokenizer, mixed, 4):
        for tokens, clip in zip(batch["tokens"], batch["group_ids"], strict=True):
            mates = captions[:10] if clip < 10 else captions[10:]
            texts = [captions[clip], *(f"{captions[clip]} {mate}" for mate in mates)]
            rows = [tokenizer.encode(text, "eng_Latn", 64).tolist() for text in texts]
            pairs += rows.index(tokens.tolist()) > 0
    assert pairs > 20


def test_open_files_do_not_travel_to_workers(folder):
    split = PreparedSplit(folder / "audiocaps", "train", ENGLISH)
    caption = split[3].captions
    copy = pickle.loads(pickle.dumps(split))
    assert len(pickle.dumps(split)) < 1_000
    assert copy[3].captions == caption
    assert copy[3].audio == split[3].audio


@pytest.mark.parametrize(("name", "split"), [("audiocaps", "test"), ("esc50", "test")])
def test_a_record_is_as_tfds_reads_it(folder, name, split):
    mine = PreparedSplit(folder / name, split, ENGLISH)
    theirs = tfds.builder_from_directory(folder / name).as_data_source(split)
    assert len(mine) == len(theirs) > 0
    for index, expected in enumerate(theirs):
        record = mine.record(index)
        assert record["audio"] == expected["audio"]
        assert record["fold"] == expected["fold"]
        for text in ("id", "source"):
            assert record[text] == expected[text].decode()
        for texts in ("captions", "languages", "labels"):
            assert record[texts] == tuple(text.decode() for text in expected[texts])


def test_a_set_of_the_schema_with_one_label_is_read_as_well(folder):
    """Version 1.0.0 had a text "label" where "labels" is now."""
    mine = PreparedSplit(folder / "esc50", "test", ENGLISH)
    new = mine.record(0)
    example = tf_example_pb2.Example.FromString(mine._records[0])
    features = example.features.feature
    features["label"].bytes_list.value.append(features["labels"].bytes_list.value[0])
    del features["labels"]
    mine._records = [example.SerializeToString()]
    assert mine.record(0) == new
    features["label"].bytes_list.value[0] = b""
    mine._records = [example.SerializeToString()]
    assert mine.record(0) == new | {"labels": ()}


def invert(shard):
    data = np.fromfile(shard, np.uint8)
    data[len(data) // 2 :: 1_000] ^= 0xFF
    data.tofile(shard)


DAMAGES = {
    "inverted": invert,
    "cut": lambda shard: os.truncate(shard, shard.stat().st_size // 2),
    "emptied": lambda shard: os.truncate(shard, 0),
    "lost": lambda shard: shard.unlink(),
}


@pytest.mark.parametrize(("damage", "workers"), [*((name, 0) for name in DAMAGES), ("cut", 2)])
def test_a_damaged_shard_is_said_in_one_line(damage, workers, folder, config, tokenizer, tmp_path):
    shutil.copytree(folder / "lengths", tmp_path / "set")
    DAMAGES[damage](next((tmp_path / "set").glob("*-00002-of-*")))
    training = open_training(tmp_path / "set", {}, ENGLISH)
    with config.unlocked():
        config.data.workers = workers
    with pytest.raises(DataError, match=r"'train' cannot be read .*prepare the set again") as error:
        take(training, tokenizer, config, 18)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    "name", ["report.json", "dataset_info.json", "features.json", "index/train.source.npy"]
)
@pytest.mark.parametrize("content", [None, b"", b'{"splits": []}', b"\x93NUMPY\xff"])
def test_a_damaged_list_is_said_in_one_line(name, content, folder, tmp_path):
    shutil.copytree(folder / "lengths", tmp_path / "set")
    path = tmp_path / "set" / name
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(DataError) as error:
        split = PreparedSplit(tmp_path / "set", "train", ENGLISH)
        split.index("source")
        split[0]
    assert len(str(error.value).splitlines()) == 1


def test_leaks_are_found_by_recording_and_by_audio(folder, tmp_path):
    held_out = PreparedSplit(folder / "audiocaps", "test", ENGLISH)
    clean = [PreparedSplit(folder / name, "train", ENGLISH) for name in ("audiocaps", "wavcaps")]
    assert find_leaks(clean, [held_out]) == []
    samples, rate = soundfile.read(io.BytesIO(held_out.record(1)["audio"]))
    source = tmp_path / "in"
    write_sound(source / "own.wav")
    soundfile.write(source / "same.flac", samples, rate)
    soundfile.write(source / "silent.wav", np.zeros(8_000), 16_000)
    rows = [("path", "caption", "id"), ("own.wav", "a", "own"), ("same.flac", "b", "same")]
    rows += [("own.wav", "c", "youtube:-test000002"), ("silent.wav", "d", "silent")]
    write_csv(source / "clips.csv", rows)
    prepared("table", source, tmp_path / "out")
    training = PreparedSplit(tmp_path / "out", "train", ENGLISH)
    where = f"{folder / 'audiocaps'}, test"
    assert find_leaks([training], [held_out]) == [
        ("same", f"its audio is in {where}"),
        ("youtube:-test000002", f"its recording is in {where}"),
    ]


def test_some_captions_are_spread_over_the_set(folder):
    split = PreparedSplit(folder / "audiocaps", "train", ENGLISH)
    assert len(split.some_captions(5)) == 5
    assert len(set(split.some_captions(100))) == 10
    mixture = Mixture([split, PreparedSplit(folder / "wavcaps", "train", ENGLISH)], (1, 1))
    few = mixture.some_captions(8)
    assert len(few) == 8
    assert sum("number" in text for text in few) == 4
