"""A set is prepared whole, however often it is killed, by any number of workers."""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import soundfile

from supclap_jax.cli.main import main
from supclap_jax.data.preparation import exclusions, prepare
from supclap_jax.data.prepared import PreparedSplit
from supclap_jax.errors import DataError
from tests.data import published
from tests.data.preparing import files_of, one, prepared, records, shards_of
from tests.data.published import write_csv, write_sound

pytestmark = pytest.mark.slow


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


@pytest.mark.parametrize("content", ["{", "[]", '{"read": 1}'])
def test_a_damaged_report_is_said_and_what_it_advises_works(content, tmp_path):
    source, out = published.esc50(tmp_path / "in"), tmp_path / "out"
    prepared("esc50", source, out)
    (out / "report.json").write_text(content)
    with pytest.raises(DataError, match=rf"report.json cannot be read .*; remove {out} and"):
        prepared("esc50", source, out)
    shutil.rmtree(out)
    assert prepared("esc50", source, out)["written"] == 4


def test_a_corrected_command_works_where_a_wrong_one_failed(tmp_path, capsys):
    """Whether nothing was there, or too much was bad."""
    source = published.audiocaps(tmp_path / "in")
    (source / "train" / "Y-train000003.wav").write_bytes(b"")
    command = ["prepare", "--format=audiocaps", f"--source={source}", f"--out={tmp_path / 'out'}"]
    assert main([*command, "--template={youtube_id}.wav"]) == 2
    assert not (tmp_path / "out.incomplete").exists()
    assert main([*command, TEMPLATE]) == 2
    error = capsys.readouterr().err
    assert "Y-train000003.wav': the file is empty" in error
    (source / "train.csv").write_text((source / "train.csv").read_text().replace("sound", "noise"))
    assert main([*command, TEMPLATE, "--max-bad=0.1"]) == 0


def test_the_examples_of_a_failure_are_of_skipped_clips(tmp_path, capsys):
    source = published.esc50(tmp_path / "in")
    prepared("esc50", source, tmp_path / "held_out")
    *_, last = sorted((source / "audio").iterdir())
    last.write_bytes(b"")
    (source / "meta" / "esc50.csv").rename(source / "meta" / "all.csv")
    lines = (source / "meta" / "all.csv").read_text().splitlines()
    lines = [line.replace(",100", ",200") if last.name in line else line for line in lines]
    (source / "meta" / "esc50.csv").write_text("\n".join(lines))
    command = ["prepare", "--format=esc50", f"--source={source}", f"--out={tmp_path / 'out'}"]
    assert main([*command, f"--exclude={tmp_path / 'held_out'}"]) == 2
    error = capsys.readouterr().err
    assert "the same recording" not in error and last.name in error


def test_what_looks_like_markup_is_printed_as_it_is(tmp_path, capsys):
    write_sound(tmp_path / "in" / "good.wav")
    rows = [("path", "caption"), ("good.wav", "A sound"), ("../[/foo].wav", "A sound")]
    write_csv(tmp_path / "in" / "clips.csv", rows)
    out = tmp_path / "o[bold]8"
    command = ["prepare", "--format=table", f"--source={tmp_path / 'in'}", f"--out={out}"]
    assert main([*command, "--max-bad=1"]) == 0
    printed = capsys.readouterr().out
    assert "[/foo]" in printed and "o[bold]8" in printed


TEMPLATE = "--template={split}/Y{youtube_id}.wav"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--source=nowhere"], "there is no 'nowhere'"),
        (["--workers=0"], "--workers is 0"),
        (["--max-bad=2"], "--max-bad is 2.0"),
        (["--template={nothing}.wav"], "cannot be filled in"),
        (["--template={split.__class__}.wav"], "expected names of columns in braces"),
        (["--template={split:>99999999}.wav"], "expected names of columns in braces"),
        (["--template={split"], "cannot be read"),
        (["--template={start_time:.3d}.wav"], "expected names of columns in braces"),
        (["--original", "--channels=first"], "--channels is of what becomes mono"),
        (["--template=x/{youtube_id}.wav"], "none of the 10 files of train is there, such as"),
        (["--blacklist=x.json"], "--blacklist is for wavcaps; leave it out with audiocaps"),
        (["--exclude=nowhere"], "nowhere is no prepared data set"),
        (["--beam=--runner=DirectRunner", TEMPLATE], "Beam is not installed"),
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


KILLED = """
import sys
from pathlib import Path
from supclap_jax.data import layouts, rows
from supclap_jax.data.preparation import prepare
if __name__ == "__main__":
    rows.CLIPS_IN_SHARD = 2
    shards = layouts.read_layout("audiocaps", Path(sys.argv[1]), rows.Options(sys.argv[3]))
    prepare(shards, Path(sys.argv[2]), workers=int(sys.argv[4]))
"""


def test_killed_at_any_moment_it_ends_with_the_same_files(tmp_path, monkeypatch):
    """Killed with SIGKILL again and again, by two processes after one, until it is done."""
    source = published.audiocaps(tmp_path / "in", train=24)
    template = published.TEMPLATES["audiocaps"]
    monkeypatch.setattr("supclap_jax.data.rows.CLIPS_IN_SHARD", 2)
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


@pytest.mark.parametrize("seconds", [0.3, 1.0])
def test_stopped_with_its_workers_it_ends_without_a_warning(seconds, tmp_path):
    """While they start, or after."""
    source, out = published.audiocaps(tmp_path / "in", train=300), tmp_path / "out"
    command = [sys.executable, "-m", "supclap_jax.cli", "prepare", "--format=audiocaps"]
    command += [f"--source={source}", f"--out={out}", TEMPLATE, "--workers=2"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while not (tmp_path / "out.incomplete").exists():
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode in (0, 128 + signal.SIGTERM), errors
    assert "arning" not in errors and "leaked" not in errors and "Traceback" not in errors


def test_workers_change_nothing(tmp_path, monkeypatch):
    source = published.clotho(tmp_path / "in")
    monkeypatch.setattr("supclap_jax.data.rows.CLIPS_IN_SHARD", 1)
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
    (unfinished / "notes").mkdir()
    (unfinished / "notes" / "test-00000.json").write_text("{}")
    with pytest.raises(DataError, match="was begun from another list of clips"):
        prepared("esc50", source, tmp_path / "out")


def test_a_shard_of_nothing_but_bad_clips_is_no_harm(tmp_path, monkeypatch):
    monkeypatch.setattr("supclap_jax.data.rows.CLIPS_IN_SHARD", 1)
    rows = [("absent.wav", "x", "0"), ("good.wav", "y", "1"), ("gone.wav", "z", "2")]
    report, [record] = one(tmp_path, rows)
    assert (report["written"], report["skipped"]) == (1, 2)
    assert record["id"] == b"1"


def test_under_beam_with_two_workers_the_shards_are_the_same(tmp_path, monkeypatch):
    pytest.importorskip("apache_beam")
    source = published.audiocaps(tmp_path / "in")
    monkeypatch.setattr("supclap_jax.data.rows.CLIPS_IN_SHARD", 4)
    alone = prepare(shards_of("audiocaps", source), tmp_path / "alone")
    options = ["--runner=DirectRunner", "--direct_num_workers=2"]
    options.append("--direct_running_mode=multi_processing")
    under_beam = prepare(shards_of("audiocaps", source), tmp_path / "beam", beam=options)
    assert under_beam == alone
    assert files_of(tmp_path / "beam") == files_of(tmp_path / "alone")


def test_the_classes_of_a_list_are_known_though_their_clips_are_not_there(tmp_path):
    source = published.esc50(tmp_path / "in")
    rows = [row for shard in shards_of("esc50", source) for row in shard]
    labels = {label for row in rows for label in row.labels}
    lost = rows[0]
    for row in rows:
        if row.labels == lost.labels:
            row.audio.unlink()
    report = prepared("esc50", source, tmp_path / "out", max_bad=1.0)
    clips = PreparedSplit(tmp_path / "out", "test", ("eng_Latn",)).clips()
    assert lost.labels not in clips.labels
    assert clips.classes == tuple(sorted(labels)) == tuple(report["splits"]["test"]["classes"])
