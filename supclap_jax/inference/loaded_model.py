"""A model with its weights, ready to embed sounds and sentences."""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

import jax
import numpy as np

from supclap_jax.data.audio import SAMPLE_RATE
from supclap_jax.data.sound_files import BadAudio
from supclap_jax.data.sound_windows import read_windows
from supclap_jax.errors import ConfigError, DataError, RunError
from supclap_jax.inference.embedder import Embedder, few_shapes, mean_of_windows
from supclap_jax.inference.model import Model
from supclap_jax.inference.prompts import PROMPTS, class_embeddings, label_prompts
from supclap_jax.inference.space import space_id
from supclap_jax.models.dual_encoder import make_model
from supclap_jax.models.tokens import check_languages
from supclap_jax.runs.mesh import batch_sharding, mesh_at_hand

LONGEST_TEXT = 10_000  # letters; no caption is as long, and of more only the first would be read
DTYPES = ("float32", "bfloat16")
# What no two sentences of a trained model have in common.
UNRELATED = ("a dog barks", "heavy rain falls on a roof", "a violin plays", "an engine idles")
COLLAPSED = 0.98

Sound = str | Path | bytes | np.ndarray
EXPECTED = {"sounds": "a path, bytes or an array", "texts": "a str", "labels": "a str"}


class LoadedModel:
    """Embeds sounds of any length and sentences of any trained language into one space.

    A sound or a sentence has the same vector alone and in any company, to rounding: 1e-5. Programs
    are compiled for few shapes: the largest batch and lengths, and their halves.

    Args:
      model: of `find_model`.
      dtype: of the computation, "float32" or "bfloat16".

    Attributes:
      name, step: of the model.
      config: of its run, but for what hangs on this machine.
      module: the dual encoder.
      variables: its weights, as `module.apply` takes them.
      tokenizer: of its captions.
    """

    def __init__(self, model: Model, dtype: str = "float32"):
        if dtype not in DTYPES:
            raise ConfigError(f"dtype is {dtype!r}; expected one of {', '.join(DTYPES)}")
        self.config = model.config.copy_and_resolve_references()
        self.config.compute_dtype = dtype
        if dtype != "bfloat16" or jax.default_backend() != "gpu":
            self.config.attention = "xla"  # the fused kernel is for bfloat16 on a GPU alone
        self.name, self.step, self._written_space = model.name, model.step, model.space
        mesh = mesh_at_hand(self.config)
        self.variables = model.variables(mesh)
        self.tokenizer = model.tokenizer
        self.module = make_model(self.config)
        if self._written_space:
            _ = self.space  # which tells damage
        self._embedder = Embedder(
            self.module, model.tokenizer, self.config, batch_sharding(mesh), few_shapes
        )

    @property
    def dim(self) -> int:
        """Of the common space."""
        return self.config.projection_dim

    @property
    def batch_size(self) -> int:
        """Of the largest batch that is embedded at once."""
        return self._embedder.batch_size

    @property
    def seconds(self) -> float:
        """The longest sound that is heard at once; a longer one is the mean of its windows."""
        return self.config.audio.seconds

    @property
    def languages(self) -> tuple[str, ...]:
        """That it was trained on; the first is the default."""
        return self.config.data.languages

    @property
    def temperature(self) -> float:
        """Of its logits, similarity / temperature."""
        return 1 / self._embedder.logit_scale(self.variables)

    @cached_property
    def space(self) -> str:
        """Id of the space of its vectors: vectors of other ids cannot be compared with them.

        Raises:
          RunError: an export's weights or tokenizer are not those that were written.
        """
        found = space_id(self.variables, self.tokenizer, self.config)
        if self._written_space not in (None, found):
            raise RunError(f"{self.name} is damaged: it is not what was exported; export it again")
        return found

    def encode_audio(self, sounds: Sequence[Sound], rate: int = SAMPLE_RATE) -> np.ndarray:
        """Unit rows, float32 `[sounds, dim]`.

        A sound longer than `seconds` is the normalised mean of as few windows as cover it.

        Args:
          sounds: files by path, the bytes of files, or samples `[frames]` or `[frames, channels]`
            in [-1, 1], in any mixture.
          rate: of the samples, in Hz; files know their own.

        Raises:
          DataError: a sound cannot be used; it says which, and why.
        """
        sounds = _listed(sounds, "sounds", Sound)
        owner: list[int] = []

        def windows() -> Iterator[np.ndarray]:
            for number, sound in enumerate(sounds):
                sound = Path(sound) if isinstance(sound, str) else sound
                try:
                    for window in read_windows(sound, self.seconds, rate=rate):
                        owner.append(number)
                        yield window.audio
                except BadAudio as error:
                    name = str(sound) if isinstance(sound, Path) else f"sound {number}"
                    raise DataError(f"{name} cannot be used: {error}") from error

        if not len(sounds):
            return np.zeros((0, self.dim), np.float32)
        return mean_of_windows(self.encode_windows(windows()), np.array(owner))

    def encode_windows(self, windows: Iterable[np.ndarray]) -> np.ndarray:
        """Unit rows `[windows, dim]` of mono sounds at 16 kHz, none longer than `seconds`."""
        return self._checked(self._embedder.windows(self.variables, windows))

    def encode_text(self, texts: Sequence[str], language: str | None = None) -> np.ndarray:
        """Unit rows, float32 `[texts, dim]`.

        What does not fit into the model's tokens is left out, with a warning; so does a language
        that it was not trained on come with one.

        Args:
          texts: sentences.
          language: of the sentences, such as "eng_Latn"; by default the first that it was trained
            on.

        Raises:
          ConfigError: it knows no such language.
          DataError: a sentence holds no words, or is above 10,000 letters.
        """
        texts = _listed(texts, "texts", str)
        language = language or self.languages[0]
        check_languages([language], self.config.text.vocab_size)
        if language not in self.languages:
            warnings.warn(f"{self.name} was not trained on {language}", stacklevel=2)
        most = self.config.text.max_tokens - 2
        for text in texts:
            if len(text) > LONGEST_TEXT:
                raise DataError(f"a text has {len(text):,} letters; expected {LONGEST_TEXT:,}")
            if not (pieces := self._pieces_of(text)):
                raise DataError(f"the text {text[:40]!r} holds no words that can be read")
            if len(pieces) > most:
                warnings.warn(
                    f"{text[:40]!r} is longer than the model reads; its end is left out",
                    stacklevel=2,
                )
        if not len(texts):
            return np.zeros((0, self.dim), np.float32)
        return self._checked(self._embedder.text(self.variables, texts, language))

    def _checked(self, embedded: np.ndarray) -> np.ndarray:
        if not np.isfinite(embedded).all():
            raise RunError(f"{self.name} gives NaN: its weights are damaged, or it diverged")
        return embedded

    def _pieces_of(self, text: str) -> list[int]:
        """Of the tokenizer; none of what is no text."""
        try:
            text.encode()
        except UnicodeEncodeError:  # bytes of a command line that are no UTF-8
            return []
        return self.tokenizer.pieces_of(text)

    def similarity(self, text: np.ndarray, audio: np.ndarray) -> np.ndarray:
        """Cosines `[texts, sounds]` of what `encode_text` and `encode_audio` gave."""
        return text @ audio.T

    def classify(
        self,
        audio: Sequence[Sound] | np.ndarray,
        labels: Sequence[str],
        templates: Sequence[str] = PROMPTS,
        rate: int = SAMPLE_RATE,
    ) -> np.ndarray:
        """Probabilities `[sounds, labels]`, each row adding up to one.

        `softmax(cosine / temperature)` at the trained temperature, as zero-shot evaluation ranks
        them.

        Args:
          audio: as of `encode_audio`; or what it gave, `[sounds, dim]`.
          labels: names of the classes, in English.
          templates: texts with one `{}`; a class is the mean of all its prompts.
          rate: as of `encode_audio`.

        Raises:
          DataError: there are no labels, or one stands there twice; as `encode_audio`.
        """
        if not isinstance(audio, np.ndarray):
            audio = self.encode_audio(audio, rate)
        return self.shares(audio, self.encode_classes(labels, templates))

    def shares(self, audio: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """As `classify`, of what `encode_audio` and `encode_classes` gave."""
        logits = self.similarity(audio, classes) / self.temperature
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        return shares / shares.sum(axis=1, keepdims=True)

    def classify_over_time(
        self,
        sound: Sound,
        labels: Sequence[str],
        templates: Sequence[str] = PROMPTS,
        rate: int = SAMPLE_RATE,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Windows' starts and ends in seconds `[windows, 2]`, and shares `[windows, labels]`.

        A window is as long as the model hears at once; the next begins at its middle.

        Args:
          sound: as one of `encode_audio`.
          labels, templates, rate: as of `classify`.

        Raises:
          DataError: as `classify`.
        """
        times: list[tuple[float, float]] = []

        def windows() -> Iterator[np.ndarray]:
            for window in read_windows(sound, self.seconds, self.seconds / 2, rate):
                times.append((window.start, window.end))
                yield window.audio

        sound = Path(sound) if isinstance(sound, str) else sound
        try:
            embedded = self.encode_windows(windows())
        except BadAudio as error:
            name = sound if isinstance(sound, Path) else "the sound"
            raise DataError(f"{name} cannot be used: {error}") from error
        return np.array(times), self.classify(embedded, labels, templates)

    def encode_classes(
        self, labels: Sequence[str], templates: Sequence[str] = PROMPTS
    ) -> np.ndarray:
        """Unit rows `[labels, dim]`, the mean of a label's prompts; raises as `classify`."""
        labels = _listed(labels, "labels", str)
        read = [self.tokenizer.normalize(label.replace("_", " ")) for label in labels]
        twice = next((label for label, as_read in zip(labels, read, strict=True)
                      if not as_read or read.count(as_read) > 1), None)  # fmt: skip
        if not labels or twice is not None:
            fault = f"{twice!r} is read as nothing, or as another" if labels else "there are none"
            raise DataError(f"the labels cannot be told apart: {fault}; expected each once")
        texts = [text for template in templates for text in label_prompts(labels, template)]
        embedded = self.encode_text(texts, "eng_Latn")
        return class_embeddings(embedded.reshape(len(templates), len(labels), -1))

    def warn_if_collapsed(self) -> None:
        """Warns where unrelated sentences have nearly the same vector."""
        texts = self.encode_text(UNRELATED)
        cosines = self.similarity(texts, texts)[np.triu_indices(len(texts), 1)]
        if cosines.mean() > COLLAPSED:
            warnings.warn(
                f"{self.name} gives unrelated sentences a cosine of {cosines.mean():.3f}: its "
                "training has collapsed, or has hardly begun",
                stacklevel=2,
            )


def _listed(given, name: str, kind) -> list:
    """What was given as a list; a lone one, or one of another type, is told."""
    if isinstance(given, str | bytes | Path) or (isinstance(given, np.ndarray) and kind is Sound):
        raise DataError(f"{name} is one {type(given).__name__}; expected a list of {name}")
    given = list(given)
    for place, one in enumerate(given):
        if not isinstance(one, kind):
            raise DataError(f"{name}[{place}] is a {type(one).__name__}; expected {EXPECTED[name]}")
    return given
