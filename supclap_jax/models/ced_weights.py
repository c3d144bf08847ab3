"""Published weights of CED: the original names and Hugging Face's."""

from collections.abc import Callable

import numpy as np

from supclap_jax.models.ced import FREQ_PATCHES, PATCH, SIZES, resize_positions
from supclap_jax.models.key_maps import Layout, Source, Transform, dense, norm, within
from supclap_jax.models.log_mel import hann_window, mel_filterbank

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


def _ced(input_norm: str) -> dict[str, Source]:
    return {
        **norm("params/input_norm", input_norm),
        "batch_stats/input_norm/mean": Source((f"{input_norm}.running_mean",)),
        "batch_stats/input_norm/var": Source((f"{input_norm}.running_var",)),
        "params/patch_embed/kernel": Source(("patch_embed.proj.weight",), PATCHES),
        "params/patch_embed/bias": Source(("patch_embed.proj.bias",)),
        "params/time_pos_embed": Source(
            ("time_pos_embed",), TIME_POSITIONS, resize=resize_positions
        ),
        "params/freq_pos_embed": Source(("freq_pos_embed",), FREQ_POSITIONS),
        **norm("params/blocks/norm1", "blocks.{i}.norm1"),
        **dense("params/blocks/qkv", "blocks.{i}.attn.qkv"),
        **dense("params/blocks/proj", "blocks.{i}.attn.proj"),
        **norm("params/blocks/norm2", "blocks.{i}.norm2"),
        **dense("params/blocks/fc1", "blocks.{i}.mlp.fc1"),
        **dense("params/blocks/fc2", "blocks.{i}.mlp.fc2"),
        **norm("params/norm", "norm"),
    }


def front_end(prefix: str = "") -> dict[str, Callable[[], np.ndarray]]:
    """Numbers of the front end by their keys in a file, and ours."""
    return {
        f"{prefix}front_end.0.spectrogram.window": hann_window,
        f"{prefix}front_end.0.mel_scale.fb": mel_filterbank,
    }


def _sizes_of_ced(prefix: str = "") -> dict[str, tuple[str, int | None]]:
    return {
        "audio.dim": (f"{prefix}norm.weight", 0),
        "audio.depth": (f"{prefix}blocks.{{i}}.norm1.weight", None),
    }


CED_HEADS = {"audio": {size["dim"]: size["heads"] for size in SIZES.values()}}

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
    constants=front_end(),
)

CED_HUGGINGFACE = Layout(
    name="CED, Hugging Face names",
    tower="audio",
    sources=within("encoder.", _ced("init_bn")),
    sizes=_sizes_of_ced("encoder."),
    heads=CED_HEADS,
    leftovers={
        "outputlayer.*": "the tagging head",
        "encoder.init_bn.num_batches_tracked": "a counter of training steps",
    },
)

LAYOUTS = {"original": CED_ORIGINAL, "huggingface": CED_HUGGINGFACE}
