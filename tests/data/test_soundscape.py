import csv
import dataclasses
import hashlib
import itertools
import json

import numpy as np
import pytest
import soundfile

from supclap_jax.data import sound_events, soundscape
from supclap_jax.data.sound_events import CATALOGUE, Event
from supclap_jax.data.soundscape import KINDS, LANGUAGES, Soundscape, captions, render, scene

RATE = 16_000
STRUCK = [kind for kind in KINDS if CATALOGUE[kind].struck]
PITCHED = [kind for kind in KINDS if "pitch" in CATALOGUE[kind].attributes]
PACED = [kind for kind in KINDS if "speed" in CATALOGUE[kind].attributes]


def hear(kind, seed=0, seconds=4.0, **attributes):
    if CATALOGUE[kind].struck:
        attributes = {"number": 3, **attributes}
    event = Event(kind, 0.0, seconds, **attributes)
    return sound_events.synthesize(np.random.default_rng(seed), event, RATE)


def envelope(sound, window=160):
    frames = sound[: len(sound) // window * window].reshape(-1, window)
    return np.sqrt(np.square(frames).mean(axis=1))


def centroid(values, positions):
    return (values * positions).sum() / values.sum()


def spectral_centroid(sound):
    power = np.abs(np.fft.rfft(sound)) ** 2
    frequencies = np.fft.rfftfreq(len(sound), 1 / RATE)
    return np.exp(centroid(power[1:], np.log(frequencies[1:])))


def band_energies(sound):
    power = np.abs(np.fft.rfft(sound)) ** 2
    edges = np.geomspace(50, 8000, 41)
    bands = np.searchsorted(np.fft.rfftfreq(len(sound), 1 / RATE), edges)
    energies = [power[a : max(b, a + 1)].sum() for a, b in itertools.pairwise(bands)]
    profile = np.log(np.array(energies) / np.sum(energies) + 1e-6)
    level = envelope(sound)
    return np.append(profile, 5 * np.log(level.mean() / level.max()))


def onsets(sound, window=RATE // 48):
    level = envelope(sound, window)
    loud, armed, count = 0.4 * level.max(), True, 0
    for value in level:
        if armed and value > loud:
            count, armed = count + 1, False
        armed = armed or value < 0.6 * loud
    return count


def bursts(sound):
    return onsets(sound, 80)


def sweeping(sound):
    """How fast the spectral centroid moves."""
    frames = sound[: len(sound) // 800 * 800].reshape(-1, 800)
    return np.abs(np.diff([np.log(spectral_centroid(frame)) for frame in frames])).mean()


def digest(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def read(path, encoding="utf-8"):
    with open(path, encoding=encoding, newline="") as file:
        return list(csv.DictReader(file))


def test_a_clip_is_a_pure_function_of_seed_split_and_index():
    config = Soundscape(seed=3, seconds=2)
    keys = [(split, index) for split in soundscape.SPLITS for index in range(4)]

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


@pytest.mark.parametrize("seconds, rate", [(2, 16_000), (3.3, 22_050), (10, 48_000)])
def test_length_rate_and_range_are_honoured(seconds, rate):
    config = Soundscape(seconds=seconds, sample_rate=rate)
    for index in range(3):
        clip = render(config, scene(config, "validation", index))
        assert clip.dtype == np.float32 and clip.shape == (round(seconds * rate),)
        assert 1e-3 < np.abs(clip).max() < 1


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_stands_out_from_the_background_noise(kind):
    low = {"pitch": "low", "speed": "slow"}
    attributes = {name: low[name] for name in CATALOGUE[kind].attributes}
    number = 2 if CATALOGUE[kind].struck else None
    event = Event(kind, 0.1, 1.8, number=number, loudness="quiet", **attributes)
    config = Soundscape(seconds=2)
    for index in range(4):
        clip = render(config, soundscape.Scene((0, 0, index), (event,)))
        silence = render(config, soundscape.Scene((0, 0, index), ()))
        assert envelope(clip).max() > 2 * envelope(silence).max()


def test_kinds_sound_different():
    profiles = {kind: [band_energies(hear(kind, seed)) for seed in range(9)] for kind in KINDS}
    centroids = np.array([np.mean(profiles[kind][:6], axis=0) for kind in KINDS])
    guesses = [
        KINDS[np.square(centroids - profile).sum(axis=1).argmin()] == kind
        for kind in KINDS
        for profile in profiles[kind][6:]
    ]
    assert np.mean(guesses) > 0.8  # chance is 1/26


@pytest.mark.parametrize("kind", PITCHED)
def test_pitch_moves_the_spectrum(kind):
    low, high = (
        np.mean([spectral_centroid(hear(kind, seed, pitch=pitch)) for seed in range(3)])
        for pitch in ("low", "high")
    )
    assert high > 1.5 * low


@pytest.mark.parametrize("kind", PACED)
def test_speed_moves_the_rhythm(kind):
    measure = {"siren": sweeping, "crackling fire": bursts, "engine": bursts}.get(kind, onsets)
    fast, slow = (
        np.mean([measure(hear(kind, seed, speed=speed)) for seed in range(4)])
        for speed in ("fast", "slow")
    )
    assert fast > 1.5 * slow


@pytest.mark.parametrize("kind", STRUCK)
@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_number_is_the_count_of_onsets(kind, number):
    assert onsets(hear(kind, number=number)) == number


def test_loud_is_louder_than_quiet():
    config = Soundscape(seconds=2)

    def level(loudness):
        event = Event("whistle", 0.2, 1.5, number=2, pitch="low", loudness=loudness)
        return envelope(render(config, soundscape.Scene((0, 0, 0), (event,)))).max()

    assert 8 < 20 * np.log10(level("loud") / level("quiet")) < 24


@pytest.mark.parametrize("language", LANGUAGES)
def test_five_different_captions_in_every_language(language):
    config = Soundscape()
    for index in range(300):
        drawn = scene(config, "evaluation", index)
        texts = captions(drawn, language)
        assert len(set(texts)) == 5 == len(texts)
        assert texts == captions(drawn, language)
        for text in texts:
            assert text.strip() == text and text[-1] in ".。"
            assert not set("{}*|;0123456789") & set(text.replace(" ;", "").replace("; one", ""))
            assert "  " not in text and " ," not in text and " ." not in text


def test_captions_say_only_what_is_true():
    config = Soundscape()
    words = {
        "low": ("low-pitched", "deep"),
        "high": ("high-pitched", "shrill"),
        "fast": ("fast", "rapid"),
        "slow": ("slow", "leisurely"),
        "loud": ("loud", "powerful"),
        "quiet": ("quiet", "faint"),
    }
    named = 0
    for index in range(200):
        drawn = scene(config, "development", index)
        events = (*drawn.events, *filter(None, [drawn.background]))
        true = {value for e in events for value in (e.pitch, e.speed, e.loudness)}
        numbers = {e.number for e in events}
        for text in captions(drawn, "eng_Latn"):
            said = {v for v, synonyms in words.items() if any(w in text for w in synonyms)}
            assert said <= true
            named += len(said)
            for number, numeral in ((2, "two "), (3, "three "), (4, "four ")):
                assert numeral not in text.lower() or number in numbers
            assert "several" not in text.lower() or numbers & {3, 4}
    assert named > 1500


@pytest.mark.parametrize(
    "language, kind, number, attributes, expected",
    [
        ("eng_Latn", "owl hoot", 1, {}, {"an owl hoot", "a hoot of an owl"}),
        ("fra_Latn", "rain", None, {}, {"de la pluie", "un bruit de pluie"}),
        ("fra_Latn", "sea waves", None, {"speed": "slow"}, {"des vagues lentes"}),
        ("deu_Latn", "drum beat", 1, {"pitch": "low"}, {"einen tiefen Trommelschlag"}),
        ("deu_Latn", "drum beat", 2, {"pitch": "low"}, {"zwei tiefe Trommelschläge"}),
        ("spa_Latn", "siren", None, {"pitch": "high"}, {"una sirena aguda"}),
        ("nld_Latn", "whistle", 1, {"pitch": "low"}, {"een laag fluitsignaal"}),
        ("nld_Latn", "whistle", 2, {"pitch": "low"}, {"twee lage fluitsignalen"}),
        ("cat_Latn", "frog croak", 4, {"pitch": "high"}, {"quatre raucs aguts"}),
        ("jpn_Jpan", "drum beat", 3, {"pitch": "low"}, {"太鼓の低い音が三回"}),
        ("zho_Hans", "door knock", 2, {"loudness": "loud"}, {"两下响亮的敲门声"}),
    ],
)
def test_phrases_agree(language, kind, number, attributes, expected):
    event = Event(kind, 0.0, 1.0, number=number, **attributes)
    texts = [
        text
        for index in range(20)
        for text in captions(soundscape.Scene((0, 0, index), (event,)), language)
    ]
    for phrase in expected:
        assert any(phrase.lower() in text.lower() for text in texts), texts[:5]


def test_share_of_wrong_captions():
    right = Soundscape(seconds=2)
    wrong = {share: dataclasses.replace(right, wrong_captions=share) for share in (0.25, 0.5)}

    def strays(config, split):
        pairs = (
            (scene(config, split, i), soundscape.described(config, split, i)) for i in range(800)
        )
        return {i for i, (own, said) in enumerate(pairs) if own.kinds != said.kinds}

    assert not strays(right, "development") and not strays(wrong[0.5], "evaluation")
    few, many = strays(wrong[0.25], "development"), strays(wrong[0.5], "development")
    assert abs(len(few) / 800 - 0.25) < 0.05 and abs(len(many) / 800 - 0.5) < 0.06
    assert few < many
    assert scene(right, "development", 7) == scene(wrong[0.5], "development", 7)


def test_zipf_skews_the_kinds():
    def shares(zipf):
        config = Soundscape(zipf=zipf)
        first = [scene(config, "development", i).kinds for i in range(900)]
        counts = np.array([sum(kinds == (k,) for kinds in first) for k in KINDS])
        return counts / counts.sum()

    weights = 1.0 / np.arange(1, len(KINDS) + 1)
    assert shares(0).max() < 0.1
    assert abs(shares(1)[0] - (weights / weights.sum())[0]) < 0.09
    assert shares(1)[:5].sum() > 2 * shares(0)[:5].sum()
    assert shares(1000)[0] == 1


def test_layout_on_disk(tmp_path):
    config = Soundscape(seed=1, seconds=2)
    seen = []
    sizes = soundscape.write_clotho(config, tmp_path, 12, "flac", workers=1, progress=seen.append)
    assert sizes == {"development": 9, "validation": 1, "evaluation": 2}
    assert seen[-1] == 12 and seen == sorted(seen)
    assert json.loads((tmp_path / "soundscape.json").read_text())["clips"] == 12
    columns = ["file_name", *(f"caption_{i}" for i in range(1, 6))]
    for split, size in sizes.items():
        metadata = read(tmp_path / f"clotho_metadata_{split}.csv", "iso-8859-1")
        for language in LANGUAGES:
            suffix = "" if language == "eng_Latn" else f".{language}"
            rows = read(tmp_path / f"clotho_captions_{split}{suffix}.csv")
            assert len(rows) == size == len(metadata) and list(rows[0]) == columns
            for index, row in enumerate(rows):
                drawn = scene(config, split, index)
                assert list(row.values())[1:] == captions(drawn, language)
                assert row["file_name"] == metadata[index]["file_name"]
                assert metadata[index]["keywords"].split(";") == list(drawn.kinds)
                path = tmp_path / split / row["file_name"]
                assert soundfile.info(path).subtype == "PCM_16"
                audio, rate = soundfile.read(path, dtype="float32")
                assert rate == config.sample_rate
                np.testing.assert_allclose(audio, render(config, drawn), atol=2**-15)
    assert not list(tmp_path.rglob("*.part"))


def test_files_do_not_depend_on_workers_and_a_cut_run_is_completed(tmp_path):
    config = Soundscape(seconds=2)
    one, two = tmp_path / "one", tmp_path / "two"
    soundscape.write_clotho(config, one, 40, workers=1)
    soundscape.write_clotho(config, two, 40, workers=2)
    whole = digest(one)
    assert whole == digest(two)
    (one / "development" / "development_00003.wav").unlink()
    (one / "clotho_captions_evaluation.csv").unlink()
    soundscape.write_clotho(config, one, 40, workers=1)
    assert digest(one) == whole


def test_a_folder_with_other_content_is_refused(tmp_path):
    config = Soundscape(seconds=2)
    soundscape.write_clotho(config, tmp_path / "mine", 10, workers=1)
    with pytest.raises(ValueError, match=r"seed=0 \(not 5\)"):
        soundscape.write_clotho(dataclasses.replace(config, seed=5), tmp_path / "mine", 10)
    with pytest.raises(ValueError, match=r"file_format=wav \(not flac\)"):
        soundscape.write_clotho(config, tmp_path / "mine", 10, "flac")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.txt").write_text("precious")
    with pytest.raises(ValueError, match="not empty"):
        soundscape.write_clotho(config, tmp_path / "foreign", 10)
    assert [path.name for path in (tmp_path / "foreign").iterdir()] == ["thesis.txt"]


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
        soundscape.write_clotho(config, tmp_path, 10, "mp3")
    with pytest.raises(ValueError, match="clips is 9"):
        soundscape.write_clotho(config, tmp_path, 9)
    assert not list(tmp_path.iterdir())
