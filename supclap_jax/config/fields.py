"""The configuration of a run: every field with its default, and the checks it must pass.

A recipe is a Python file with `get_config(arg)` that starts from `default()` and changes fields.
"""

import difflib
import json
import math
from collections.abc import Callable
from pathlib import Path

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from supclap_jax.errors import ConfigError

LANGUAGES = (
    "eng_Latn",
    "fra_Latn",
    "deu_Latn",
    "spa_Latn",
    "nld_Latn",
    "cat_Latn",
    "jpn_Jpan",
    "zho_Hans",
)


def default() -> ConfigDict:
    """The default of every field. CED-Base and SONAR as in SupCLAP, InfoNCE without SVR."""
    config = ConfigDict()
    config.seed = 0  # of initialisation, dropout and the order of the data
    config.total_steps = 10_000
    config.batch_size = 24  # pairs in one step, over all devices
    config.microbatch_size = placeholder(int)  # pairs in the towers at a time; None: the batch
    config.eval_every = 1_000  # steps between evaluations on the validation clips
    config.checkpoint_every = 1_000  # steps between checkpoints
    config.log_every = 10  # steps between lines of metrics.jsonl
    config.keep_last = 2  # newest checkpoints kept, beside the best one
    config.max_bad_steps = 10  # non-finite steps in a row before training stops

    config.loss = ConfigDict()
    config.loss.base = "info_nce"  # "info_nce" or "siglip"
    config.loss.same_id = "positive"  # other pairs of the same clip: "positive" or "ignore"
    config.loss.block_size = placeholder(object)  # pairs per side of a tile, or "auto"; None: dense
    config.loss.svr = ConfigDict()
    config.loss.svr.radius = "none"  # "none", "fixed", "static" (learned) or "dynamic" (predicted)
    config.loss.svr.direction = "both"  # "both", "text_to_audio" or "audio_to_text"
    config.loss.svr.alpha = 1.0  # weight of the SVR term
    config.loss.svr.beta = 0.01  # weight of the radius constraint
    config.loss.svr.fixed_radius = 0.1  # of "fixed"; unit embeddings are 0 to 2 apart
    config.loss.svr.initial_radius = 0.1  # where "static" and "dynamic" start
    config.loss.svr.shared = False  # one radius model for both directions
    config.loss.svr.features = "summary"  # of "dynamic": "summary" or "row" (the paper's)
    config.loss.svr.hidden = 64  # of "dynamic": width of the MLP's two hidden layers
    config.loss.svr.activation = "relu"  # of "dynamic": "relu", "gelu" or "tanh"
    config.loss.svr.detach = True  # of "dynamic": no gradient from the radius into its input

    config.temperature = ConfigDict()
    config.temperature.initial = 0.07  # logits are similarity / temperature
    config.temperature.learned = True
    config.temperature.minimum = 0.01  # a learned temperature stays above
    config.temperature.initial_bias = -10.0  # of "siglip": learned bias of the logits

    config.audio = ConfigDict()  # defaults are CED-Base
    config.audio.encoder = "ced"  # "ced", or MODULE:NAME of one's own
    config.audio.dim = 768
    config.audio.depth = 12
    config.audio.heads = 12
    config.audio.frozen = False  # keep the encoder as it is (LiT); its projection learns
    config.audio.dropout = 0.0
    config.audio.patch_out = 0.0  # share of patches left out at random in training
    config.audio.time_masks = 0  # SpecAugment: stretches of time blanked in training
    config.audio.time_mask_frames = 100  # of 10 ms, the longest of them
    config.audio.freq_masks = 0  # bands of frequency blanked in training
    config.audio.freq_mask_bins = 16  # of the 64 mel bins, the widest of them
    config.audio.target_length = 1_012  # frames of 10 ms encoded together; longer clips are split
    config.audio.seconds = 10.0  # longer clips are cropped to this, shorter ones masked
    config.audio.pretrained = ""  # weights of CED to start from: PATH or hf://OWNER/REPO/FILE

    config.text = ConfigDict()  # defaults are SONAR's
    config.text.encoder = "sonar"  # "sonar", or MODULE:NAME of one's own
    config.text.dim = 1024
    config.text.depth = 24
    config.text.heads = 16
    config.text.ffn_dim = 8192
    config.text.frozen = False  # as audio.frozen
    config.text.dropout = 0.1
    config.text.tokenizer = ""  # a sentencepiece model, such as SONAR's; "": learned from captions
    config.text.vocab_size = 8_000  # at least the tokenizer's pieces; 256,000 with SONAR's
    config.text.max_tokens = 64  # language tag and end included; longer captions are cut

    config.text.pretrained = ""  # weights of SONAR to start from; needs their text.tokenizer

    config.pretrained = ""  # or weights of both, projections and temperature, with ML-CLAP's names
    config.projection_dim = 1024  # of the common space
    config.compute_dtype = "float32"  # of the encoders: "float32" or "bfloat16"
    config.attention = "xla"  # of accelerators; "cudnn" is fused, for bfloat16 on NVIDIA GPUs
    config.scan_layers = True  # compile one transformer block as a loop rather than each
    config.remat = "none"  # computed again for the gradient: "none", all but "dots", or "full"

    config.optimizer = ConfigDict()  # AdamW with linear warm-up and cosine decay to zero
    config.optimizer.learning_rate = 5e-5
    config.optimizer.warmup_steps = 500
    config.optimizer.weight_decay = 0.0  # of matrices only
    config.optimizer.clip_norm = 1.0  # global norm of the gradient
    config.optimizer.layer_decay = 1.0  # learning rate of a block over that of the next
    config.optimizer.scale = ConfigDict()  # learning rate of a group over optimizer.learning_rate
    config.optimizer.scale.audio = 1.0
    config.optimizer.scale.text = 1.0
    config.optimizer.scale.projections = 1.0
    config.optimizer.scale.temperature = 1.0  # and SigLIP's bias
    config.radius_optimizer = ConfigDict()  # of the radius model, when it has parameters
    config.radius_optimizer.learning_rate = 1e-3
    config.radius_optimizer.warmup_steps = 100
    config.radius_optimizer.weight_decay = 0.0
    config.radius_optimizer.clip_norm = 1.0

    config.ema_decay = 0.0  # of a moving average of the parameters, such as 0.999; 0: none

    config.data = ConfigDict()
    config.data.path = ""  # a prepared set or Clotho 2.1's layout; with a mixture, its sets' folder
    config.data.mixture = ConfigDict()  # prepared sets in data.path to train on: {name: weight}
    config.data.evaluation = ""  # of a mixture: the set in data.path to validate and evaluate on
    config.data.on_leak = "error"  # training clips that are in evaluation too: "error" or "warn"
    config.data.buckets = ()  # seconds: shorter clips in batches of their own, below audio.seconds
    config.data.languages = ("eng_Latn",)  # caption languages; the first is the headline one
    config.data.on_bad_clip = "error"  # unreadable audio: "error" or "skip"
    config.data.workers = 1  # processes that decode audio; 0 decodes in threads
    config.data.prefetch = 8  # batches kept ready by each worker
    config.data.time_shift = False  # rotate training clips by a random share of their length
    config.data.gain_db = 0.0  # make training clips louder or softer by up to this
    config.data.mixup = 0.0  # share of training clips mixed with another, captions joined

    config.evaluate = ConfigDict()
    config.evaluate.batch_size = 64
    config.evaluate.resamples = 1_000  # of the bootstrap over clips
    config.evaluate.ema = True  # evaluate the moving average where there is one

    config.profile = ConfigDict()  # a trace by jax.profiler in the run's folder, for XProf
    config.profile.start = 10  # first step of the trace
    config.profile.steps = 0  # number of steps in it; 0: no trace
    config.compilation_cache = ""  # folder for compiled programs, so that a restart finds them

    config.mesh = ConfigDict()
    config.mesh.data = -1  # groups of devices with a copy of the states each; -1 is all there are
    config.mesh.fsdp = 1  # devices of a group, which share the copy; all share the batch
    return config


VARIANTS = {
    "info_nce": ("info_nce", "none"),
    "static": ("info_nce", "static"),
    "dynamic": ("info_nce", "dynamic"),
    "siglip": ("siglip", "none"),
    "siglip_static": ("siglip", "static"),
    "siglip_dynamic": ("siglip", "dynamic"),
}


def set_variant(config: ConfigDict, variant: str) -> None:
    """Sets base loss and radius from a recipe's argument, a name in `VARIANTS`."""
    if variant not in VARIANTS:
        raise ConfigError(f"unknown variant {variant!r}; expected one of {', '.join(VARIANTS)}")
    config.loss.base, config.loss.svr.radius = VARIANTS[variant]
    if config.loss.base == "siglip":
        config.temperature.initial = 0.1


CHOICES = {
    "loss.base": ("info_nce", "siglip"),
    "loss.same_id": ("positive", "ignore"),
    "loss.svr.radius": ("none", "fixed", "static", "dynamic"),
    "loss.svr.direction": ("both", "text_to_audio", "audio_to_text"),
    "loss.svr.features": ("row", "summary"),
    "loss.svr.activation": ("relu", "gelu", "tanh"),
    "attention": ("xla", "cudnn"),
    "compute_dtype": ("float32", "bfloat16"),
    "remat": ("none", "dots", "full"),
    "data.on_bad_clip": ("error", "skip"),
    "data.on_leak": ("error", "warn"),
}

NON_NEGATIVE = (
    "loss.svr.alpha",
    "loss.svr.beta",
    "optimizer.warmup_steps",
    "optimizer.weight_decay",
    "radius_optimizer.warmup_steps",
    "radius_optimizer.weight_decay",
    "data.workers",
    "profile.steps",
    "seed",
)
RATES = ("audio.dropout", "audio.patch_out", "text.dropout", "ema_decay", "data.mixup")
POSITIVE = (
    "total_steps",
    "batch_size",
    "eval_every",
    "checkpoint_every",
    "log_every",
    "keep_last",
    "max_bad_steps",
    "loss.svr.hidden",
    "temperature.initial",
    "temperature.minimum",
    "audio.dim",
    "audio.depth",
    "audio.heads",
    "text.dim",
    "text.depth",
    "text.heads",
    "text.ffn_dim",
    "text.vocab_size",
    "text.max_tokens",
    "projection_dim",
    "optimizer.learning_rate",
    "optimizer.clip_norm",
    "optimizer.layer_decay",
    "audio.time_mask_frames",
    "audio.freq_mask_bins",
    "radius_optimizer.learning_rate",
    "radius_optimizer.clip_norm",
    "data.prefetch",
    "evaluate.batch_size",
    "evaluate.resamples",
    "profile.start",
)
# Minimum of a key, and why.
AT_LEAST = {
    "audio.seconds": (0.15, "one patch of the audio encoder"),
    "audio.target_length": (16, "one patch of the audio encoder"),
}


def _svr(config: ConfigDict) -> bool:
    return config.loss.svr.radius != "none"


def _learned_radius(config: ConfigDict) -> bool:
    return config.loss.svr.radius in ("static", "dynamic")


def _dynamic(config: ConfigDict) -> bool:
    return config.loss.svr.radius == "dynamic"


# A key, or all keys below it, and when a run uses it. Keys not listed are always used.
USED: dict[str, tuple[str, Callable[[ConfigDict], bool]]] = {
    "loss.svr.direction": ("loss.svr.radius other than 'none'", _svr),
    "loss.svr.alpha": ("loss.svr.radius other than 'none'", _svr),
    "loss.svr.beta": ("loss.svr.radius other than 'none'", _svr),
    "loss.svr.fixed_radius": (
        "loss.svr.radius = 'fixed'",
        lambda config: config.loss.svr.radius == "fixed",
    ),
    "loss.svr.initial_radius": ("loss.svr.radius = 'static' or 'dynamic'", _learned_radius),
    "loss.svr.shared": (
        "loss.svr.radius = 'static' or 'dynamic' and loss.svr.direction = 'both'",
        lambda config: _learned_radius(config) and config.loss.svr.direction == "both",
    ),
    "loss.svr.features": ("loss.svr.radius = 'dynamic'", _dynamic),
    "loss.svr.hidden": ("loss.svr.radius = 'dynamic'", _dynamic),
    "loss.svr.activation": ("loss.svr.radius = 'dynamic'", _dynamic),
    "loss.svr.detach": ("loss.svr.radius = 'dynamic'", _dynamic),
    "radius_optimizer": ("loss.svr.radius = 'static' or 'dynamic'", _learned_radius),
    **{
        f"audio.{name}": ("audio.frozen = False", lambda config: not config.audio.frozen)
        for name in ("dropout", "patch_out", "time_masks", "freq_masks")
    },
    "audio.time_mask_frames": (
        "audio.time_masks above zero",
        lambda config: config.audio.time_masks > 0,
    ),
    "audio.freq_mask_bins": (
        "audio.freq_masks above zero",
        lambda config: config.audio.freq_masks > 0,
    ),
    "text.dropout": ("text.frozen = False", lambda config: not config.text.frozen),
    "optimizer.scale.audio": ("audio.frozen = False", lambda config: not config.audio.frozen),
    "optimizer.scale.text": ("text.frozen = False", lambda config: not config.text.frozen),
    "optimizer.layer_decay": (
        "audio.frozen = False or text.frozen = False",
        lambda config: not (config.audio.frozen and config.text.frozen),
    ),
    "data.evaluation": ("data.mixture", lambda config: bool(config.data.mixture)),
    "evaluate.ema": ("ema_decay above zero", lambda config: config.ema_decay > 0),
    "profile.start": ("profile.steps above zero", lambda config: config.profile.steps > 0),
    "temperature.minimum": (
        "temperature.learned = True",
        lambda config: config.temperature.learned,
    ),
    "temperature.initial_bias": (
        "loss.base = 'siglip'",
        lambda config: config.loss.base == "siglip",
    ),
}

# Keys that a resumed run may change: trained parameters do not depend on them, apart from rounding
# on other devices.
OPERATIONAL = (
    "attention",
    "checkpoint_every",
    "compilation_cache",
    "data.path",
    "data.prefetch",
    "data.workers",
    "eval_every",
    "evaluate.batch_size",
    "evaluate.ema",
    "evaluate.resamples",
    "keep_last",
    "log_every",
    "loss.block_size",
    "max_bad_steps",
    "mesh.data",
    "mesh.fsdp",
    "profile.start",
    "profile.steps",
    "remat",
    "scan_layers",
)


def flatten(config: ConfigDict) -> dict[str, object]:
    """All values by dotted key, as JSON knows them (tuples as lists)."""

    def walk(prefix, value):
        if isinstance(value, dict) and prefix != "data.mixture":
            for name, child in value.items():
                yield from walk(f"{prefix}.{name}" if prefix else name, child)
        else:
            yield prefix, list(value) if isinstance(value, tuple) else value

    return dict(walk("", config.to_dict()))


def nearest_key(key: str, config: ConfigDict) -> str:
    """The existing key most like `key`: same last name if there is one, else closest spelling."""
    keys = list(flatten(config))
    leaves = [known for known in keys if known.rsplit(".", 1)[-1] == key.rsplit(".", 1)[-1]]
    return difflib.get_close_matches(key, leaves or keys, n=1, cutoff=0.0)[0]


def validate(config: ConfigDict) -> None:
    """Raises ConfigError for an unknown, wrongly typed, impossible or unused field."""
    defaults = flatten(default())
    values = flatten(config)
    for key in values:
        if key not in defaults:
            near = nearest_key(key, default())
            raise ConfigError(f"unknown config key {key!r}; the nearest known key is {near!r}")
    for key, normal in defaults.items():
        if key not in values:
            raise ConfigError(f"config key {key!r} is missing; its default is {normal!r}")
        if key not in ("loss.block_size", "microbatch_size"):
            _check_type(key, values[key], normal)
    _check_block_size(config)
    _check_microbatch_size(config)
    _check_pretrained(config)
    for key, choices in CHOICES.items():
        if values[key] not in choices:
            raise ConfigError(f"{key} is {values[key]!r}; expected one of {', '.join(choices)}")
    for key in POSITIVE:
        if not values[key] > 0:
            raise ConfigError(f"{key} is {values[key]}; expected a number above zero")
    for key in NON_NEGATIVE:
        if not values[key] >= 0:
            raise ConfigError(f"{key} is {values[key]}; expected zero or more")
    for key in RATES:
        if not 0 <= values[key] < 1:
            raise ConfigError(f"{key} is {values[key]}; expected at least 0 and less than 1")
    for key, (minimum, why) in AT_LEAST.items():
        if values[key] < minimum:
            raise ConfigError(f"{key} is {values[key]}; expected at least {minimum}, {why}")
    if config.attention == "cudnn" and config.compute_dtype != "bfloat16":
        raise ConfigError(
            f"attention = 'cudnn' needs compute_dtype = 'bfloat16', not {config.compute_dtype!r}"
        )
    for tower in ("audio", "text"):
        dim, heads = values[f"{tower}.dim"], values[f"{tower}.heads"]
        if dim % heads:
            raise ConfigError(f"{tower}.dim {dim} is not divisible by {tower}.heads {heads}")
    for language in values["data.languages"]:
        if language not in LANGUAGES:
            raise ConfigError(
                f"data.languages names {language!r}; expected some of {', '.join(LANGUAGES)}"
            )
    if not values["data.languages"]:
        raise ConfigError("data.languages is empty; name at least one, such as 'eng_Latn'")
    _check_mixture(config)
    _check_buckets(config)
    for key, (condition, is_used) in USED.items():
        for name in values:
            if (name == key or name.startswith(f"{key}.")) and not is_used(config):
                _refuse_unused(name, values[name], defaults[name], condition)


def _check_mixture(config: ConfigDict) -> None:
    for name, weight in config.data.mixture.items():
        number = isinstance(weight, int | float) and not isinstance(weight, bool)
        if not number or not 0 < weight < math.inf:
            raise ConfigError(
                f"data.mixture gives {name!r} the weight {weight!r}; expected above 0"
            )
        if Path(name).name != name:
            raise ConfigError(f"data.mixture names {name!r}; expected folders inside data.path")
    if config.data.mixture and not config.data.evaluation:
        raise ConfigError(
            "data.mixture needs data.evaluation, the name of the set in data.path to validate and "
            f"evaluate on, such as {min(config.data.mixture)!r}"
        )


def _check_buckets(config: ConfigDict) -> None:
    lengths = (*config.data.buckets, config.audio.seconds)
    numbers = all(isinstance(seconds, int | float) for seconds in lengths)
    if not numbers or list(lengths) != sorted(set(lengths)) or lengths[0] < 0.15:
        raise ConfigError(
            f"data.buckets is {config.data.buckets}; expected growing lengths of at least 0.15 s "
            f"below audio.seconds, {config.audio.seconds:g}, such as (5.0,)"
        )


def _check_block_size(config: ConfigDict) -> None:
    size = config.loss.block_size
    if size is None:
        return
    if size != "auto" and (type(size) is not int or size < 1):
        raise ConfigError(f"loss.block_size is {size!r}; expected None, 'auto' or at least 1")
    if _dynamic(config) and config.loss.svr.features == "row":
        raise ConfigError(
            f"loss.block_size is {size!r}, but loss.svr.features = 'row' needs whole rows of the "
            "similarity matrix; set it to 'summary', or leave loss.block_size at None"
        )
    if _dynamic(config) and not config.loss.svr.detach:
        raise ConfigError(
            f"loss.block_size is {size!r}, but its summaries carry no gradient, which "
            "loss.svr.detach = False asks for; set that to True, or leave loss.block_size at None"
        )


def _check_microbatch_size(config: ConfigDict) -> None:
    size, batch = config.microbatch_size, config.batch_size
    if size is not None and (type(size) is not int or size < 1 or batch % size):
        raise ConfigError(
            f"microbatch_size is {size!r}; expected None or a divisor of batch_size {batch}"
        )


def _check_pretrained(config: ConfigDict) -> None:
    for tower in ("audio", "text"):
        if config.pretrained and config[tower].pretrained:
            raise ConfigError(
                f"pretrained is set, and so is {tower}.pretrained; the first holds both towers: "
                "leave one of them empty"
            )
    key = "pretrained" if config.pretrained else "text.pretrained"
    if (config.pretrained or config.text.pretrained) and not config.text.tokenizer:
        raise ConfigError(
            f"{key} is set, but text.tokenizer is not; text weights belong to a vocabulary: give "
            "SONAR's sentencepiece.source.256000.model with text.vocab_size=256000, or the "
            "tokenizer.model of the run that the weights come from, with its text.vocab_size"
        )


def _check_type(key: str, value: object, normal: object) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if type(value) is type(normal) or (isinstance(normal, float) and number):
        return
    raise ConfigError(f"{key} is {value!r}; expected a {type(normal).__name__} such as {normal!r}")


def _refuse_unused(key: str, value: object, normal: object, condition: str) -> None:
    if value != normal:
        raise ConfigError(
            f"{key} is set to {value!r}, but only a run with {condition} uses it; "
            f"leave it at {normal!r}, or change that"
        )


def save(config: ConfigDict, path: Path) -> None:
    """Writes the config as JSON, readable by `load`."""
    path.write_text(json.dumps(config.to_dict(), indent=2) + "\n")


def load(path: Path) -> ConfigDict:
    """Reads what `save` wrote, locked. Raises ConfigError where that is not a valid config."""
    try:
        config = ConfigDict(json.loads(path.read_text()))
        config.data.languages = tuple(config.data.languages)
        config.data.buckets = tuple(config.data.buckets)
    except (OSError, ValueError, AttributeError) as error:
        raise ConfigError(f"{path} is not a readable config: {error}") from error
    validate(config)
    return config.lock()


def changed_keys(old: ConfigDict, new: ConfigDict) -> list[str]:
    """Keys, apart from operational ones, in which two configs differ."""
    old_values, new_values = flatten(old), flatten(new)
    keys = sorted(set(old_values) | set(new_values))
    return [
        key for key in keys if key not in OPERATIONAL and old_values.get(key) != new_values.get(key)
    ]
