"""Every published layout becomes the same kind of shards; bad lists are counted or one line."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from supclap_jax.cli.main import main
from supclap_jax.data.layouts import read_layout
from supclap_jax.data.preparation import prepare
from supclap_jax.data.preparation_report import show
from supclap_jax.data.rows import Options, described_row
from supclap_jax.data.shards import FEATURES
from supclap_jax.errors import DataError
from tests.data import published
from tests.data.preparing import one, prepared, records, shards_of
from tests.data.published import write_csv, write_sound

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
    "macs": (
        {"train": 4}, 0,
        ("airport-barcelona-0-0-a.wav", "", 0, "tau:airport-barcelona-0"),
    ),
    "fsd50k": (
        {"train": 3, "validation": 1, "test": 4}, 0,
        ("3000", "Bark|Dog|Animal", 0, "freesound:3000"),
    ),
    "audioset": (
        {"train": 6, "test": 3}, 0,
        ("--bal000000_0", "Child speech, kid speaking|Rain", 0, "youtube:--bal000000"),
    ),
    "table": ({"train": 4}, 0, ("clip0", "", 0, "clip0")),
    "parquet": (
        {"train": 3, "test": 3}, 0,
        ("data/train-00000-of-00001.parquet/0.flac", "", 0, "youtube:train_0"),
    ),
    "webdataset": ({"train": 6}, 0, ("00000.tar/0000", "", 0, "train/00000.tar/0000")),
}  # fmt: skip


CAPTIONS = {
    "audiocaps": {"eng_Latn": [f"A sound, number 0 test in {i} way" for i in range(5)]},
    "clotho": {"eng_Latn": [f"Rain of evaluation 0 falls, {i}." for i in range(1, 6)]},
    "wavcaps": {"eng_Latn": ["Music 0 plays."]},
    "macs": {"eng_Latn": [f"People 0 talk, {n}" for n in range(3)]},
    "parquet": {"eng_Latn": ["Waves 0 test break, 0.", "Waves 0 test break, 1."]},
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
        record["id"].decode(),
        b"|".join(record["labels"]).decode(),
        record["fold"],
        record["source"].decode(),
    ) == first
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


def test_audioset_and_fsd50k_say_what_is_wrong_with_a_row(tmp_path):
    source = published.audioset(tmp_path / "audioset")
    path = source / "eval_segments.csv"
    more = ('x, 0.000, 10.000, "/m/none,/t/dd1"', 'y, now, 10.000, "/t/dd1"', "z, 0.000, 10.000")
    path.write_text(path.read_text() + "\n".join(more) + "\n")
    report = prepared("audioset", source, tmp_path / "out", max_bad=1.0)
    assert [(entry["id"], entry["reason"]) for entry in report["problems"]] == [
        ("eval_segments.csv:7", "its class '/m/none' is none of class_labels_indices.csv"),
        ("eval_segments.csv:8", "its times are 'now' and '10.000'; expected seconds"),
        ("eval_segments.csv:9", "its row has 3 fields, expected 4"),
    ]
    assert (report["read"], report["written"], report["skipped"]) == (12, 9, 3)
    template = "{list}/{ytid}_{start:06d}.wav"
    for path in sorted((source / "eval_segments").iterdir()):
        number = int(path.stem[-1])
        path.rename(path.with_stem(f"{path.stem}_{30 * number:06d}"))
    for name in ("balanced_train_segments.csv", "unbalanced_train_segments.csv"):
        (source / name).unlink()
    shards = read_layout("audioset", source, Options(template=template))
    assert prepare(shards, tmp_path / "named", max_bad=1.0)["written"] == 3
    classes = source / "class_labels_indices.csv"
    whole = classes.read_text()
    for line, problem in (("3,/m/x,Dog, bark", "4 fields, expected 3"), ("3,/m/x,", "no name")):
        classes.write_text(f"{whole}{line}\n")
        with pytest.raises(DataError, match=f"row 5: .*{problem}; correct it"):
            shards_of("audioset", source)
    classes.unlink()
    with pytest.raises(DataError, match=r"class_labels_indices\.csv cannot be read"):
        shards_of("audioset", source)

    source = published.fsd50k(tmp_path / "fsd50k")
    path = source / "FSD50K.ground_truth" / "dev.csv"
    path.write_text(path.read_text() + "7,Rain,/m/0,dev\n8,,/m/0,val\n../9,Rain,/m/0,val\n")
    report = prepared("fsd50k", source, tmp_path / "out2", max_bad=1.0)
    assert {entry["id"]: entry["reason"] for entry in report["problems"]} == {
        "dev.csv:6": "its split is 'dev'; expected train or val",
        "8": "it has no label",
        "../9": "its path '../9.wav' leads out of the folder",
    }


def test_macs_says_what_is_wrong_with_an_entry(tmp_path):
    source = published.macs(tmp_path / "in")
    path = source / "MACS.yaml"
    odd = "- {filename: y.wav, annotations: [{sentence: One}, {sentence: [Two]}]}\n"
    path.write_text(path.read_text() + f"- filename: x.wav\n- [1, 2]\n{odd}")
    report = prepared("macs", source, tmp_path / "out", max_bad=1.0)
    reason = "its entry has no filename or no annotations"
    assert [(entry["id"], entry["reason"]) for entry in report["problems"]] == [
        ("MACS.yaml:5", reason), ("MACS.yaml:6", reason),
        ("y.wav", "one of its sentences is \"['Two']\"; expected text"),
    ]  # fmt: skip
    for content, message in (
        ("files: [", "not a readable YAML file"),
        ("7", "lists no files"),
        ("[" * 100_000, "nested deeper than 50 levels"),
        ("files: !!timestamp x", "lists no files"),
    ):
        path.write_text(content)
        with pytest.raises(DataError, match=message):
            shards_of("macs", source)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"caption": [{"text": "Rain"}], "label": "rain"}, "captions is \"{'text': 'Rain'}\""),
        ({"caption": 5, "label": "rain"}, "captions is '5'"),
        ({"caption": "Rain", "labels": [["a"]]}, "labels is \"['a']\""),
        ({"caption": "Rain", "label": True}, "labels is 'True'"),
        ({"caption": "Rain", "labels": [float("nan")]}, "labels is 'nan'"),
        ({"caption": "Rain", "language": 7}, "languages is '7'"),
    ],
)
def test_what_is_no_text_is_no_silent_loss(fields, problem):
    row = described_row(Path("in"), {"path": "a.wav", **fields})
    assert row.problem == f"one of its {problem}; expected text"


def test_labels_may_be_numbers_and_null_is_none():
    row = described_row(Path("in"), {"path": "a.wav", "labels": [3, None, 0, "x"], "caption": None})
    assert (row.labels, row.problem) == (("3", "0", "x"), "")


def test_several_labels_of_a_table(tmp_path):
    write_sound(tmp_path / "in" / "good.wav")
    write_sound(tmp_path / "in" / "other.wav")
    (tmp_path / "in" / "a.csv").write_text("path,labels\ngood.wav,dog ; rain;;dog\n")
    described = {"path": "other.wav", "labels": ["wind, strong", "sea"], "label": "wind"}
    (tmp_path / "in" / "b.jsonl").write_text(json.dumps(described))
    report = prepared("table", tmp_path / "in", tmp_path / "out")
    assert [list(record["labels"]) for record in records(tmp_path / "out", "train")] == [
        [b"dog", b"rain"], [b"wind, strong", b"sea"],
    ]  # fmt: skip
    assert report["splits"]["train"]["classes"] == ["dog", "rain", "sea", "wind, strong"]
    assert report["splits"]["train"]["labelled"] == 2


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


def test_a_set_may_be_prepared_into_its_source_again(tmp_path):
    source = published.wavcaps(tmp_path / "in")
    first = prepared("wavcaps", source, source / "out")
    assert prepared("wavcaps", source, source / "out") == first
    (source / "more.incomplete").mkdir()
    (source / "more.incomplete" / "excluded.json").write_text("{}")
    again = prepared("wavcaps", source, source / "again")
    assert again["splits"] == first["splits"]


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
    assert list(record["labels"]) == [b"a, b"]


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


def test_two_clips_with_one_id_in_two_tables(tmp_path):
    for name in ("a", "b"):
        write_sound(tmp_path / "in" / f"{name}.wav")
        rows = [("path", "caption", "id"), (f"{name}.wav", "A sound", "same")]
        write_csv(tmp_path / "in" / f"{name}.csv", rows)
    report = prepared("table", tmp_path / "in", tmp_path / "out", max_bad=1.0)
    assert (report["written"], report["skipped"]) == (1, 1)


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
        "its name, labels or captions are not valid Unicode",
        "its row names no file",
        "its line is no JSON object",
    ]


def test_numbers_in_jsonl_are_ids_and_labels(tmp_path):
    write_sound(tmp_path / "in" / "a.wav")
    lines = [{"path": "a.wav", "id": 0, "label": 7}, {"path": "a.wav", "id": 1, "label": 0}]
    (tmp_path / "in" / "clips.jsonl").write_text("\n".join(map(json.dumps, lines)))
    prepared("table", tmp_path / "in", tmp_path / "out")
    found = [(record["id"], *record["labels"]) for record in records(tmp_path / "out", "train")]
    assert found == [(b"0", b"7"), (b"1", b"0")]


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


def test_files_that_systems_leave_behind_are_ignored_and_counted(tmp_path, capsys):
    folder = tmp_path / "in"
    write_sound(folder / "good.wav")
    write_csv(folder / "clips.csv", [("path", "caption"), ("good.wav", "A sound")])
    (folder / "._clips.csv").write_bytes(b"\0\5\x16\7")
    (folder / ".DS_Store").write_bytes(b"x")
    report = prepared("table", folder, tmp_path / "out")
    assert (report["read"], report["written"], report["ignored"]) == (1, 1, 1)
    show(tmp_path / "out", report)
    assert "1 files that systems leave behind" in capsys.readouterr().out
    source = published.make("wavcaps", tmp_path / "wavcaps")
    before = prepared("wavcaps", source, tmp_path / "before")
    (source / "json_files" / "FreeSound" / "._freesound_final.json").write_bytes(b"\0")
    report = prepared("wavcaps", source, tmp_path / "after")
    assert report == {**before, "ignored": 1}


def test_times_cut_the_clip_out_of_its_file(tmp_path):
    path = tmp_path / "in" / "long.wav"
    path.parent.mkdir()
    samples = 0.4 * np.sin(np.arange(80_000) ** 1.3 / 50)
    soundfile.write(path, samples, 16_000, "FLOAT")
    rows = [("path", "caption", "onset", "offset"), ("long.wav", "one", "1", "2.5")]
    rows += [("long.wav", "two", "", "1"), ("long.wav", "three", "4", "")]
    rows += [("long.wav", "all", "", "")]
    rows += [("long.wav", "x", "a", ""), ("long.wav", "x", "3", "2"), ("long.wav", "x", "2", "9")]
    write_csv(tmp_path / "in" / "clips.csv", rows)
    report = prepared("table", tmp_path / "in", tmp_path / "out", max_bad=1.0)
    found = {record["captions"][0]: record for record in records(tmp_path / "out", "train")}
    parts = {b"one": (16, 40), b"two": (0, 16), b"three": (64, 80), b"all": (0, 80)}
    for name, (first, last) in parts.items():
        stored, _ = soundfile.read(io.BytesIO(found[name]["audio"]))
        expected = samples[first * 1000 : last * 1000]
        np.testing.assert_allclose(stored, expected, rtol=0, atol=2.0**-15)
        assert found[name]["duration"] == len(expected) / 16_000
        assert found[name]["source"] == b"long.wav"
    assert sorted(entry["reason"] for entry in report["problems"]) == [
        "it ends at 2 s, but begins at 3 s",
        "one of its times is 'a'; expected seconds",
        "the clip ends at 9 s, but its file ends at 5.00 s",
    ]


def test_numbers_in_templates(tmp_path):
    folder = tmp_path / "in"
    rows = [("audiocap_id", "youtube_id", "start_time", "caption"), (1, "abc", 30, "A sound")]
    write_csv(folder / "train.csv", [*rows, (2, "abc", "x", "A sound"), (3, "abc", 7, "Another")])
    for name in ("abc_000030_40.000.wav", "abc_000007_17.000.wav"):
        write_sound(folder / name)
    options = Options(template="{youtube_id}_{start_time:06d}_{end_time:.3f}.wav")
    report = prepare(read_layout("audiocaps", folder, options), tmp_path / "out", max_bad=0.5)
    assert report["written"] == 2
    assert report["problems"][0]["reason"] == "its start_time is 'x'; expected a whole number"


def test_rows_of_a_wrong_number_of_fields_are_told_one_by_one(tmp_path):
    """As a caption does that is broken over lines without quotes."""
    folder = tmp_path / "in"
    write_sound(folder / "good.wav")
    text = "path,caption,label\ngood.wav,A dog\nthat barks\nloudly,dog\ngood.wav,Rain,rain\n"
    (folder / "clips.csv").write_text(text)
    report = prepared("table", folder, tmp_path / "out", max_bad=1.0)
    assert [(entry["id"], entry["reason"]) for entry in report["problems"]] == [
        ("clips.csv:2", "its row has 2 fields, expected 3"),
        ("clips.csv:3", "its row has 1 fields, expected 3"),
        ("clips.csv:4", "its row has 2 fields, expected 3"),
    ]
    assert (report["read"], report["written"]) == (4, 1)


def test_a_quote_that_is_not_closed_is_told_by_its_line(tmp_path):
    text = 'path,caption\ngood.wav,"A dog\nother.wav,A cat\n'
    (tmp_path / "clips.csv").write_text(text)
    with pytest.raises(DataError, match=r"clips.csv, line 2: unexpected end of data; is a quote"):
        shards_of("csv", tmp_path / "clips.csv")


def test_rows_without_a_file_are_counted_one_by_one(tmp_path):
    write_sound(tmp_path / "in" / "good.wav")
    text = f"path,caption\ngood.wav,a\n,b\n,c\n{'x' * 400},d\nb.raw,e\n"
    (tmp_path / "in" / "clips.csv").write_text(text)
    (tmp_path / "in" / "b.raw").write_bytes(bytes(4_000))
    report = prepared("csv", tmp_path / "in", tmp_path / "out", max_bad=1.0)
    assert (report["read"], report["written"], report["skipped"]) == (5, 1, 4)
    assert [entry["reason"] for entry in report["problems"]] == [
        "its row names no file",
        "its row names no file",
        "there is no such file",
        "it cannot be decoded (its format is not known)",
    ]
