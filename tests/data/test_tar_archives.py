"""Archives of clips, whole, damaged and hostile."""

import gzip
import tarfile

import pytest

from supclap_jax.data import tar_archives
from supclap_jax.data.prepared import PreparedSplit, find_leaks
from tests.data.preparing import prepared, records
from tests.data.published import encoded, tar


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


def test_what_a_mac_puts_into_archives_splits_no_clip(tmp_path):
    members = [("a.flac", encoded("a")), ("._a.flac", b"\0"), ("__MACOSX/._a.json", b"\0")]
    members += [("a.json", b'{"caption": "A sound"}'), (".DS_Store", b"x")]
    tar(tmp_path / "in" / "0.tar", members)
    report = prepared("webdataset", tmp_path / "in", tmp_path / "out")
    assert (report["read"], report["written"], report["ignored"]) == (1, 1, 3)


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_files_of_a_clip_may_lie_apart(suffix, tmp_path, monkeypatch):
    """All sounds first, then all texts; and a second JSON beside each."""
    members = [(f"{name}.flac", encoded(name)) for name in "abc"]
    members += [(f"{name}.info.json", b'{"caption": "Not this"}') for name in "abc"]
    members += [(f"{name}.json", b'{"caption": "A sound"}') for name in "abc"]
    path = tar(tmp_path / "in" / "0.tar", members)
    if suffix == ".tar.gz":
        path.write_bytes(gzip.compress(path.read_bytes()))
    report = prepared("webdataset", tmp_path / "in", tmp_path / "out")
    assert (report["read"], report["written"]) == (3, 3)
    found = records(tmp_path / "out", "train")
    assert [(record["id"], record["captions"][0]) for record in found] == [
        (f"0.tar/{name}".encode(), b"A sound") for name in "abc"
    ]
    monkeypatch.setattr(tar_archives, "WAITING", 2 * len(encoded("a")) + 100)
    report = prepared("webdataset", tmp_path / "in", tmp_path / "less", max_bad=1.0)
    assert (report["read"], report["written"]) == (3, 2)
    assert "too far apart in the archive" in report["problems"][0]["reason"]


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
    members = [*captioned(*names), *captioned("same"), *captioned("same"), ("x.wma", b"...")]
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
