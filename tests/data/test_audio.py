"""Audio files as they come: all formats, rates and channel counts, and the broken ones."""

import io

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from supclap_jax.data.audio import MIN_SAMPLES, SAMPLE_RATE, read_clip
from supclap_jax.data.sound_files import BadAudio, survey_all
from supclap_jax.models.ced import PATCH
from supclap_jax.models.log_mel import HOP


def tone(rate, seconds, frequency=440.0):
    return 0.5 * np.sin(2 * np.pi * frequency * np.arange(round(rate * seconds)) / rate)


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 96_000])
@pytest.mark.parametrize(
    ("suffix", "subtype"), [("wav", "PCM_16"), ("wav", "FLOAT"), ("flac", None)]
)
def test_a_tone_is_the_same_tone_at_16_khz(tmp_path, rate, suffix, subtype):
    path = tmp_path / f"tone.{suffix}"
    soundfile.write(path, tone(rate, 1.0), rate, subtype)
    clip, samples = read_clip(path, 1.0)
    assert samples == 16_000
    assert clip.dtype == np.float32
    assert clip.shape == (16_000,)
    inner = slice(800, -800)  # the resampler rings at the ends
    np.testing.assert_allclose(clip[inner], tone(SAMPLE_RATE, 1.0)[inner], atol=2e-3)


def test_channels_are_averaged(tmp_path):
    path = tmp_path / "stereo.wav"
    channels = np.stack([tone(16_000, 0.1), np.zeros(1600)], axis=1)
    soundfile.write(path, channels, 16_000, "FLOAT")
    np.testing.assert_allclose(read_clip(path, 0.1)[0], tone(16_000, 0.1) / 2, atol=1e-6)


@pytest.mark.parametrize(
    ("length", "samples"), [(1, 2400), (1000, 2400), (2400, 2400), (2401, 2401), (4000, 3200)]
)
def test_short_clips_are_padded_on_the_right(tmp_path, length, samples):
    """And count as 2,400 samples at least, what the audio encoder needs."""
    path = tmp_path / "short.wav"
    soundfile.write(path, np.full(length, 0.25), 16_000, "FLOAT")
    clip, own = read_clip(path, 0.2, position=0.9)
    np.testing.assert_array_equal(clip, ([0.25] * length + [0] * 3200)[:3200])
    assert own == samples
    assert 1 + MIN_SAMPLES // HOP == PATCH


@pytest.mark.parametrize(("position", "first"), [(0.0, 0), (0.5, 500), (0.9999, 1000)])
def test_position_reaches_from_the_first_to_the_last_crop(tmp_path, position, first):
    path = tmp_path / "ramp.wav"
    ramp = np.arange(2600) / 4096
    soundfile.write(path, ramp, 16_000, "FLOAT")
    np.testing.assert_array_equal(read_clip(path, 0.1, position)[0], ramp[first : first + 1600])


def flac(samples, rate, subtype="PCM_16", level=0.625):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, subtype, format="FLAC", compression_level=level)
    return file.getvalue()


@given(
    length=st.integers(1, 30_000),
    channels=st.sampled_from([1, 2, 3, 8]),
    subtype=st.sampled_from(["PCM_S8", "PCM_16", "PCM_24"]),
    level=st.sampled_from([0.0, 0.25, 0.625, 1.0]),
    seconds=st.floats(0.01, 2.0),
    position=st.floats(0, 1, exclude_max=True),
)
def test_flac_in_memory_is_the_file_sample_by_sample(
    length, channels, subtype, level, seconds, position
):
    """Wherever a crop begins and ends: soundfile decodes the whole here."""
    rng = np.random.default_rng(length)
    samples = np.cumsum(rng.normal(size=(length, channels)), axis=0) / 500
    data = flac(samples.clip(-1, 1), SAMPLE_RATE, subtype, level)
    whole, _ = soundfile.read(io.BytesIO(data), always_2d=True)
    wanted = round(seconds * SAMPLE_RATE)
    first = int(position * (max(length - wanted, 0) + 1))
    expected = np.zeros(wanted)
    crop = whole[first : first + wanted].mean(axis=1)
    expected[: len(crop)] = crop
    clip, _ = read_clip(data, seconds, position)
    np.testing.assert_allclose(clip, expected, rtol=0, atol=1e-7)


def test_damaged_flac_is_refused():
    data = flac(np.random.default_rng(0).normal(size=48_000) / 10, SAMPLE_RATE)
    read_clip(data, 3.0)
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 1
    for damaged in (bytes(flipped), data[: len(data) // 2]):
        with pytest.raises(BadAudio, match=r"damaged: \d+ of 48000 samples"):
            read_clip(damaged, 3.0)
    for other in (b"", b"RIFF" + data[4:], b"I am not a sound"):
        with pytest.raises(BadAudio, match="not a FLAC file"):
            read_clip(other, 3.0)


@pytest.fixture
def good(tmp_path):
    path = tmp_path / "good.wav"
    soundfile.write(path, tone(16_000, 0.5), 16_000)
    return path


def truncated(path, suffix, rate=16_000):
    whole = path.with_suffix(suffix)
    noise = np.random.default_rng(0).normal(size=rate) * 0.1
    soundfile.write(whole, noise, rate)
    content = whole.read_bytes()
    whole.write_bytes(content[: len(content) // 2])
    return whole


def test_problems_are_found_and_named(tmp_path, good):
    empty = tmp_path / "empty.wav"
    empty.touch()
    text = tmp_path / "text.wav"
    text.write_text("I am not a sound")
    nan = tmp_path / "nan.wav"
    soundfile.write(nan, np.array([0.1, np.nan, 0.1]), 16_000, "FLOAT")
    silent_header = tmp_path / "no_samples.wav"
    soundfile.write(silent_header, np.zeros(0), 16_000)
    cut_wav = truncated(tmp_path / "cut_a", ".wav")
    cut_flac = truncated(tmp_path / "cut_b", ".flac")
    cut_aiff = truncated(tmp_path / "cut_c", ".aiff")
    seen = []
    expected = {
        empty: "the file is empty",
        text: "cannot be decoded",
        nan: "NaN or infinite",
        silent_header: "no samples",
        cut_wav: "truncated",
        cut_flac: "truncated|cannot be decoded",
        cut_aiff: "truncated",
        tmp_path / "absent.wav": "no such file",
    }
    found, *faults = survey_all([good, *expected], seen.append)
    assert found.seconds == pytest.approx(soundfile.info(good).duration)
    for (path, words), fault in zip(expected.items(), faults, strict=True):
        assert any(word in str(fault) for word in words.split("|")), (path, fault)
    assert seen == list(range(1, len(expected) + 2))


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg"])
def test_whole_files_are_fine(tmp_path, suffix):
    path = tmp_path / f"whole{suffix}"
    soundfile.write(path, tone(44_100, 0.7), 44_100)
    [found] = survey_all([path])
    assert found.seconds == pytest.approx(0.7)
