"""Which encoder a config names, and what encoders refuse."""

import pytest

from supclap_jax.config import default
from supclap_jax.errors import ConfigError
from supclap_jax.models.ced_encoder import CedEncoder
from supclap_jax.models.registry import audio_encoder, check_config, text_encoder
from supclap_jax.models.sonar_encoder import SonarEncoder
from tests.models.user_encoders import BagOfTokens, Conv

CONV = "tests.models.user_encoders:Conv"


def test_names_and_references():
    config = default()
    assert isinstance(audio_encoder(config), CedEncoder)
    assert isinstance(text_encoder(config), SonarEncoder)
    check_config(config)
    config.audio.update(encoder=CONV, dim=24)
    config.text.update(encoder="tests.models.user_encoders:BagOfTokens", dim=32)
    check_config(config)
    assert isinstance(audio_encoder(config), Conv)
    assert isinstance(text_encoder(config), BagOfTokens)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"audio": {"encoder": "cad"}}, "audio.encoder is 'cad'; expected ced, or MODULE:NAME"),
        ({"text": {"encoder": "ced"}}, "text.encoder is 'ced'; expected sonar, or MODULE:NAME"),
        ({"text": {"encoder": CONV}}, "expected a subclass of .*TextEncoder"),
        ({"audio": {"encoder": "math:pi"}}, "which is 3.14.*expected a subclass of .*AudioEncoder"),
        ({"audio": {"encoder": CONV, "depth": 3}}, r"audio.depth is set to 3, but .*:Conv' does"),
        ({"audio": {"encoder": CONV, "patch_out": 0.1}}, "audio.patch_out .* leave it at 0.0"),
        ({"audio": {"encoder": CONV}, "optimizer": {"layer_decay": 0.9}}, "tell its layers"),
        ({"audio": {"dim": 100}}, "audio.dim 100 is not divisible by audio.heads 12"),
        ({"audio": {"seconds": 0.1}}, "audio.seconds is 0.1; expected at least 0.15, one patch"),
        ({"audio": {"target_length": 15}}, "audio.target_length is 15; expected at least 16"),
        ({"text": {"dim": 25, "heads": 5}}, "text.dim is 25; expected an even number"),
        ({"text": {"max_tokens": 515}}, "expected at most 514, the positions that SONAR"),
        (
            {"audio": {"encoder": CONV}, "pretrained": "x", "text": {"tokenizer": "y"}},
            "the encoders are .*:Conv' and 'sonar', not ML-CLAP's",
        ),
    ],
)
def test_what_cannot_be_is_refused(changes, message):
    config = default()
    config.update(changes)
    with pytest.raises(ConfigError, match=message):
        check_config(config)


def test_a_frozen_encoder_needs_no_layers():
    config = default()
    config.update(audio={"encoder": CONV, "frozen": True}, optimizer={"layer_decay": 0.9})
    check_config(config)
