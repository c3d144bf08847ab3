"""Batches are a pure function of (seed, step): not of workers, hosts or where the stream starts."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from supclap_jax.data.audio import read_clip
from supclap_jax.data.batches import audio_batches, training_batches
from supclap_jax.data.clotho import read_clotho
from supclap_jax.data.text import Tokenizer, train_tokenizer

pytestmark = pytest.mark.slow

LANGUAGES = ("eng_Latn", "jpn_Jpan")
STEPS = 6  # of batch 8: more than one epoch of 28 clips


@pytest.fixture(scope="module")
def clips(soundscape):
    return read_clotho(Path(soundscape), "development", LANGUAGES)


@pytest.fixture(scope="module")
def tokenizer(clips):
    texts = [text for captions in clips.captions.values() for row in captions for text in row]
    return Tokenizer(train_tokenizer(texts, 300), 300)


def take(clips, tokenizer, config, count=STEPS, **options):
    return list(itertools.islice(training_batches(clips, tokenizer, config, **options), count))


def assert_same(batches, others):
    for batch, other in zip(batches, others, strict=True):
        for name in batch:
            np.testing.assert_array_equal(batch[name], other[name])


def test_shapes(clips, tokenizer, config):
    batch = take(clips, tokenizer, config, 1)[0]
    assert {name: (array.shape, array.dtype.name) for name, array in batch.items()} == {
        "audio": ((8, 16_000), "float32"),
        "audio_lengths": ((8,), "int32"),
        "tokens": ((8, 24), "int32"),
        "group_ids": ((8,), "int32"),
    }


def test_every_example_is_of_its_clip(clips, tokenizer, config):
    """A crop of the clip's own file, one of its own captions; every clip once an epoch."""
    batches = take(clips, tokenizer, config)
    ids = np.concatenate([batch["group_ids"] for batch in batches])
    assert sorted(ids[:28]) == list(range(28))
    for batch in batches[:2]:
        for audio, tokens, clip in zip(
            batch["audio"], batch["tokens"], batch["group_ids"], strict=True
        ):
            whole, _ = read_clip(clips.paths[clip], 2.0)
            starts = np.flatnonzero(whole[: 16_000 + 1] == audio[0])
            assert any(np.array_equal(whole[s : s + 16_000], audio) for s in starts)
            own = [
                tokenizer.encode(text, language, 24).tolist()
                for language in LANGUAGES
                for text in clips.captions[language][clip]
            ]
            assert tokens.tolist() in own


def test_epochs_differ_in_order_crop_and_caption(clips, tokenizer, config):
    batches = take(clips, tokenizer, config, 7)
    joined = {name: np.concatenate([b[name] for b in batches]) for name in batches[0]}
    first, second = (np.argsort(joined["group_ids"][part]) for part in (slice(28), slice(28, 56)))
    assert not np.array_equal(first, second)
    same_audio = (joined["audio"][:28][first] == joined["audio"][28:][second]).all(axis=1)
    same_tokens = (joined["tokens"][:28][first] == joined["tokens"][28:][second]).all(axis=1)
    assert same_audio.mean() < 0.2
    assert same_tokens.mean() < 0.4


def test_seed_changes_the_stream(clips, tokenizer, config):
    first = take(clips, tokenizer, config, 1)[0]["group_ids"]
    config.seed = 1
    assert not np.array_equal(first, take(clips, tokenizer, config, 1)[0]["group_ids"])


@pytest.mark.parametrize("start", [1, 4])
def test_starting_at_a_step_is_slicing(clips, tokenizer, config, start):
    whole = take(clips, tokenizer, config)
    assert_same(whole[start:], take(clips, tokenizer, config, STEPS - start, start_step=start))


def test_workers_change_nothing(clips, tokenizer, config):
    whole = take(clips, tokenizer, config)
    config.data.workers = 2
    assert_same(whole[2:], take(clips, tokenizer, config, STEPS - 2, start_step=2))


@pytest.mark.parametrize("hosts", [2, 4])
def test_hosts_share_the_same_global_batches(clips, tokenizer, config, hosts):
    whole = take(clips, tokenizer, config)
    parts = [take(clips, tokenizer, config, host=h, hosts=hosts) for h in range(hosts)]
    for step, batch in enumerate(whole):
        shares = [part[step] for part in parts]
        assert all(len(share["group_ids"]) == 8 // hosts for share in shares)
        joined = {name: np.concatenate([share[name] for share in shares]) for name in batch}
        assert_same([batch], [joined])


def test_audio_batches_are_the_clips_in_order(clips):
    batches = list(audio_batches(clips, 1.5, 12))
    assert [len(batch["audio"]) for batch in batches] == [12, 12, 4]
    expected = [read_clip(path, 1.5) for path in clips.paths]
    for name, values in zip(("audio", "audio_lengths"), zip(*expected, strict=True), strict=True):
        np.testing.assert_array_equal(np.concatenate([batch[name] for batch in batches]), values)


def test_batches_say_how_long_their_clips_are(clips, tokenizer, config):
    with config.unlocked():
        config.audio.seconds = 3.0
    batch = take(clips, tokenizer, config, 1)[0]
    evaluated = next(audio_batches(clips, 3.0, 8))
    for audio, samples in ((batch["audio"], batch["audio_lengths"]), tuple(evaluated.values())):
        assert audio.shape == (8, 48_000)
        assert samples.dtype == np.int32
        np.testing.assert_array_equal(samples, 32_000)
        assert not audio[:, 32_000:].any()
        assert audio[:, 31_000:32_000].any()


def test_augmentation_is_a_function_of_seed_and_step_too(clips, tokenizer, config):
    config.data.update(mixup=0.5, time_shift=True, gain_db=3.0)
    plain = take(clips, tokenizer, config)
    config.data.workers = 1
    assert_same(plain, take(clips, tokenizer, config))
    halves = [take(clips, tokenizer, config, host=host, hosts=2) for host in (0, 1)]
    for batch, first, second in zip(plain, *halves, strict=True):
        for name, whole in batch.items():
            np.testing.assert_array_equal(whole, np.concatenate([first[name], second[name]]))


def test_a_mixed_pair_has_two_clips_and_both_captions(clips, tokenizer, config):
    """Some rows are plain; of the others the caption is the clip's own and then another's."""
    config.data.mixup = 0.5
    config.text.max_tokens = 200
    plain = mixed = 0
    for batch in take(clips, tokenizer, config, 4):
        for audio, tokens, clip in zip(
            batch["audio"], batch["tokens"], batch["group_ids"], strict=True
        ):
            whole, _ = read_clip(clips.paths[clip], 2.0)
            is_plain = any(
                np.array_equal(whole[s : s + 16_000], audio)
                for s in np.flatnonzero(whole[: 16_000 + 1] == audio[0])
            )
            own = [
                tokenizer.encode(text, language, 200)
                for language in LANGUAGES
                for text in clips.captions[language][clip]
            ]
            plain, mixed = plain + is_plain, mixed + (not is_plain)
            assert is_plain == any(np.array_equal(tokens, row) for row in own)
    assert plain > 4 and mixed > 4
