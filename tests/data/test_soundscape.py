"""Scenes are drawn from their key alone, as the configuration says."""

import dataclasses
import itertools

import numpy as np
import pytest

from supclap_jax.data.sound_events import KINDS
from supclap_jax.data.soundscape import SPLITS, Soundscape, described, scene
from supclap_jax.data.soundscape_captions import captions
from supclap_jax.data.soundscape_files import write_clotho
from supclap_jax.data.soundscape_rendering import render


def test_a_clip_is_a_pure_function_of_seed_split_and_index():
    config = Soundscape(seed=3, seconds=2)
    keys = [(split, index) for split in SPLITS for index in range(4)]

    def clips(order):
        drawn = {key: scene(config, *key) for key in order}
        return {key: (drawn[key], render(config, drawn[key])) for key in order}

    forwards, backwards = clips(keys), clips(keys[::-1])
    for key in keys:
        assert forwards[key][0] == backwards[key][0]
        np.testing.assert_array_equal(forwards[key][1], backwards[key][1])
    assert len({forwards[key][1].tobytes() for key in keys}) == len(keys)
    other = scene(dataclasses.replace(config, seed=4), "development", 0)
    assert other.events != forwards["development", 0][0].events


def test_scenes_have_one_to_three_distinct_events_in_order():
    config = Soundscape()
    scenes = [scene(config, "development", i) for i in range(600)]
    sizes = np.bincount([len(s.kinds) for s in scenes], minlength=4)
    assert sizes[0] == 0 and (sizes[1:] > 150).all() and sizes.sum() == 600
    for s in scenes:
        assert len(set(s.kinds)) == len(s.kinds)
        assert all(a.onset + a.seconds <= b.onset for a, b in itertools.pairwise(s.events))
        assert s.events[0].onset >= 0
        assert s.events[-1].onset + s.events[-1].seconds <= config.seconds
    assert {e.number for s in scenes for e in s.events} == {None, 1, 2, 3, 4}
    assert sum(s.background is not None for s in scenes) > 120


def test_share_of_wrong_captions():
    right = Soundscape(seconds=2)
    wrong = {share: dataclasses.replace(right, wrong_captions=share) for share in (0.25, 0.5)}

    def strays(config, split):
        pairs = ((scene(config, split, i), described(config, split, i)) for i in range(400))
        return {i for i, (own, said) in enumerate(pairs) if own.kinds != said.kinds}

    assert not strays(right, "development") and not strays(wrong[0.5], "evaluation")
    few, many = strays(wrong[0.25], "development"), strays(wrong[0.5], "development")
    assert abs(len(few) / 400 - 0.25) < 0.05 and abs(len(many) / 400 - 0.5) < 0.06
    assert few < many
    assert scene(right, "development", 7) == scene(wrong[0.5], "development", 7)


def test_zipf_skews_the_kinds():
    def shares(zipf):
        config = Soundscape(zipf=zipf)
        first = [scene(config, "development", i).kinds for i in range(600)]
        counts = np.array([sum(kinds == (k,) for kinds in first) for k in KINDS])
        return counts / counts.sum()

    weights = 1.0 / np.arange(1, len(KINDS) + 1)
    even, skewed = shares(0), shares(1)
    assert even.max() < 0.1
    assert abs(skewed[0] - (weights / weights.sum())[0]) < 0.09
    assert skewed[:5].sum() > 2 * even[:5].sum()
    assert shares(1000)[0] == 1


@pytest.mark.parametrize(
    "field, value",
    [
        ("seed", -1),
        ("seconds", 1.9),
        ("seconds", 11),
        ("sample_rate", 8000),
        ("zipf", -0.1),
        ("zipf", float("nan")),
        ("wrong_captions", 1.5),
    ],
)
def test_a_field_out_of_range_is_refused(field, value):
    with pytest.raises(ValueError, match=field):
        Soundscape(**{field: value})


def test_unknown_names_are_refused(tmp_path):
    config = Soundscape()
    with pytest.raises(ValueError, match="'test'; expected one of development"):
        scene(config, "test", 0)
    with pytest.raises(ValueError, match="'en'; expected one of eng_Latn"):
        captions(scene(config, "development", 0), "en")
    with pytest.raises(ValueError, match="'mp3'; expected one of wav"):
        write_clotho(config, tmp_path, 10, "mp3")
    with pytest.raises(ValueError, match="clips is 9"):
        write_clotho(config, tmp_path, 9)
    assert not list(tmp_path.iterdir())
