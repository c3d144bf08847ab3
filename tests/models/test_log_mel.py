import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from supclap_jax.models.log_mel import (
    _mel_by_convolution,
    _mel_by_fft,
    frame_count,
    log_mel,
    mel_filterbank,
)
from tests.models.golden import LOG_MEL_ERROR, cases_of

pytestmark = pytest.mark.slow

OPTIMIZED = True


@pytest.fixture(scope="module")
def golden():
    return cases_of("ced_frontend")


@pytest.fixture(scope="module")
def clips(golden):
    """The loud and the quiet clip, zero-padded on the right to one length."""
    loud, quiet = golden["waveform.loud"], golden["waveform.quiet"]
    return np.stack([np.pad(loud, (0, len(quiet) - len(loud))), quiet])


@pytest.mark.parametrize("clip", ["loud", "quiet"])
def test_matches_the_reference_for_one_clip(golden, clip):
    got = jax.jit(log_mel)(golden[f"waveform.{clip}"][None])
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got[0].T, golden[f"logmel.{clip}"], rtol=0, atol=LOG_MEL_ERROR)


@pytest.mark.parametrize("clamp, key", [("clip", "per_clip"), ("batch", "batch_max")])
def test_matches_the_reference_for_a_batch(golden, clips, clamp, key):
    got = log_mel(clips, clamp=clamp).transpose(0, 2, 1)
    np.testing.assert_allclose(got, golden[f"batch.logmel_{key}"], rtol=0, atol=LOG_MEL_ERROR)


def test_fft_and_convolution_are_the_same_transform(golden):
    """In value and gradient."""
    waveform = golden["waveform.loud"].reshape(2, -1)
    samples = np.array([waveform.shape[1], 5000])
    power, pull_back = jax.vjp(lambda x: _mel_by_fft(x, samples), waveform)
    expected, expected_pull_back = jax.vjp(lambda x: _mel_by_convolution(x, samples), waveform)
    valid = (np.arange(power.shape[1]) < frame_count(samples)[:, None])[..., None]
    power, expected = power * valid, expected * valid
    np.testing.assert_allclose(power, expected, rtol=0, atol=1e-5 * expected.max())
    weights = valid * np.random.default_rng(0).normal(size=power.shape).astype(np.float32)
    gradient, expected = pull_back(weights)[0], expected_pull_back(weights)[0]
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_filterbank_matches_the_reference():
    state = cases_of("ced_encoder.weights_original")
    np.testing.assert_allclose(mel_filterbank(), state["front_end.0.mel_scale.fb"], atol=1e-5)


def test_a_clip_does_not_depend_on_its_neighbours(clips):
    alone = log_mel(clips[1:])
    beside_loud = log_mel(clips)[1:]
    np.testing.assert_allclose(alone, beside_loud, rtol=0, atol=1e-3)
    assert np.abs(alone - log_mel(clips, clamp="batch")[1:]).max() > 1


LENGTHS = [257, 300, 511, 512, 513, 768, 769, 4_000, 20_800, 32_076, 32_077]


@pytest.mark.parametrize("padding", [0, 0.5, np.nan])
def test_padding_changes_no_frame(golden, padding):
    quiet = golden["waveform.quiet"]
    batch = np.full([len(LENGTHS), 33_000], padding, np.float32)
    for row, length in zip(batch, LENGTHS, strict=True):
        row[:length] = quiet[-length:]
    got = jax.jit(log_mel)(batch, np.array(LENGTHS))
    for row, length in zip(got, LENGTHS, strict=True):
        alone = log_mel(quiet[None, -length:])[0]
        assert len(alone) == frame_count(length)
        np.testing.assert_allclose(row[: len(alone)], alone, rtol=0, atol=2e-3)


def test_lengths_of_whole_clips_change_nothing(clips):
    lengths = np.full(2, clips.shape[1])
    for clamp in ("clip", "batch"):
        expected = log_mel(clips, clamp=clamp)
        np.testing.assert_allclose(log_mel(clips, lengths, clamp=clamp), expected, atol=1e-4)


@pytest.mark.parametrize("samples", [257, 479, 480, 481, 16_000, 16_159, 16_160])
def test_frame_count(samples):
    assert log_mel(jnp.ones([2, samples])).shape == (2, 1 + samples // 160, 64)


def test_computes_in_float32_whatever_the_input_type(clips):
    rounded = jnp.asarray(clips, jnp.bfloat16)
    np.testing.assert_array_equal(log_mel(rounded), log_mel(rounded.astype(jnp.float32)))


@pytest.mark.parametrize("lengths", [False, True])
def test_a_sharded_batch_stays_where_it_is(lengths):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    by_clip = NamedSharding(mesh, PartitionSpec("data"))
    waveform = jax.ShapeDtypeStruct((16, 1600), jnp.float32, sharding=by_clip)
    samples = jax.ShapeDtypeStruct((16,), jnp.int32, sharding=by_clip) if lengths else None
    program = jax.jit(log_mel, out_shardings=by_clip).lower(waveform, samples).compile().as_text()
    assert "num_partitions=8" in program
    assert not re.search(r"all-gather|all-reduce|all-to-all|collective-permute", program)


def test_gradient_of_silence_is_finite():
    gradient = jax.grad(lambda waveform: log_mel(waveform).sum())(jnp.zeros([1, 1600]))
    assert np.isfinite(gradient).all()


def test_errors_name_both_values():
    with pytest.raises(ValueError, match=r"more than 256 samples.*\(2, 256\)"):
        log_mel(jnp.zeros([2, 256]))
    with pytest.raises(ValueError, match=r"\[batch, samples\].*\(16000,\)"):
        log_mel(jnp.zeros([16_000]))
    with pytest.raises(ValueError, match=r"'clip' or 'batch', got 'batch_max'"):
        log_mel(jnp.zeros([2, 1600]), clamp="batch_max")
