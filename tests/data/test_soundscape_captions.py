"""Captions are true, different and grammatical."""

import pytest

from supclap_jax.config import LANGUAGES
from supclap_jax.data.sound_events import Event
from supclap_jax.data.soundscape import Scene, Soundscape, scene
from supclap_jax.data.soundscape_captions import captions


@pytest.mark.parametrize("language", LANGUAGES)
def test_five_different_captions_in_every_language(language):
    config = Soundscape()
    for index in range(150):
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
        text for index in range(20) for text in captions(Scene((0, 0, index), (event,)), language)
    ]
    for phrase in expected:
        assert any(phrase.lower() in text.lower() for text in texts), texts[:5]
