"""Audio as it is stored: without loss or as training reads it; what is bad is told."""

import io

import numpy as np
import pytest
import soundfile

from supclap_jax.data.audio import read_clip
from supclap_jax.data.flac import Form
from supclap_jax.data.preparation_report import show
from tests.data.preparing import one
from tests.data.published import sound, write_sound

ORIGINAL = Form(original=True)
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
    _, [record] = one(tmp_path, [("odd.wav", "A sound", "")], form=ORIGINAL)
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
    one(tmp_path, [("odd.wav", "A sound", "")], form=ORIGINAL)
    keys = [np.load(tmp_path / f / "index" / "train.audio.npy") for f in ("first", "out")]
    np.testing.assert_array_equal(*keys)


def test_floating_point_above_one_is_scaled_not_clipped(tmp_path):
    (tmp_path / "in").mkdir()
    loud = 3 * sound("loud")[:, 0]
    soundfile.write(tmp_path / "in" / "loud.wav", loud, 16_000, "FLOAT")
    _, [record] = one(tmp_path, [("loud.wav", "A sound", "")], form=ORIGINAL)
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


def test_silence_is_counted_by_what_made_it(tmp_path, capsys):
    """On what is stored; each is kept."""
    folder = tmp_path / "in"
    folder.mkdir()
    left = sound("left")[:, 0]
    soundfile.write(folder / "silent.wav", np.zeros(16_000), 16_000)
    soundfile.write(folder / "cancels.wav", np.column_stack([left, -left]), 16_000)
    soundfile.write(folder / "quiet.wav", np.full(16_000, 2.0**-20), 16_000, "PCM_24")
    high = np.sin(2 * np.pi * 20_000 * np.arange(44_100) / 44_100) * np.hanning(44_100)
    soundfile.write(folder / "high.wav", high / 8, 44_100, "PCM_24")
    rows = [(f"{name}.wav", "Nothing", "") for name in ("silent", "cancels", "quiet", "high")]
    report, _ = one(tmp_path, [*rows, ("good.wav", "A sound", "")])
    kinds = dict.fromkeys(("silent", "channels cancel", "below 16 bits", "above 8 kHz"), 1)
    assert (report["written"], report["silent"]) == (5, kinds)
    assert np.load(tmp_path / "out" / "index" / "train.audio.npy").tolist().count(0) == 1
    show(tmp_path / "out", report)
    assert "1 clips are silent, since their channels cancel in the mean; see --channels" in (
        capsys.readouterr().out
    )


@pytest.mark.parametrize(("channels", "heard"), [("mean", 1.5), ("first", 1.0), ("loudest", 2.0)])
def test_which_channels_become_mono(channels, heard, tmp_path):
    (tmp_path / "in").mkdir()
    quiet = 0.2 * sound("one")[:, 0]
    soundfile.write(tmp_path / "in" / "two.wav", np.column_stack([quiet, 2 * quiet]), 16_000)
    form = Form(channels=channels)
    _, [record] = one(tmp_path, [("two.wav", "A sound", "")], form=form)
    samples, _ = soundfile.read(io.BytesIO(record["audio"]))
    np.testing.assert_allclose(samples, heard * quiet, rtol=0, atol=2.0**-14)


def test_a_crop_of_ten_minutes(tmp_path):
    (tmp_path / "in").mkdir()
    long = np.tile((sound("long", 1.0, 8_000)[:, 0] * 32_767).astype(np.int16), 600)
    soundfile.write(tmp_path / "in" / "long.wav", long, 8_000)
    _, [record] = one(tmp_path, [("long.wav", "A sound", "")])
    assert record["duration"] == 600
    crop, samples = read_clip(record["audio"], 2.0, 0.9)
    assert samples == 32_000 and crop.any()
