"""Which encoders there are, and what a config makes of them."""

from ml_collections import ConfigDict

from supclap_jax import config as configs
from supclap_jax.config.named_objects import is_reference, resolve
from supclap_jax.errors import ConfigError
from supclap_jax.models.ced_encoder import CedEncoder
from supclap_jax.models.encoder import AudioEncoder, Encoder, TextEncoder
from supclap_jax.models.sonar_encoder import SonarEncoder

AUDIO: dict[str, type[AudioEncoder]] = {"ced": CedEncoder}
TEXT: dict[str, type[TextEncoder]] = {"sonar": SonarEncoder}


def audio_encoder(config: ConfigDict) -> AudioEncoder:
    """The one that `config.audio.encoder` names, a key of `AUDIO` or MODULE:NAME.

    Raises:
      ConfigError: there is none of that name, or it is no subclass of `AudioEncoder`.
    """
    return _encoder("audio.encoder", config.audio.encoder, AUDIO, AudioEncoder)


def text_encoder(config: ConfigDict) -> TextEncoder:
    """The one that `config.text.encoder` names, a key of `TEXT` or MODULE:NAME.

    Raises:
      ConfigError: there is none of that name, or it is no subclass of `TextEncoder`.
    """
    return _encoder("text.encoder", config.text.encoder, TEXT, TextEncoder)


def encoders(config: ConfigDict) -> dict[str, Encoder]:
    """Both, by tower: "audio" and "text"."""
    return {"audio": audio_encoder(config), "text": text_encoder(config)}


def check_config(config: ConfigDict) -> None:
    """`config.validate`, and what the encoders have to say.

    Raises:
      ConfigError: as `config.validate`; there is no such encoder; a field is set that it does not
        use, or as it cannot be.
    """
    configs.validate(config)
    for tower, encoder in encoders(config).items():
        name, section = config[tower].encoder, config[tower]
        for field, normal in configs.default()[tower].items():
            used = field in (*encoder.common, *encoder.fields)
            if not used and section[field] != normal:
                raise ConfigError(
                    f"{tower}.{field} is set to {section[field]!r}, but {tower}.encoder {name!r} "
                    f"does not use it; leave it at {normal!r}, or name it in the encoder's `fields`"
                )
        encoder.check(config)
        decay = config.optimizer.layer_decay
        if decay != 1 and encoder.layers_above is None and not section.frozen:
            raise ConfigError(
                f"optimizer.layer_decay is {decay}, but {tower}.encoder {name!r} does not tell its "
                "layers; leave it at 1.0, or give the encoder `layers_above`"
            )
    if config.pretrained and not has_ml_clap_names(config):
        raise ConfigError(
            f"pretrained is set, a file with ML-CLAP's names, but the encoders are "
            f"{config.audio.encoder!r} and {config.text.encoder!r}, not ML-CLAP's 'ced' and "
            "'sonar'; use audio.pretrained and text.pretrained"
        )


def has_ml_clap_names(config: ConfigDict) -> bool:
    """Whether both encoders are those of ML-CLAP."""
    return (config.audio.encoder, config.text.encoder) == ("ced", "sonar")


def _encoder(key: str, name: str, known: dict[str, type], kind: type):
    if not is_reference(name) and name not in known:
        raise ConfigError(
            f"{key} is {name!r}; expected {', '.join(known)}, or MODULE:NAME of your own"
        )
    found = resolve(key, name) if is_reference(name) else known[name]
    if not (isinstance(found, type) and issubclass(found, kind)):
        raise ConfigError(
            f"{key} is {name!r}, which is {found!r}; expected a subclass of "
            f"supclap_jax.models.encoder.{kind.__name__}"
        )
    try:
        return found()
    except TypeError as error:
        raise ConfigError(
            f"{key} is {name!r}, which cannot be made without arguments ({error}); leave its "
            "__init__ without any"
        ) from error
