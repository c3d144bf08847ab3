"""Every published layout becomes the same kind of shards; bad input is counted or one line."""

import importlib.util
import io
import json
import signal
import subprocess
import sys
import tarfile
import time

import numpy as np
import pytest
import soundfile
import tensorflow_datasets as tfds

from supclap_jax.cli.main import main
from supclap_jax.data import layouts
from supclap_jax.data.audio import read_clip
from supclap_jax.data.layouts import Options, read_layout
from supclap_jax.data.prepare import FEATURES, exclusions, prepare
from supclap_jax.data.prepared import PreparedSplit, find_leaks
from supclap_jax.errors import DataError
from tests.data import published
from tests.data.published import encoded, sound, tar, write_csv, write_sound


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


EXPECTED = {  # clips by split, excluded, and of the first record id, label, fold and source
    "audiocaps": (
        {"train": 10, "validation": 3, "test": 3}, 0,
        ("-train000000_30", "", 0, "youtube:-train000000"),
    ),
    "clotho": (
        {"train": 3, "validation": 3, "test": 3}, 0,
        ("development é 0 (rain, heavy).wav", "", 0, "freesound:3011"),
    ),
    "wavcaps": ({"train": 12}, 2, ("AudioSet_SL/Yyt00000000", "", 0, "youtube:yt00000000")),
    "esc50": ({"test": 4}, 0, ("1-1000-A-0.wav", "dog", 1, "freesound:1000")),
    "urbansound8k": ({"test": 4}, 0, ("500-3-0-0.wav", "dog_bark", 1, "freesound:500")),
    "vggsound": (
        {"train": 4, "test": 4}, 0, ("-vgg_0_30", "dog barking", 0, "youtube:-vgg_0"),
    ),
    "table": ({"train": 4}, 0, ("clip0", "", 0, "clip0")),
    "webdataset": ({"train": 6}, 0, ("00000.tar/0000", "", 0, "train/00000.tar/0000")),
}  # fmt: skip
CAPTIONS = {
    "audiocaps": {"eng_Latn": [f"A sound, number 0 test in {i} way" for i in range(5)]},
    "clotho": {"eng_Latn": [f"Rain of evaluation 0 falls, {i}." for i in range(1, 6)]},
    "wavcaps": {"eng_Latn": ["Music 0 plays."]},
    "table": {"eng_Latn": ["Wind 0 blows."], "fra_Latn": ["Le vent 0 souffle."]},
    "webdataset": {"eng_Latn": ["Water 0000 flows."]},
}


@pytest.mark.parametrize("name", published.LAYOUTS)
def test_every_layout_becomes_the_same_schema(name, tmp_path):
    report = prepared(name, published.make(name, tmp_path / "in"), tmp_path / "out")
    counts, excluded, first = EXPECTED[name]
    assert {split: mine["clips"] for split, mine in report["splits"].items()} == counts
    assert (report["written"], report["excluded"], report["skipped"]) == (
        sum(counts.values()), excluded, 0,
    )  # fmt: skip
    assert report["read"] == report["written"] + excluded
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == report
    clips = {split: records(tmp_path / "out", split) for split in counts}
    assert {split: len(those) for split, those in clips.items()} == counts
    record = clips["train" if "train" in counts else "test"][0]
    assert set(record) == set(FEATURES)
    assert (
        record["id"].decode(), record["label"].decode(), record["fold"], record["source"].decode()
    ) == first  # fmt: skip
    captioned = clips.get("test", clips.get("train"))[0]
    texts = {}
    for text, language in zip(captioned["captions"], captioned["languages"], strict=True):
        texts.setdefault(language.decode(), []).append(text.decode())
    assert texts == CAPTIONS.get(name, {})
    for record in (record for those in clips.values() for record in those):
        info = soundfile.info(io.BytesIO(record["audio"]))
        assert (info.format, info.samplerate) == ("FLAC", record["sample_rate"])
        np.testing.assert_allclose(record["duration"], info.duration, rtol=1e-6)
    assert not list((tmp_path).glob("*.incomplete"))
    assert {path.name for path in (tmp_path / "out").iterdir() if path.is_dir()} == {"index"}


def test_wavcaps_blacklists_are_of_their_subset(tmp_path):
    """FreeSound 100 is blacklisted, SoundBible 100 is another recording."""
    source = published.wavcaps(tmp_path / "in")
    report = prepared("wavcaps", source, tmp_path / "out")
    assert {entry["id"] for entry in report["problems"]} == {
        "AudioSet_SL/Yyt00000001",
        "FreeSound/100",
    }
    assert all(
        entry["excluded"] and entry["reason"] == "blacklisted in blacklist_exclude_test_ac.json"
        for entry in report["problems"]
    )
    whole = read_layout("wavcaps", source, Options(use_blacklist=False))
    assert prepare(whole, tmp_path / "whole")["written"] == 14
    (source / "json_files" / "blacklist" / "blacklist_exclude_test_ac.json").unlink()
    with pytest.raises(DataError, match="holds no blacklist"):
        shards_of("wavcaps", source)


def test_audiocaps_without_all_clips_counts_the_missing(tmp_path, capsys):
    source = published.audiocaps(tmp_path / "in")
    (source / "train" / "Y-train000003.wav").unlink()
    command = ["prepare", "--format=audiocaps", f"--source={source}", f"--out={tmp_path / 'out'}"]
    command.append("--template={split}/Y{youtube_id}.wav")
    assert main(command) == 2
    error = capsys.readouterr().err
    assert "1 of 16 clips cannot be used" in error
    assert "Y-train000003.wav': there is no such file" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()
    assert main([*command, "--max-bad=0.1"]) == 0
    assert "there is no such file" in capsys.readouterr().out
    assert len(records(tmp_path / "out", "train")) == 9
    before = files_of(tmp_path / "out")
    assert main(command) == 0  # it is there already
    assert files_of(tmp_path / "out") == before
    (source / "val.csv").unlink()
    assert main(command) == 2
    assert "exists and is not this data set" in capsys.readouterr().err


def test_repaired_files_are_read_again_after_a_failure(tmp_path):
    source = published.esc50(tmp_path / "in")
    path = next((source / "audio").iterdir())
    whole = path.read_bytes()
    path.write_bytes(b"")
    with pytest.raises(DataError, match="1 of 4 clips"):
        prepared("esc50", source, tmp_path / "out")
    path.write_bytes(whole)
    assert prepared("esc50", source, tmp_path / "out")["written"] == 4


KINDS = {  # subtype, rate, channels, bits kept
    "8 bit": ("PCM_U8", 16_000, 1, 16),
    "16 bit": ("PCM_16", 8_000, 2, 16),
    "24 bit": ("PCM_24", 44_100, 1, 24),
    "float": ("FLOAT", 192_000, 8, 24),
}


@pytest.mark.parametrize("kind", KINDS)
def test_original_audio_is_kept_without_loss(kind, tmp_path):
    subtype, rate, channels, bits = KINDS[kind]
    (tmp_path / "in").mkdir()
    path = write_sound(tmp_path / "in" / "odd.wav", subtype, rate, channels=channels)
    _, [record] = one(tmp_path, [("odd.wav", "A sound", "")], original=True)
    samples, kept_rate = soundfile.read(io.BytesIO(record["audio"]), dtype="float64")
    original, _ = soundfile.read(path, dtype="float64")
    assert kept_rate == rate == record["sample_rate"]
    assert soundfile.info(io.BytesIO(record["audio"])).subtype == f"PCM_{bits}"
    error = 2.0**-24 if subtype == "FLOAT" else 0
    np.testing.assert_allclose(samples, original, rtol=0, atol=error)


@pytest.mark.parametrize("kind", KINDS)
def test_audio_is_what_training_reads(kind, tmp_path):
    """A crop from the start is the original's within 16 bit; the key stays the original's."""
    subtype, rate, channels, _ = KINDS[kind]
    (tmp_path / "in").mkdir()
    path = write_sound(tmp_path / "in" / "odd.wav", subtype, rate, channels=channels, seconds=2.0)
    _, [record] = one(tmp_path, [("odd.wav", "A sound", "")])
    info = soundfile.info(io.BytesIO(record["audio"]))
    assert (info.samplerate, info.channels, info.subtype) == (16_000, 1, "PCM_16")
    assert record["sample_rate"] == 16_000
    np.testing.assert_allclose(record["duration"], 2.0)
    mine, samples = read_clip(record["audio"], 2.0)
    theirs, _ = read_clip(path, 2.0)
    assert abs(samples - 32_000) <= 1
    np.testing.assert_allclose(mine, theirs, rtol=0, atol=2.0**-15)
    (tmp_path / "out").rename(tmp_path / "first")
    one(tmp_path, [("odd.wav", "A sound", "")], original=True)
    keys = [np.load(tmp_path / f / "index" / "train.audio.npy") for f in ("first", "out")]
    np.testing.assert_array_equal(*keys)


def test_floating_point_above_one_is_scaled_not_clipped(tmp_path):
    (tmp_path / "in").mkdir()
    loud = 3 * sound("loud")[:, 0]
    soundfile.write(tmp_path / "in" / "loud.wav", loud, 16_000, "FLOAT")
    _, [record] = one(tmp_path, [("loud.wav", "A sound", "")], original=True)
    samples, _ = soundfile.read(io.BytesIO(record["audio"]))
    np.testing.assert_allclose(samples, loud / max(1, np.abs(loud).max()), atol=2.0**-23)


def test_bad_files_are_skipped_each_with_its_reason(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "empty.wav").write_bytes(b"")
    (folder / "text.wav").write_text("not audio")
    soundfile.write(folder / "nan.wav", np.array([0.1, np.nan]), 16_000, "FLOAT")
    soundfile.write(folder / "inf.wav", np.array([0.1, np.inf]), 16_000, "FLOAT")
    soundfile.write(folder / "nothing.wav", np.zeros(0), 16_000)
    whole = write_sound(folder / "cut.flac", seconds=3.0).read_bytes()
    (folder / "cut.flac").write_bytes(whole[: len(whole) // 2])
    whole = write_sound(folder / "cut.wav").read_bytes()
    (folder / "cut.wav").write_bytes(whole[: len(whole) // 2])
    (folder / "folder.wav").mkdir()
    reasons = {
        "empty.wav": "the file is empty",
        "text.wav": "cannot be decoded",
        "nan.wav": "NaN or infinite",
        "inf.wav": "NaN or infinite",
        "nothing.wav": "no samples",
        "cut.flac": "",
        "cut.wav": "truncated",
        "folder.wav": "not a file",
        "absent.wav": "there is no such file",
        "../good.wav": "leads out of the folder",
        "/etc/passwd": "leads out of the folder",
        "": "names no file",
        "a\0b.wav": "names no file",
    }
    rows = [(name, "A sound", f"{i}") for i, name in enumerate(reasons)]
    report, [record] = one(tmp_path, [*rows, ("good.wav", "A sound", "good")])
    assert record["id"] == b"good"
    assert report["skipped"] == len(reasons)
    told = {entry["id"]: entry["reason"] for entry in report["problems"]}
    for i, reason in enumerate(reasons.values()):
        assert reason in told[str(i)], (told[str(i)], reason)


def test_silence_is_kept_and_counted(tmp_path):
    (tmp_path / "in").mkdir()
    soundfile.write(tmp_path / "in" / "silent.wav", np.zeros(16_000), 16_000)
    report, _ = one(tmp_path, [("silent.wav", "Nothing", ""), ("good.wav", "A sound", "")])
    assert (report["written"], report["silent"]) == (2, 1)
    assert np.load(tmp_path / "out" / "index" / "train.audio.npy").tolist().count(0) == 1


def test_a_crop_of_an_hour(tmp_path):
    (tmp_path / "in").mkdir()
    hour = np.tile((sound("hour", 1.0, 8_000)[:, 0] * 32_767).astype(np.int16), 3_600)
    soundfile.write(tmp_path / "in" / "hour.wav", hour, 8_000)
    _, [record] = one(tmp_path, [("hour.wav", "A sound", "")])
    assert record["duration"] == 3_600
    crop, samples = read_clip(record["audio"], 2.0, 0.9)
    assert samples == 32_000 and crop.any()


@pytest.mark.parametrize("name", ["a b.wav", "quo\"te's.wav", "new\nline.wav", "été 雨.wav"])
def test_odd_names(name, tmp_path):
    write_sound(tmp_path / "in" / name)
    _, [record] = one(tmp_path, [(name, "A sound", "")])
    assert record["id"].decode() == name


@pytest.mark.parametrize(
    ("encoding", "end"), [("utf-8-sig", "\r\n"), ("iso-8859-1", "\n"), ("utf-8", "\r")]
)
def test_tables_of_any_encoding_and_line_end(encoding, end, tmp_path):
    path = write_sound(tmp_path / "in" / "é, b.wav")
    rows = [("path", "caption", "label"), (path.name, "Un son, très doux", "a, b")]
    write_csv(tmp_path / "in" / "clips.csv", rows, encoding=encoding, end=end)
    prepared("table", tmp_path / "in" / "clips.csv", tmp_path / "out")
    [record] = records(tmp_path / "out", "train")
    assert record["captions"][0].decode() == "Un son, très doux"
    assert record["label"] == b"a, b"


def test_captions_empty_long_and_of_one_clip(tmp_path):
    rows = [
        ("good.wav", "x" * 10_000, "1"),
        ("good.wav", "  ", "1"),
        ("good.wav", "second", "1"),
        ("good.wav", "", "2"),
    ]
    report, [record] = one(tmp_path, rows)
    assert [len(text) for text in record["captions"]] == [10_000, 6]
    assert [entry["reason"] for entry in report["problems"]] == ["it has no caption and no label"]


def test_two_clips_with_one_id(tmp_path):
    write_sound(tmp_path / "in" / "other.wav")
    rows = [("good.wav", "one", "same"), ("other.wav", "two", "same")]
    report, [record] = one(tmp_path, rows)
    assert record["captions"] == [b"one"]
    assert report["problems"][0]["reason"] == "another clip has its id"
    assert report["problems"][0]["file"].endswith("other.wav")


def test_jsonl_with_captions_by_language(tmp_path):
    write_sound(tmp_path / "in" / "a.wav")
    lines = [
        {"path": "a.wav", "captions": {"eng_Latn": ["rain"], "deu_Latn": ["Regen", "es regnet"]}},
        {"path": "a.wav", "caption": "x", "id": "odd", "language": "english"},
        ["no object"],
        {"path": "a.wav", "caption": "half a character \ud83d", "id": "half"},
        {"path": 5, "caption": {"eng_Latn": 7}, "id": [], "label": {}},
    ]
    text = "\n".join(map(json.dumps, lines)) + "\n{cut"
    (tmp_path / "in" / "clips.jsonl").write_text(text)
    report = prepared("table", tmp_path / "in", tmp_path / "out", max_bad=1.0)
    [record] = records(tmp_path / "out", "train")
    assert record["languages"] == [b"eng_Latn", b"deu_Latn", b"deu_Latn"]
    assert [entry["reason"] for entry in report["problems"]] == [
        "its language is 'english'; expected a code such as 'eng_Latn'",
        "its line is no JSON object",
        "its name, label or captions are not valid Unicode",
        "its row names no file",
        "its line is no JSON object",
    ]


def test_numbers_in_jsonl_are_ids_and_labels(tmp_path):
    write_sound(tmp_path / "in" / "a.wav")
    lines = [{"path": "a.wav", "id": 0, "label": 7}, {"path": "a.wav", "id": 1, "label": 0}]
    (tmp_path / "in" / "clips.jsonl").write_text("\n".join(map(json.dumps, lines)))
    prepared("table", tmp_path / "in", tmp_path / "out")
    found = [(record["id"], record["label"]) for record in records(tmp_path / "out", "train")]
    assert found == [(b"0", b"7"), (b"1", b"0")]


def test_archives_with_everything_wrong(tmp_path):
    good = encoded("good")
    path = tar(
        tmp_path / "in" / "0.tar",
        [
            ("../evil.flac", good),
            ("/abs.flac", good),
            ("a.flac", good),
            ("a.json", b'{"caption": "A sound"}'),
            ("b.json", b'{"caption": "No audio"}'),
            ("c.flac", good),
            ("c.json", b"{"),
            ("d.flac", b""),
            ("d.txt", b"Empty"),
            ("e.flac", encoded("e")),
            ("e.txt", b"\xff\xfe"),
            ("f.wav", encoded("f", "WAV")),
            ("f.txt", b"Whole"),
            ("z.wav", encoded("z", "WAV")),
            ("z.txt", b"Cut off"),
        ],
    )
    path.write_bytes(path.read_bytes()[:-24_000])
    (tmp_path / "in" / "1.tar").write_text("no archive")
    report = prepared("webdataset", tmp_path / "in", tmp_path / "out", max_bad=1.0)
    assert [record["id"] for record in records(tmp_path / "out", "train")] == [
        b"0.tar/a",
        b"0.tar/f",
    ]
    told = {entry["id"]: entry["reason"] for entry in report["problems"]}
    assert told.pop("0.tar/../evil.flac").endswith("leads out of the folder")
    assert told.pop("0.tar//abs.flac").endswith("leads out of the folder")
    assert "no audio" in told.pop("0.tar/b")
    assert ".json or .txt" in told.pop("0.tar/c")
    assert told.pop("0.tar/d") == "the file is empty"
    assert ".json or .txt" in told.pop("0.tar/e")
    assert "cut or broken" in told.pop("0.tar/z")
    assert "cut or broken" in told.pop("1.tar/(beginning)")
    assert not told
    assert not (tmp_path / "evil.flac").exists()


def captioned(*names):
    """Members of a clip for each name."""
    for name in names:
        yield f"{name}.flac", encoded(name)
        yield f"{name}.json", b'{"caption": "A sound"}'


@pytest.mark.parametrize("kept", ["whole members", "part of a header", "a damaged header"])
def test_an_archive_cut_between_members_is_told(kept, tmp_path):
    path = tar(tmp_path / "in" / "0.tar", [*captioned("a", "b", "c")])
    with tarfile.open(path) as archive:
        begin = archive.getmember("c.flac").offset
    data = bytearray(path.read_bytes())
    data[begin + 10] ^= 0xFF
    ends = {"whole members": begin, "part of a header": begin + 100, "a damaged header": len(data)}
    path.write_bytes(data[: ends[kept]])
    report = prepared("webdataset", tmp_path / "in", tmp_path / "out", max_bad=1.0)
    assert [record["id"] for record in records(tmp_path / "out", "train")] == [b"0.tar/a"]
    [problem] = report["problems"]  # the clip before the cut may lack members too
    assert problem["id"] == "0.tar/b" and "cut or broken" in problem["reason"]


def test_names_with_dots_and_of_two_clips_lose_none(tmp_path):
    names = ["id0_30.000_40.000", "id0_40.000_50.000", "id1_0.5_1.5"]
    members = [*captioned(*names), *captioned("same"), *captioned("same"), ("x.m4a", b"...")]
    tar(tmp_path / "in" / "0.tar", members)
    report = prepared("webdataset", tmp_path / "in", tmp_path / "out", max_bad=1.0)
    ids = [record["id"].decode() for record in records(tmp_path / "out", "train")]
    assert ids == [f"0.tar/{name}" for name in [*names, "same"]]
    told = [(entry["id"], entry["reason"]) for entry in report["problems"]]
    assert [name for name, _ in told] == ["0.tar/same", "0.tar/x"]
    assert told[0][1] == "another clip has its id" and "no audio" in told[1][1]


def test_archives_of_one_name_in_two_splits_are_no_leak(tmp_path):
    for split in ("train", "test"):
        tar(tmp_path / "in" / split / "0.tar", [("0.flac", encoded(split)), ("0.txt", b"A sound")])
    prepared("webdataset", tmp_path / "in", tmp_path / "out")
    train, test = (
        PreparedSplit(tmp_path / "out", name, ("eng_Latn",)) for name in ("train", "test")
    )
    assert not find_leaks([train], [test])


def test_two_clips_with_one_id_in_two_tables(tmp_path):
    for name in ("a", "b"):
        write_sound(tmp_path / "in" / f"{name}.wav")
        rows = [("path", "caption", "id"), (f"{name}.wav", "A sound", "same")]
        write_csv(tmp_path / "in" / f"{name}.csv", rows)
    report = prepared("table", tmp_path / "in", tmp_path / "out", max_bad=1.0)
    assert (report["written"], report["skipped"]) == (1, 1)


def test_what_looks_like_markup_is_printed_as_it_is(tmp_path, capsys):
    write_sound(tmp_path / "in" / "good.wav")
    rows = [("path", "caption"), ("good.wav", "A sound"), ("../[/foo].wav", "A sound")]
    write_csv(tmp_path / "in" / "clips.csv", rows)
    out = tmp_path / "o[bold]8"
    command = ["prepare", "--format=table", f"--source={tmp_path / 'in'}", f"--out={out}"]
    assert main([*command, "--max-bad=1"]) == 0
    printed = capsys.readouterr().out
    assert "[/foo]" in printed and "o[bold]8" in printed


@pytest.mark.parametrize("fold", ["²", "99999999999"])
def test_odd_folds_are_none(fold, tmp_path):
    source = published.make("esc50", tmp_path / "in")
    table = source / "meta" / "esc50.csv"
    head, first, *rest = table.read_text().splitlines()
    fields = first.split(",")
    fields[head.split(",").index("fold")] = fold
    table.write_text("\n".join([head, ",".join(fields), *rest]), encoding="utf-8")
    prepared("esc50", source, tmp_path / "out")
    assert records(tmp_path / "out", "test")[0]["fold"] == 0


@pytest.mark.parametrize(
    ("name", "break_it", "message"),
    [
        ("esc50", lambda f: (f / "meta" / "esc50.csv").unlink(), "esc50.csv cannot be read"),
        ("esc50", lambda f: (f / "meta" / "esc50.csv").write_text("a,b\n"), "expected filename"),
        ("clotho", lambda f: [p.unlink() for p in f.glob("*.csv")], "lists no clips"),
        (
            "wavcaps",
            lambda f: (f / "json_files" / "FreeSound" / "freesound_final.json").write_text("[{"),
            "not a readable JSON",
        ),
        ("webdataset", lambda f: [p.unlink() for p in f.glob("*.tar")], "lists no clips"),
    ],
)
def test_unreadable_lists_are_one_line(name, break_it, message, tmp_path, capsys):
    source = published.make(name, tmp_path / "in")
    break_it(source)
    command = ["prepare", f"--format={name}", f"--source={source}", f"--out={tmp_path / 'out'}"]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--source=nowhere"], "there is no 'nowhere'"),
        (["--workers=0"], "--workers is 0"),
        (["--max-bad=2"], "--max-bad is 2.0"),
        (["--template={nothing}.wav"], "cannot be filled in"),
        (["--template={split.__class__}.wav"], "there is no such file"),
        (["--exclude=nowhere"], "nowhere is no prepared data set"),
        (["--beam=--runner=DirectRunner"], "Beam is not installed"),
    ],
)
def test_bad_arguments_are_one_line(arguments, message, tmp_path, capsys):
    if "Beam" in message and importlib.util.find_spec("apache_beam"):
        pytest.skip("Beam is installed")
    source = published.audiocaps(tmp_path / "in")
    command = ["prepare", "--format=audiocaps", f"--source={source}", f"--out={tmp_path / 'out'}"]
    assert main([*command, *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_recordings_and_audio_of_another_set_are_excluded(tmp_path):
    """By recording, and by audio alone: the same samples in another file and format."""
    held_out = published.esc50(tmp_path / "esc50")
    prepared("esc50", held_out, tmp_path / "prepared" / "esc50")
    samples, rate = soundfile.read(held_out / "audio" / "1-1000-A-0.wav")
    (tmp_path / "in").mkdir()
    soundfile.write(tmp_path / "in" / "copy.flac", samples, rate)
    excluded = exclusions([tmp_path / "prepared" / "esc50"])
    rows = [("copy.flac", "A dog", "copy"), ("good.wav", "A sound", "good")]
    rows.append(("good.wav", "A bird", "freesound:1001"))
    report, [record] = one(tmp_path, rows, excluded=excluded)
    assert record["id"] == b"good"
    assert {entry["id"]: entry["reason"] for entry in report["problems"]} == {
        "copy": "the same audio is in esc50",
        "freesound:1001": "the same recording is in esc50",
    }
    assert (report["excluded"], report["skipped"]) == (2, 0)


def files_of(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


KILLED = """
import sys
from pathlib import Path
from supclap_jax.data import layouts
from supclap_jax.data.prepare import prepare
if __name__ == "__main__":
    layouts.CLIPS_IN_SHARD = 2
    shards = layouts.read_layout("audiocaps", Path(sys.argv[1]), layouts.Options(sys.argv[3]))
    prepare(shards, Path(sys.argv[2]), workers=int(sys.argv[4]))
"""


def test_killed_at_any_moment_it_ends_with_the_same_files(tmp_path, monkeypatch):
    """Killed with SIGKILL again and again, by two processes after one, until it is done."""
    source = published.audiocaps(tmp_path / "in", train=40)
    template = published.TEMPLATES["audiocaps"]
    monkeypatch.setattr(layouts, "CLIPS_IN_SHARD", 2)
    prepare(shards_of("audiocaps", source), tmp_path / "whole")
    out = tmp_path / "out"
    kills = 0
    for attempt in range(30):
        command = [sys.executable, "-c", KILLED, source, out, template, str(1 + attempt % 2)]
        process = subprocess.Popen(command, start_new_session=True)
        unfinished = tmp_path / "out.incomplete"
        before = len(list(unfinished.glob("*-of-*[0-9]")))
        while process.poll() is None:
            if len(list(unfinished.glob("*-of-*[0-9]"))) >= before + 3 + attempt % 3:
                process.send_signal(signal.SIGKILL)
                kills += 1
                break
            time.sleep(0.002)
        if process.wait() == 0:
            break
    assert out.exists()
    assert kills >= 2
    assert files_of(out) == files_of(tmp_path / "whole")


def test_workers_change_nothing(tmp_path, monkeypatch):
    source = published.clotho(tmp_path / "in")
    monkeypatch.setattr(layouts, "CLIPS_IN_SHARD", 1)
    prepare(shards_of("clotho", source), tmp_path / "one")
    seen = []
    prepare(
        shards_of("clotho", source), tmp_path / "two", workers=2,
        progress=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")
    assert seen == [(done, 9) for done in range(10)]


def test_an_unfinished_folder_of_another_list_is_refused(tmp_path):
    source = published.esc50(tmp_path / "in")
    unfinished = tmp_path / "out.incomplete"
    unfinished.mkdir()
    (unfinished / "plan").write_text("other")
    with pytest.raises(DataError, match="was begun from another list of clips"):
        prepared("esc50", source, tmp_path / "out")


def test_a_shard_of_nothing_but_bad_clips_is_no_harm(tmp_path, monkeypatch):
    monkeypatch.setattr(layouts, "CLIPS_IN_SHARD", 1)
    rows = [("absent.wav", "x", "0"), ("good.wav", "y", "1"), ("gone.wav", "z", "2")]
    report, [record] = one(tmp_path, rows)
    assert (report["written"], report["skipped"]) == (1, 2)
    assert record["id"] == b"1"


def test_under_beam_with_two_workers_the_shards_are_the_same(tmp_path, monkeypatch):
    pytest.importorskip("apache_beam")
    source = published.audiocaps(tmp_path / "in")
    monkeypatch.setattr(layouts, "CLIPS_IN_SHARD", 4)
    alone = prepare(shards_of("audiocaps", source), tmp_path / "alone")
    options = ["--runner=DirectRunner", "--direct_num_workers=2"]
    options.append("--direct_running_mode=multi_processing")
    under_beam = prepare(shards_of("audiocaps", source), tmp_path / "beam", beam=options)
    assert under_beam == alone
    assert files_of(tmp_path / "beam") == files_of(tmp_path / "alone")
