"""A folder of sounds as an index: kept, gone on with, searched; what is no sound is told."""

import csv
import json
import os
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile

from supclap_jax.cli.main import main
from supclap_jax.data.sound_windows import read_windows, starts_of
from supclap_jax.errors import ConfigError, DataError, RunError
from supclap_jax.inference import folder_embedder as embedding
from supclap_jax.inference import load
from supclap_jax.inference.indexed_sounds import IndexedSounds
from supclap_jax.inference.nearest import model_of, query_vector, search
from supclap_jax.inference.sound_index import SoundIndex
from tests.data import published

RATE = 16_000
FILES = {"a.wav": 0.5, "b.flac": 1.0, "deep/c.ogg": 2.5, "deep/d.WAV": 3.3}


def noise(seconds, seed):
    return np.random.default_rng(seed).uniform(-0.5, 0.5, round(RATE * seconds))


@pytest.fixture(scope="module")
def model(untrained):
    return load(untrained, step=0)


@pytest.fixture
def sounds(tmp_path):
    folder = tmp_path / "sounds"
    (folder / "deep").mkdir(parents=True)
    for seed, (name, seconds) in enumerate(FILES.items()):
        kind = {"format": "WAV"} if name.endswith("WAV") else {}
        soundfile.write(folder / name, noise(seconds, seed), RATE, **kind)
    (folder / "notes.txt").write_text("not looked at")
    return folder


def table(out):
    return {
        (row["path"], row["start"]): row
        for shard in SoundIndex(out).shards
        for row in pq.read_table(shard).to_pylist()
    }


def test_a_vector_a_sound_is_that_of_the_model(model, sounds, tmp_path):
    out = tmp_path / "index"
    embedding.embed_folder(model, sounds, out, dtype="float32", workers=3)
    rows = table(out)
    assert {path for path, _ in rows} == set(FILES)
    expected = model.encode_audio([sounds / path for path, _ in rows])
    found = np.array([row["vector"] for row in rows.values()])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    for (path, start), row in rows.items():
        assert (start, row["duration"]) == (0, pytest.approx(FILES[path], abs=0.02))
    np.testing.assert_array_equal(SoundIndex(out).vectors(), found.astype(np.float32))


def test_a_vector_a_window_is_that_of_the_cut(model, sounds, tmp_path):
    out = tmp_path / "index"
    embedding.embed_folder(model, sounds, out, windows=True, window=0.8, hop=0.4, dtype="float32")
    mine = {start: row for (path, start), row in table(out).items() if path == "deep/d.WAV"}
    samples = soundfile.read(sounds / "deep/d.WAV", dtype="float32")[0]
    assert list(mine) == pytest.approx([0, 0.4, 0.8, 1.2, 1.6, 2.0, 2.4, 2.5])
    for start, row in mine.items():
        assert row["end"] == pytest.approx(start + 0.8)
        begin = round(start * RATE)
        cut = model.encode_audio([samples[begin : begin + round(0.8 * RATE)]])[0]
        np.testing.assert_allclose(row["vector"], cut, atol=1e-5)


def test_only_what_changed_is_embedded_again(model, sounds, tmp_path, monkeypatch, capsys):
    out = tmp_path / "index"
    embedding.embed_folder(model, sounds, out)
    before = table(out)
    heard = []
    read = embedding.read_windows
    monkeypatch.setattr(
        embedding, "read_windows", lambda audio, *a: heard.append(audio.name) or read(audio, *a)
    )
    embedding.embed_folder(model, sounds, out)
    assert heard == []
    soundfile.write(sounds / "a.wav", noise(0.7, 9), RATE)
    soundfile.write(sounds / "new.wav", noise(0.7, 8), RATE)
    embedding.embed_folder(model, sounds, out)
    assert sorted(heard) == ["a.wav", "new.wav"]
    after = table(out)
    assert {path for path, _ in after} == {*FILES, "new.wav"}
    assert len(after) == 5
    changed = {key for key in before if before[key] != after[key]}
    assert changed == {("a.wav", 0.0)}
    assert len(SoundIndex(out).vectors()) == 5
    assert "2 sounds embedded, 3 as they were" in " ".join(capsys.readouterr().out.split())


def test_what_is_gone_leaves_the_index_and_the_map_is_made_anew(model, sounds, tmp_path):
    """Also where the only shard that changed went away."""
    out = tmp_path / "index"
    embedding.embed_folder(model, sounds, out)
    soundfile.write(sounds / "new.wav", noise(0.7, 8), RATE)
    embedding.embed_folder(model, sounds, out)
    query = query_vector(model, audio=sounds / "new.wav")
    assert search(SoundIndex(out), query, 1)[0].path == "new.wav"
    (sounds / "new.wav").unlink()
    embedding.embed_folder(model, sounds, out)
    assert {hit.path for hit in search(SoundIndex(out), query, 9)} == set(FILES)


def test_stopped_at_any_moment_it_goes_on(model, sounds, tmp_path, monkeypatch):
    whole, out = tmp_path / "whole", tmp_path / "index"
    embedding.embed_folder(model, sounds, whole)
    monkeypatch.setattr(embedding, "ROWS_IN_SHARD", 1)
    monkeypatch.setattr(type(model), "batch_size", 2)
    append, calls = SoundIndex.append, []

    def stop(index, rows):
        calls.append(len(rows))
        if len(calls) == 3:
            raise KeyboardInterrupt
        append(index, rows)

    monkeypatch.setattr(SoundIndex, "append", stop)
    with pytest.raises(KeyboardInterrupt):
        embedding.embed_folder(model, sounds, out)
    assert 0 < len(table(out)) < len(FILES)
    embedding.embed_folder(model, sounds, out)
    assert {path for path, _ in table(out)} == set(FILES)
    for key, row in table(whole).items():
        np.testing.assert_allclose(table(out)[key]["vector"], row["vector"], atol=1e-3)


def test_what_cannot_be_used_is_listed(model, sounds, tmp_path, capsys):
    (sounds / "empty.wav").touch()
    (sounds / "cut.wav").write_bytes((sounds / "a.wav").read_bytes()[:5_000])
    (sounds / "text\nof two.wav").write_text("no sound")
    (sounds / "gone.wav").symlink_to(tmp_path / "nowhere.wav")
    (sounds / "loop").symlink_to(sounds, target_is_directory=True)
    with open(os.fsencode(sounds) + b"/\xff.wav", "wb") as file:
        file.write((sounds / "a.wav").read_bytes())
    out = tmp_path / "index"
    embedding.embed_folder(model, sounds, out)
    assert {path for path, _ in table(out)} == set(FILES)
    with (out / "failed.csv").open(newline="") as file:
        failed = dict(csv.reader(file))
    assert failed.pop("path") == "reason"
    assert failed == {
        "empty.wav": "the file is empty",
        "cut.wav": "the file is truncated: shorter than its header says",
        "text\nof two.wav": "it cannot be decoded (its format is not known)",
        "gone.wav": "No such file or directory",
        "\\xff.wav": "its name is not UTF-8; rename it",
    }
    assert "5 cannot be used" in capsys.readouterr().out


def test_what_cannot_be_listed_takes_nothing_out(model, sounds, tmp_path, monkeypatch, capsys):
    out, listing = tmp_path / "index", os.scandir
    embedding.embed_folder(model, sounds, out)

    def refused(path):
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", str(path))
        return listing(path)

    monkeypatch.setattr(os, "scandir", refused)
    (sounds / "a.wav").unlink()
    embedding.embed_folder(model, sounds, out)
    assert "it cannot be listed (Permission denied)" in capsys.readouterr().out
    assert {path for path, _ in table(out)} == set(FILES)
    monkeypatch.undo()
    os.rename(sounds / "deep", os.fsencode(sounds) + b"/d\xe9ep")
    embedding.embed_folder(model, sounds, out)
    with (out / "failed.csv").open(newline="") as file:
        failed = list(csv.reader(file))[1:]
    assert [reason for _, reason in failed] == ["its name is not UTF-8; rename it"] * 2
    assert {path for path, _ in table(out)} == {"b.flac"}


def test_a_prepared_set_is_embedded_by_its_ids(model, tmp_path):
    source, out = published.esc50(tmp_path / "in"), tmp_path / "esc50"
    assert main(["prepare", "--format=esc50", f"--source={source}", f"--out={out}"]) == 0
    embedding.embed_folder(model, out, tmp_path / "index", dtype="float32")
    rows = table(tmp_path / "index")
    assert len(rows) == 4
    path, _ = next(iter(rows))
    split, _, name = path.partition("/")
    assert split and name


def test_search_is_exact(model, sounds, tmp_path):
    out = tmp_path / "index"
    embedding.embed_folder(model, sounds, out, windows=True)
    index = SoundIndex(out)
    for query in (
        query_vector(model, "rain"),
        query_vector(model, audio=sounds / "b.flac"),
        query_vector(model, "rain", sounds / "b.flac", "fra_Latn", 0.3),
    ):
        cosines = index.vectors().astype(np.float64) @ query
        hits = search(index, query, 3)
        expected = np.argsort(-cosines, kind="stable")[:3]
        np.testing.assert_allclose([hit.cosine for hit in hits], cosines[expected], atol=1e-5)
        below = [100 * np.mean(cosines < cosines[place]) for place in expected]
        np.testing.assert_allclose([hit.percentile for hit in hits], below, atol=1e-9)
        keys = list(table(out))
        assert [(hit.path, hit.start) for hit in hits] == [keys[place] for place in expected]
    assert search(index, query_vector(model, audio=sounds / "b.flac"), 1)[0].path == "b.flac"
    with pytest.raises(ConfigError, match="needs words or a sound"):
        query_vector(model)


def test_an_index_is_of_one_kind(model, sounds, tmp_path):
    out = tmp_path / "index"
    embedding.embed_folder(model, sounds, out)
    for options, message in (
        ({"windows": True}, "windows: False, and these would be of windows: True"),
        ({"dtype": "float32"}, "dtype float16"),
        ({"window": 0.5}, "a window of 1.0, and these would be of a window of 0.5"),
    ):
        with pytest.raises(ConfigError, match=message):
            embedding.embed_folder(model, sounds, out, **options)
    with pytest.raises(ConfigError, match="vectors of sounds of"):
        embedding.embed_folder(model, sounds / "deep", out)
    path = out / "index.json"
    described = json.loads(path.read_text())
    path.write_text(json.dumps(described | {"space": "0" * 16}))
    with pytest.raises(ConfigError, match=f"a model of space 0+, .* of space {model.space}"):
        embedding.embed_folder(model, sounds, out)
    path.write_text('{"dim": 16, "dtype": "float16"}')
    with pytest.raises(DataError, match="is no index of sounds"):
        SoundIndex(out)
    path.write_text("{")
    with pytest.raises(DataError, match="is no index of sounds"):
        SoundIndex(out)
    with pytest.raises(ConfigError, match="is not an empty folder"):
        embedding.embed_folder(model, sounds, sounds / "deep")


def test_damage_of_a_shard_is_told_and_its_advice_works(model, sounds, tmp_path):
    out = tmp_path / "index"
    embedding.embed_folder(model, sounds, out)
    (shard,) = SoundIndex(out).shards
    shard.write_bytes(shard.read_bytes()[:-20])
    with pytest.raises(DataError, match=f"{shard} cannot be read .*; remove it"):
        embedding.embed_folder(model, sounds, out)
    shard.unlink()
    embedding.embed_folder(model, sounds, out)
    assert {path for path, _ in table(out)} == set(FILES)
    whole = np.array(SoundIndex(out).vectors())
    (vectors,) = out.glob("vectors-*.npy")
    vectors.write_bytes(vectors.read_bytes()[:-20])
    np.testing.assert_array_equal(SoundIndex(out).vectors(), whole)
    (shard,) = SoundIndex(out).shards
    pq.write_table(pq.read_table(shard).drop_columns(["start"]), shard)
    with pytest.raises(DataError, match=r"cannot be read .*start"):
        search(SoundIndex(out), whole[0].astype(np.float32), 1)


def test_a_search_beside_an_embedding_is_of_one_state(model, sounds, tmp_path):
    out = tmp_path / "index"
    embedding.embed_folder(model, sounds, out)
    index = SoundIndex(out)
    before = np.array(index.vectors())
    soundfile.write(sounds / "b.flac", noise(1.0, 99), RATE)
    embedding.embed_folder(model, sounds, out)  # as many rows as before, one of them another
    (_,) = out.glob("vectors-*.npy")
    with pytest.raises(DataError, match=r"has changed while it was searched|cannot be read"):
        index.rows(np.arange(4))
    after = np.array(index.vectors())
    assert len(after) == len(before) and not np.array_equal(after, before)
    np.testing.assert_array_equal(SoundIndex(out).vectors(), after)


def test_the_index_is_searched_with_the_model_elsewhere(model, untrained, sounds, tmp_path):
    out, moved = tmp_path / "index", tmp_path / "moved"
    shutil.copytree(untrained, moved)
    embedding.embed_folder(load(moved, step=0), sounds, out)
    shutil.rmtree(moved)
    with pytest.raises(RunError, match=r"the model of .*index cannot be read.*as --model"):
        model_of(SoundIndex(out))
    assert model_of(SoundIndex(out), untrained).space == model.space
    os.symlink(sounds / "a.wav", tmp_path / "link.wav")
    embedding.embed_folder(model, tmp_path / "link.wav", tmp_path / "of_link")
    index = SoundIndex(tmp_path / "of_link")
    (hit,) = search(index, index.vectors()[0].astype(np.float32), 1)
    assert len(IndexedSounds(index).read(hit)) == RATE // 2


def test_nothing_to_embed_is_said(model, tmp_path):
    (tmp_path / "empty").mkdir()
    for source, message in (
        (tmp_path / "none", "there is no file or folder"),
        (tmp_path / "empty", "holds no sounds; expected files of the kinds"),
    ):
        with pytest.raises(DataError, match=message):
            embedding.embed_folder(model, source, tmp_path / "out")
        assert not (tmp_path / "out").exists()
    (tmp_path / "empty" / "a.wav").touch()
    with pytest.raises(DataError, match="none of the sounds of"):
        embedding.embed_folder(model, tmp_path / "empty", tmp_path / "out")


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3"])
def test_windows_are_read_in_order_and_in_pieces(kind, tmp_path):
    """As those of the whole sound, decoded at once and cut."""
    path = tmp_path / "sound"
    soundfile.write(path, noise(7.3, 0), RATE, format=kind)
    whole, _ = soundfile.read(path, dtype="float32")
    for hop in (None, 0.5, 2.0, 5.0):
        windows = list(read_windows(path, 1.3, hop))
        size = round(1.3 * RATE)
        starts = starts_of(len(whole), size, hop and round(hop * RATE))
        assert [window.start for window in windows] == pytest.approx([s / RATE for s in starts])
        for window, start in zip(windows, starts, strict=True):
            np.testing.assert_allclose(window.audio, whole[start : start + size], atol=2e-6)
        assert starts[-1] + size == len(whole)


@pytest.mark.slow
def test_the_commands(untrained, sounds, soundscape, tmp_path, capsys):
    """From a run to what is found; and the commands' refusals."""
    run = tmp_path / "run"
    shutil.copytree(untrained, run)
    out, found = tmp_path / "index", tmp_path / "found.json"
    embed = ["embed", f"--model={run}", "--step=0", f"--source={sounds}", f"--out={out}"]
    assert main(embed) == 0
    assert "4 sounds embedded" in capsys.readouterr().out
    assert main(["search", f"--index={out}", "rain", "-k=2", f"--json={found}"]) == 0
    assert "above" in capsys.readouterr().out
    hits = json.loads(found.read_text())
    assert len(hits) == 2 and hits[0]["cosine"] >= hits[1]["cosine"]
    labels = tmp_path / "labels.txt"
    labels.write_text("rain\ndog bark\n")
    files = [str(sounds / name) for name in FILES]
    classify = ["classify", f"--model={run}", "--step=0", f"--labels={labels}"]
    assert main([*classify, f"--json={found}", *files]) == 0
    (sounds / "text.wav").write_text("no sound")
    assert main([*classify, f"--json={found}", *files, str(sounds / "text.wav")]) == 0
    assert "text.wav cannot be used" in capsys.readouterr().out
    shares = json.loads(found.read_text())["shares"]
    assert list(shares) == files and len(json.loads(found.read_text())["failed"]) == 1
    assert all(sum(row.values()) == pytest.approx(1) for row in shares.values())
    figure = tmp_path / "over_time.png"
    assert main([*classify, f"--json={found}", f"--over-time={figure}", files[0]]) == 0
    over_time = json.loads(found.read_text())["over_time"]
    assert over_time[0]["start"] == 0 and figure.stat().st_size > 1_000
    capsys.readouterr()
    for command, message in (
        (["search", f"--index={tmp_path}", "rain"], "is no index of sounds"),
        (["search", f"--index={out}"], "a search needs words or a sound"),
        (["search", f"--index={out}", ""], "the text '' holds no words"),
        (["search", f"--index={out}", "x" * 10_001], "a text has 10,001 letters"),
        (["search", f"--index={out}", "x", "--language=xx"], "no token for 'xx'"),
        (["search", f"--index={out}", "x", "--text-weight=2"], "expected 0 to 1"),
        (["search", f"--index={out}", "x", f"--json={tmp_path}/no/x"], "existing folder"),
        (["search", f"--index={out}", "x", "-k=0"], "-k is 0"),
        ([*classify, *files, "--over-time=x.png"], "draws one FILE as a .png"),
        ([*classify, files[0], "--over-time=x.pdf"], "draws one FILE as a .png"),
        ([*classify, str(tmp_path / "none.wav")], "there is no such file"),
        ([*classify, str(tmp_path)], "it is not a file"),
        ([*embed, "--hop=99"], "--hop is 99; expected 0.15 to 1 seconds"),
        ([*embed, "--window=0.5", "--hop=0.8"], "--hop is 0.8; expected 0.15 to 0.5 seconds"),
        (["search", f"--index={out}", "caf\udce9"], r"the text 'caf\udce9' holds no words"),
        (["search", f"--index={out}", "?!"], "the text '?!' holds no words"),
        ([*embed, "--workers=0"], "--workers is 0"),
        ([*embed[:3], f"--source={tmp_path}/none", embed[4]], "no file or folder"),
        (["embed", f"--model={sounds}", *embed[3:]], "neither a run nor"),
    ):
        assert main(command) == 2, command
        assert message in capsys.readouterr().err
