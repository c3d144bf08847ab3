"""Which published weight is which of our parameters: one table for each layout of files.

A table maps a parameter's path to the keys of a file. `{i}` numbers the layers, which our
parameter stacks along its first axis; several keys hold consecutive outputs of one dense layer.
Where a layout differs in more than names, its table says which transform lies between the two.

The temperature of ML-CLAP is `temperature` in its source (github.com/zyyan4/ml-clap); `temp`, usual
in its relatives, is taken as well.
"""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from supclap_jax.models.ced import FREQ_PATCHES, PATCH, SIZES
from supclap_jax.models.log_mel import hann_window, mel_filterbank
from supclap_jax.models.sonar import SONAR

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Transform:
    """Between a tensor of a file and ours.

    Attributes:
      to_ours: from the file's tensor.
      to_theirs: its inverse.
      their_shape: of the file's tensor, from that of ours.
    """

    to_ours: Callable[[np.ndarray], np.ndarray]
    to_theirs: Callable[[np.ndarray], np.ndarray]
    their_shape: Callable[[Shape], Shape]


def _reordered(rows: list[int]) -> Callable[[np.ndarray], np.ndarray]:
    """Takes the first rows in another order."""

    def reorder(table):
        return np.concatenate([table[rows], table[len(rows) :]])

    return reorder


SAME = Transform(lambda x: x, lambda x: x, lambda shape: shape)
MATRIX = Transform(lambda x: x.T, lambda x: x.T, lambda shape: shape[::-1])
PATCHES = Transform(  # a convolution's kernel [dim, 1, mels, frames]; ours is flat, time-major
    lambda x: x[:, 0].transpose(2, 1, 0).reshape(-1, len(x)),
    lambda x: x.reshape(PATCH, PATCH, -1).transpose(2, 1, 0)[:, None],
    lambda shape: (shape[1], 1, PATCH, PATCH),
)
TIME_POSITIONS = Transform(  # [1, dim, 1, time]
    lambda x: x[0, :, 0].T,
    lambda x: x.T[None, :, None],
    lambda shape: (1, shape[1], 1, shape[0]),
)
FREQ_POSITIONS = Transform(  # [1, dim, freq, 1]
    lambda x: x[0, :, :, 0].T,
    lambda x: x.T[None, :, :, None],
    lambda shape: (1, shape[1], FREQ_PATCHES, 1),
)
FAIRSEQ2_VOCABULARY = Transform(  # <pad> <unk> <s> </s>; ours <s> <pad> </s> <unk>
    _reordered([2, 0, 3, 1]), _reordered([1, 3, 0, 2]), lambda shape: shape
)


def nearest_temperature(log_logit_scale: np.ndarray) -> np.ndarray:
    """The shortest decimal number whose float32 has this float32 `log(1 / temperature)`.

    A low temperature has finer float32 steps than its logarithm, so that several share one. The
    shortest is what somebody wrote down, such as 0.07.
    """
    exact = float(np.exp(-np.float64(log_logit_scale)))
    for digits in range(1, 18):
        short = np.float32(f"{exact:.{digits}g}")
        if np.float32(-np.log(np.float64(short))) == np.float32(log_logit_scale):
            break
    return np.asarray(short)


TEMPERATURE = Transform(  # raw; ours is log(1 / temperature)
    lambda x: -np.log(x.astype(np.float64)), nearest_temperature, lambda shape: shape
)


@dataclasses.dataclass(frozen=True)
class Source:
    """Where a parameter lies in a file.

    Attributes:
      keys: with `{i}` for the layer if there are several.
      transform: from one layer's tensor to ours.
      file_may_lack: whether a file need not hold it; the model's own value stays.
      model_may_lack: whether a model need not have it; that of the file is left.
      resizable: whether the file's may be of another length in time; see `resize_positions`.
    """

    keys: tuple[str, ...]
    transform: Transform = SAME
    file_may_lack: bool = False
    model_may_lack: bool = False
    resizable: bool = False


@dataclasses.dataclass(frozen=True)
class Layout:
    """The names that one kind of file uses.

    Attributes:
      name: of the layout.
      tower: "audio", "text" or "dual": what the file holds.
      sources: by the path of our parameter in the variables of that module.
      sizes: what of the config a file fixes: the key and axis where it can be read; with an axis
        of None, the number of layers.
      heads: number of attention heads by width, of the published models; no file tells it.
      leftovers: keys that are left out on purpose, with `*` for anything, and why.
      constants: keys of fixed numbers which must be those of our own front end.
      aliases: other spellings of keys.
      notice: what a user of the weights must know.
    """

    name: str
    tower: str
    sources: Mapping[str, Source]
    sizes: Mapping[str, tuple[str, int | None]]
    heads: Mapping[str, Mapping[int, int]]
    leftovers: Mapping[str, str]
    constants: Mapping[str, Callable[[], np.ndarray]] = dataclasses.field(default_factory=dict)
    aliases: Mapping[str, str] = dataclasses.field(default_factory=dict)
    notice: str = ""


def _norm(ours: str, theirs: str) -> dict[str, Source]:
    return {
        f"{ours}/scale": Source((f"{theirs}.weight",)),
        f"{ours}/bias": Source((f"{theirs}.bias",)),
    }


def _dense(ours: str, *theirs: str) -> dict[str, Source]:
    return {
        f"{ours}/kernel": Source(tuple(f"{name}.weight" for name in theirs), MATRIX),
        f"{ours}/bias": Source(tuple(f"{name}.bias" for name in theirs)),
    }


def _within(prefix: str, sources: Mapping[str, Source], module: str = "") -> dict[str, Source]:
    """The same sources under a prefix of the file, and in a module of ours."""
    moved = {}
    for path, source in sources.items():
        collection, rest = path.split("/", 1)
        path = f"{collection}/{module}/{rest}" if module else path
        moved[path] = dataclasses.replace(source, keys=tuple(prefix + key for key in source.keys))
    return moved


def _ced(input_norm: str) -> dict[str, Source]:
    return {
        **_norm("params/input_norm", input_norm),
        "batch_stats/input_norm/mean": Source((f"{input_norm}.running_mean",)),
        "batch_stats/input_norm/var": Source((f"{input_norm}.running_var",)),
        "params/patch_embed/kernel": Source(("patch_embed.proj.weight",), PATCHES),
        "params/patch_embed/bias": Source(("patch_embed.proj.bias",)),
        "params/time_pos_embed": Source(("time_pos_embed",), TIME_POSITIONS, resizable=True),
        "params/freq_pos_embed": Source(("freq_pos_embed",), FREQ_POSITIONS),
        **_norm("params/blocks/norm1", "blocks.{i}.norm1"),
        **_dense("params/blocks/qkv", "blocks.{i}.attn.qkv"),
        **_dense("params/blocks/proj", "blocks.{i}.attn.proj"),
        **_norm("params/blocks/norm2", "blocks.{i}.norm2"),
        **_dense("params/blocks/fc1", "blocks.{i}.mlp.fc1"),
        **_dense("params/blocks/fc2", "blocks.{i}.mlp.fc2"),
        **_norm("params/norm", "norm"),
    }


def _front_end(prefix: str = "") -> dict[str, Callable[[], np.ndarray]]:
    return {
        f"{prefix}front_end.0.spectrogram.window": hann_window,
        f"{prefix}front_end.0.mel_scale.fb": mel_filterbank,
    }


def _sizes_of_ced(prefix: str = "") -> dict[str, tuple[str, int | None]]:
    return {
        "audio.dim": (f"{prefix}norm.weight", 0),
        "audio.depth": (f"{prefix}blocks.{{i}}.norm1.weight", None),
    }


def _sizes_of_sonar(embed: str, layer: str, hidden: str) -> dict[str, tuple[str, int | None]]:
    return {
        "text.dim": (embed, 1),
        "text.depth": (f"{layer}.self_attn_layer_norm.weight", None),
        "text.ffn_dim": (f"{layer}.{hidden}.bias".format(i=0), 0),
        "text.vocab_size": (embed, 0),
    }


CED_HEADS = {"audio": {size["dim"]: size["heads"] for size in SIZES.values()}}
SONAR_HEADS = {"text": {SONAR["dim"]: SONAR["heads"]}}
NON_COMMERCIAL = (
    "SONAR's published weights, and those trained from them, are licensed for non-commercial use "
    "only (CC-BY-NC 4.0)."
)

CED_ORIGINAL = Layout(
    name="CED, original names",
    tower="audio",
    sources=_ced("init_bn.1"),
    sizes=_sizes_of_ced(),
    heads=CED_HEADS,
    leftovers={
        "outputlayer.*": "the tagging head",
        "init_bn.1.num_batches_tracked": "a counter of training steps",
    },
    constants=_front_end(),
)

CED_HUGGINGFACE = Layout(
    name="CED, Hugging Face names",
    tower="audio",
    sources=_within("encoder.", _ced("init_bn")),
    sizes=_sizes_of_ced("encoder."),
    heads=CED_HEADS,
    leftovers={
        "outputlayer.*": "the tagging head",
        "encoder.init_bn.num_batches_tracked": "a counter of training steps",
    },
)

SONAR_HUGGINGFACE = Layout(
    name="SONAR text encoder, Hugging Face M2M100 names",
    tower="text",
    sources={
        "params/embed/embedding": Source(("embed_tokens.weight",)),
        **_norm("params/blocks/norm1", "layers.{i}.self_attn_layer_norm"),
        **_dense(
            "params/blocks/qkv",
            "layers.{i}.self_attn.q_proj",
            "layers.{i}.self_attn.k_proj",
            "layers.{i}.self_attn.v_proj",
        ),
        **_dense("params/blocks/proj", "layers.{i}.self_attn.out_proj"),
        **_norm("params/blocks/norm2", "layers.{i}.final_layer_norm"),
        **_dense("params/blocks/fc1", "layers.{i}.fc1"),
        **_dense("params/blocks/fc2", "layers.{i}.fc2"),
        **_norm("params/norm", "layer_norm"),
    },
    sizes=_sizes_of_sonar("embed_tokens.weight", "layers.{i}", "fc1"),
    heads=SONAR_HEADS,
    leftovers={
        "version": "a version number of fairseq",
        "embed_positions.*": "sinusoids, which are computed",
    },
    notice=NON_COMMERCIAL,
)

SONAR_FAIRSEQ2 = Layout(
    name="SONAR text encoder, fairseq2 names",
    tower="text",
    sources={
        "params/embed/embedding": Source(("encoder_frontend.embed.weight",), FAIRSEQ2_VOCABULARY),
        **_norm("params/blocks/norm1", "encoder.layers.{i}.self_attn_layer_norm"),
        **_dense(
            "params/blocks/qkv",
            "encoder.layers.{i}.self_attn.q_proj",
            "encoder.layers.{i}.self_attn.k_proj",
            "encoder.layers.{i}.self_attn.v_proj",
        ),
        **_dense("params/blocks/proj", "encoder.layers.{i}.self_attn.output_proj"),
        **_norm("params/blocks/norm2", "encoder.layers.{i}.ffn_layer_norm"),
        **_dense("params/blocks/fc1", "encoder.layers.{i}.ffn.inner_proj"),
        **_dense("params/blocks/fc2", "encoder.layers.{i}.ffn.output_proj"),
        **_norm("params/norm", "layer_norm"),
    },
    sizes=_sizes_of_sonar("encoder_frontend.embed.weight", "encoder.layers.{i}", "ffn.inner_proj"),
    heads=SONAR_HEADS,
    leftovers={"encoder_frontend.pos_encoder.*": "sinusoids, which are computed"},
    notice=NON_COMMERCIAL,
)

_AUDIO, _TEXT = "audio_encoder.model.", "text_encoder.model."

ML_CLAP = Layout(
    name="ML-CLAP",
    tower="dual",
    sources={
        **_within(_AUDIO, CED_ORIGINAL.sources, "audio"),
        **_within(_TEXT, SONAR_FAIRSEQ2.sources, "text"),
        **_dense("params/audio_projection/Dense_0", "audio_proj.0"),
        **_dense("params/audio_projection/Dense_1", "audio_proj.2"),
        **_dense("params/text_projection/Dense_0", "text_proj.0"),
        **_dense("params/text_projection/Dense_1", "text_proj.2"),
        "params/log_logit_scale": Source(("temperature",), TEMPERATURE, model_may_lack=True),
        # Of SigLIP; written and read by us alone.
        "params/logit_bias": Source(("logit_bias",), file_may_lack=True, model_may_lack=True),
    },
    sizes={
        **{name: (_AUDIO + key, axis) for name, (key, axis) in CED_ORIGINAL.sizes.items()},
        **{name: (_TEXT + key, axis) for name, (key, axis) in SONAR_FAIRSEQ2.sizes.items()},
        "projection_dim": ("audio_proj.0.bias", 0),
    },
    heads=CED_HEADS | SONAR_HEADS,
    leftovers={
        **{_AUDIO + key: why for key, why in CED_ORIGINAL.leftovers.items()},
        **{_TEXT + key: why for key, why in SONAR_FAIRSEQ2.leftovers.items()},
    },
    constants=_front_end(_AUDIO),
    aliases={"temp": "temperature"},
    notice=NON_COMMERCIAL,
)

LAYOUTS = (CED_ORIGINAL, CED_HUGGINGFACE, SONAR_HUGGINGFACE, SONAR_FAIRSEQ2, ML_CLAP)
