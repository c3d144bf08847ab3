"""Sound files as they are in the wild: stored as another decoder hears them, or left out."""

import io
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import soundfile

from supclap_jax.data import containers
from supclap_jax.data.audio import read_clip
from supclap_jax.data.containers import inspect
from supclap_jax.data.flac import Form, to_flac
from supclap_jax.data.sound_files import BadAudio, open_sound, survey, survey_all
from tests.data.hearing import RATE

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
damage = import_module("damage")


def tone(seconds, rate=RATE):
    return 0.5 * np.sin(2 * np.pi * 440 * np.arange(round(rate * seconds)) / rate)


def encoded(container, subtype=None, seconds=1.0, rate=RATE, **options):
    file = io.BytesIO()
    soundfile.write(file, tone(seconds, rate), rate, subtype, format=container, **options)
    return file.getvalue()


@pytest.mark.parametrize("encoding", damage.ENCODINGS, ids=lambda encoding: encoding.name)
def test_damaged_files_are_stored_right_or_left_out(encoding):
    """Whole, cut, flipped, and lying; `benchmarks/damage.py` has thousands."""
    outcomes = {}
    for case in damage.cases_of(encoding, np.random.default_rng(3)):
        outcomes[case.damage] = damage.judge(case)
    assert outcomes["none"] == "stored right"
    assert not {"stored wrong", "left out, though whole"} & set(outcomes.values()), outcomes


def test_what_is_stored_wrong_is_noticed():
    case = damage.Case("WAV", "none", encoded("WAV"), 0.9 * tone(1.0)[:, None])
    assert damage.judge(case) == "stored wrong"
    assert damage.judge(case._replace(expected=tone(1.01)[:, None])) == "stored wrong"


def test_an_mp3_is_as_long_as_it_sounds():
    """Without its count of frames, behind a picture, of variable rate."""
    whole = encoded("MP3", seconds=20.0, bitrate_mode="VARIABLE")
    bare = damage.without_counts(whole)
    for data in (whole, bare, *damage.lies(whole)):
        flac = to_flac(data)
        assert flac.duration == pytest.approx(20.0, abs=3 * 576 / RATE)
    tagged = bare + b"TAG" + bytes(125)
    assert to_flac(tagged).digest == to_flac(bare).digest
    with open_sound(bare) as file:
        assert file.frames == round(to_flac(bare).duration * RATE)


def id3(content):
    size = bytes(len(content) >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\4\0\0" + size + content


MP3 = encoded("MP3", seconds=2.0)
BARE = damage.without_counts(MP3)


@pytest.mark.parametrize(
    ("data", "seconds"),
    [
        (id3(b"") + bytes(60) + BARE, 2.0),  # a tag with padding that it does not count
        (b"\0" + BARE, 2.0),
        (np.random.default_rng(0).bytes(300) + BARE, 2.0),
        (MP3 + b"hello", 2.0),
        (MP3 + b"ID3", 2.0),
        (BARE + b"ID3\4\0", "damaged at byte"),  # a tag that is cut
        (BARE + b"TAG" + bytes(125), 2.0),
        (BARE + BARE, 4.0),
        (MP3 + id3(b"x" * 90_000) + MP3, "several files"),
        (MP3 + MP3, "says 58 frames, but there are"),
        (BARE[: len(BARE) // 3] + bytes(len(BARE) * 2 // 3), "damaged at byte"),
        (BARE[:3_000] + bytes(500) + BARE[3_500:], "damaged at byte"),
    ],
)
def test_mp3_between_other_bytes(data, seconds, tmp_path):
    path = tmp_path / "a.mp3"
    path.write_bytes(data)
    for audio in (data, path):
        if isinstance(seconds, str):
            with pytest.raises(BadAudio, match=seconds):
                to_flac(audio)
        else:
            assert to_flac(audio).duration == pytest.approx(seconds, abs=4 * 576 / RATE)


@pytest.mark.parametrize("suffix", ["vox", "gsm", "raw", "au", "mp3", "wav"])
def test_what_is_no_sound_is_none_whatever_its_name(suffix, tmp_path):
    path = tmp_path / f"page.{suffix}"
    path.write_bytes(b"<html>404 not found</html>" * 3_000)
    with pytest.raises(BadAudio, match="it cannot be decoded"):
        to_flac(path)


def test_wavs_as_recorders_and_editors_write_them():
    whole = encoded("WAV")
    place = whole.index(b"data") + 4
    for said in (0x80000000, 0x7FFF0000, 0x7F000000):
        streamed = whole[:place] + said.to_bytes(4, "little") + whole[place + 4 :]
        assert survey(streamed).frames == RATE
    unpadded = b"LIST" + (19).to_bytes(4, "little") + b"INFOx" * 3 + b"four"
    data = whole[: place - 4] + unpadded + whole[place - 4 :]
    assert inspect(data).problem == ""
    assert to_flac(id3(b"title") + whole).digest == to_flac(whole).digest


def test_32_bit_originals_keep_their_upper_24(tmp_path):
    samples = np.random.default_rng(0).integers(-(2**31), 2**31, 8_000, dtype=np.int32)
    soundfile.write(tmp_path / "a.wav", samples, RATE, "PCM_32")
    flac = to_flac(tmp_path / "a.wav", Form(original=True))
    stored, _ = soundfile.read(io.BytesIO(flac.data), dtype="int32")
    np.testing.assert_array_equal(stored, samples >> 8 << 8)


@pytest.mark.parametrize(("suffix", "subtype"), [("mp3", None), ("opus", "OPUS"), ("ogg", None)])
def test_a_crop_from_within_is_what_the_whole_has_there(suffix, subtype, tmp_path):
    path = tmp_path / f"long.{suffix}"
    path.write_bytes(encoded("MP3" if suffix == "mp3" else "OGG", subtype, seconds=9.0))
    whole, _ = read_clip(path, 9.0)
    for position in (0.2, 0.9):
        first = int(position * (7 * RATE + 1))
        clip, _ = read_clip(path, 2.0, position)
        np.testing.assert_allclose(clip, whole[first : first + 2 * RATE], rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("container", "subtype"),
    [("FLAC", None), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", None), ("W64", None)],
)
def test_every_byte_that_is_missing_is_missed(container, subtype):
    data = encoded(container, subtype, seconds=0.3)
    survey(data)
    for end in range(len(data) * 2 // 3, len(data), 97):
        with pytest.raises(BadAudio):
            survey(data[:end])


def streamed_flac(seconds):
    data = bytearray(encoded("FLAC", seconds=seconds))
    data[21] &= 0xF0
    data[22:42] = bytes(20)
    return bytes(data)


def test_a_streamed_flac_that_lost_a_frame_is_damaged():
    data = streamed_flac(3.0)
    assert survey(data).frames == 3 * RATE
    frames = [i for i in range(42, len(data)) if containers._flac_frame(data, i)]
    lost = data[: frames[4]] + data[frames[5] :]
    with pytest.raises(BadAudio, match=r"it is damaged before byte [\d,]+"):
        survey(lost)
    flipped = bytearray(data)
    flipped[(frames[4] + frames[5]) // 2] ^= 4
    with pytest.raises(BadAudio):
        survey(bytes(flipped))


def test_flac_of_other_samples_than_its_checksum_is_of():
    data = bytearray(encoded("FLAC"))
    data[30] ^= 1
    with pytest.raises(BadAudio, match="not those that its checksum is of"):
        survey(bytes(data))


def wav(rate, channels, frames):
    file = io.BytesIO()
    soundfile.write(file, np.full((frames, channels), 0.25), rate, "PCM_U8", format="WAV")
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (wav(1, 1, 2_000), "its rate is 1 Hz; expected 1 kHz to 1 MHz"),
        (wav(1_000_001, 1, 2_000), "its rate is 1,000,001 Hz"),
        (wav(16_000, 65, 10), "it has 65 channels; expected at most 64"),
        (wav(1_000, 1, 1_000 * 86_400 + 4_000), "it is 24 hours long; expected at most a day"),
        (wav(192_000, 1, 1), "it is too short: not a sample is left"),
        (b"\0\0\0\x18ftypM4A " + bytes(100), "it is MPEG-4 audio"),
        (b"", "the file is empty"),
    ],
)
def test_absurd_files_are_left_out(data, reason):
    with pytest.raises(BadAudio, match=reason):
        to_flac(data)


def test_one_sample_is_kept_where_one_is_left():
    assert to_flac(wav(16_000, 1, 1)).duration == 1 / 16_000
    assert to_flac(wav(192_000, 1, 1), Form(original=True)).duration == 1 / 192_000


def test_an_ogg_file_of_several_streams_is_left_out():
    data = encoded("OGG", "VORBIS", seconds=0.2)
    assert inspect(data).problem == ""
    assert "streams" in inspect(data + encoded("OGG", "VORBIS", seconds=0.3)).problem


def test_an_mp3_that_two_decoders_hear_differently_is_left_out():
    """A byte of the sound itself: no frame is lost, and no checksum tells."""
    data, seen = encoded("MP3", seconds=2.0), 0
    for place in range(1_000, len(data), len(data) // 40):
        flipped = bytearray(data)
        flipped[place] ^= 0x55
        try:
            survey(bytes(flipped))
        except BadAudio:
            seen += 1
    assert seen > 5


def test_survey_all_tells_each(tmp_path):
    good, bad = tmp_path / "good.opus", tmp_path / "bad.au"
    good.write_bytes(encoded("OGG", "OPUS"))
    whole = encoded("AU")
    bad.write_bytes(whole[: len(whole) // 2])
    found, fault = survey_all([good, bad])
    assert found == survey(good)
    assert str(fault) == "the file is truncated: shorter than its header says"
