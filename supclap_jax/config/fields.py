"""Every field of a config, declared once: all else about fields is read from this table."""

from typing import Any, NamedTuple

from supclap_jax.config.checks import (
    Check,
    Flag,
    Growing,
    Languages,
    Named,
    Some,
    Text,
    Weights,
    choice,
    either,
    number,
    optional,
    whole,
)
from supclap_jax.config.conditions import (
    BIAS,
    BRANCH,
    FIXED_RADIUS,
    FREQ_MASKS,
    FULL_REMAT,
    LEARNED_RADIUS,
    LEARNED_TEMPERATURE,
    MICROBATCHES,
    MIXTURE,
    MOVING_AVERAGE,
    OFFLINE,
    PREDICTED_RADIUS,
    PROFILE,
    SVR,
    TIME_MASKS,
    TRAINED_AUDIO,
    TRAINED_ENCODER,
    TRAINED_TEXT,
    TWO_LEARNED_RADII,
    UNBOUND,
    WSD,
    Condition,
)
from supclap_jax.losses import BASES

COUNT = whole(1, most=10**9)
STEPS = whole(0, most=10**9)
SIZE = whole(1, most=2**17, why="what one device can hold")
DEPTH = whole(1, most=1_000)
PER_HOST = whole(1, most=1_024)
POSITIVE = number(above=0, most=10**6)
NON_NEGATIVE = number(0, most=10**6)
RATE = number(above=0, most=100)
TEMPERATURE = number(1e-4, most=1_000, why="so that logits stay finite")
SHARE = number(0, below=1)
RADIUS = number(0, most=100, why="a length")
ACTIVATIONS = ("qkv", "attended", "sum", "hidden")  # of a transformer block


class Field(NamedTuple):
    """One field of a config.

    Attributes:
      default: its value unless a recipe or an override sets another.
      comment: what it is, without its key.
      check: what it may hold.
      used: when a run uses it; elsewhere it must keep its default. None: always.
      resumable: whether a resumed run may change it: trained parameters do not depend on it, apart
        from rounding on other devices.
    """

    default: Any
    comment: str
    check: Check
    used: Condition | None = None
    resumable: bool = False


# The defaults are CED-Base and SONAR as in SupCLAP, InfoNCE without SVR.
FIELDS: dict[str, Field] = {
    "seed": Field(
        0,
        "of initialisation, dropout, augmentation and the order of the data",
        whole(0, most=2**32 - 1, why="32 bits"),
    ),
    "total_steps": Field(10_000, "steps of training", COUNT),
    "batch_size": Field(24, "pairs in one step, over all devices", whole(1, most=2**24)),
    "microbatch_size": Field(
        None,
        "pairs in the towers at a time, a divisor of `batch_size`; None: the batch",
        optional(COUNT),
    ),
    "gradient_cache": Field(
        True,
        "keep only the embeddings of a microbatch and compute its towers again for the gradient; "
        "False: keep what `remat` leaves",
        Flag(),
        MICROBATCHES,
        resumable=True,
    ),
    "eval_every": Field(
        1_000, "steps between evaluations on the validation clips", COUNT, resumable=True
    ),
    "checkpoint_every": Field(1_000, "steps between checkpoints", COUNT, resumable=True),
    "log_every": Field(10, "steps between lines of metrics.jsonl", COUNT, resumable=True),
    "keep_last": Field(
        2, "newest checkpoints kept, beside the best one", whole(1, most=10**6), resumable=True
    ),
    "keep_steps": Field(
        (),
        "steps with a checkpoint that is kept beside those, such as for branches",
        Growing(COUNT),
        resumable=True,
    ),
    "max_bad_steps": Field(
        10, "non-finite steps in a row before training stops", COUNT, resumable=True
    ),
    "loss.base": Field("info_nce", "the contrastive loss", Named(tuple(BASES))),
    "loss.same_id": Field(
        "positive", "what other pairs of the same clip are", choice("positive", "ignore")
    ),
    "loss.block_size": Field(
        None,
        "pairs per side of a tile of the similarities; None: the whole matrix",
        either(None, "auto", COUNT),
        resumable=True,
    ),
    "loss.reduction": Field(
        "mean",
        "of the two directions of the loss, and of SVR's; the paper's is sum: there one direction "
        "of SVR, and the constraint, weigh half as much beside the loss",
        choice("mean", "sum"),
    ),
    "loss.contraction": Field(
        1.0, "factor of the gradient across the pull direction; 1: as it is", number(-100, most=100)
    ),
    "loss.intra_modal": Field(
        0.0, "weight of InfoNCE within each modality, their mean", NON_NEGATIVE
    ),
    "loss.svr.radius": Field(
        "none",
        "of the support vectors: constant, learned (static) or predicted (dynamic)",
        choice("none", "fixed", "static", "dynamic"),
    ),
    "loss.svr.direction": Field(
        "both", "whose queries are moved", choice("both", "text_to_audio", "audio_to_text"), SVR
    ),
    "loss.svr.alpha": Field(1.0, "weight of the SVR term", NON_NEGATIVE, SVR),
    "loss.svr.beta": Field(0.01, "weight of the radius constraint", NON_NEGATIVE, UNBOUND),
    "loss.svr.bound": Field(
        "none",
        "distance: radii are shares of each pair's distance, learned and predicted ones within "
        "(0, 1), without a constraint",
        choice("none", "distance"),
        SVR,
    ),
    "loss.svr.fixed_radius": Field(
        0.1, "the radius; unit embeddings are 0 to 2 apart", RADIUS, FIXED_RADIUS
    ),
    "loss.svr.initial_radius": Field(0.1, "where the radius starts", RADIUS, LEARNED_RADIUS),
    "loss.svr.shared": Field(
        False, "one radius model for both directions", Flag(), TWO_LEARNED_RADII
    ),
    "loss.svr.features": Field(
        "summary",
        "what the radius is predicted from: the row of similarities (the paper's; ties it to the "
        "batch size) or its summary",
        choice("row", "summary"),
        PREDICTED_RADIUS,
    ),
    "loss.svr.similarity": Field(
        "online",
        "whose similarities the radius is predicted from: those of the embeddings in training, or "
        "(offline) of a frozen reference model, at the temperature in training",
        choice("online", "offline"),
        PREDICTED_RADIUS,
    ),
    "loss.svr.reference": Field(
        "", "folder of supclap embed-reference, for this data", Text(), OFFLINE
    ),
    "loss.svr.hidden": Field(64, "width of the MLP's two hidden layers", SIZE, PREDICTED_RADIUS),
    "loss.svr.activation": Field(
        "relu", "between the MLP's layers", choice("relu", "gelu", "tanh"), PREDICTED_RADIUS
    ),
    "loss.svr.detach": Field(
        True, "no gradient from the radius into its input", Flag(), PREDICTED_RADIUS
    ),
    "temperature.initial": Field(0.07, "logits are similarity / temperature", TEMPERATURE),
    "temperature.learned": Field(True, "whether the temperature is learned", Flag()),
    "temperature.minimum": Field(
        0.01, "a learned temperature stays above", TEMPERATURE, LEARNED_TEMPERATURE
    ),
    "temperature.initial_bias": Field(
        -10.0, "where the learned bias of the logits starts", number(-1_000, most=1_000), BIAS
    ),
    "audio.encoder": Field("ced", "architecture: ced, or one's own", Named()),
    "audio.dim": Field(768, "width of its blocks", SIZE),
    "audio.depth": Field(12, "number of its blocks", DEPTH),
    "audio.heads": Field(12, "heads of its attention", SIZE),
    "audio.frozen": Field(False, "keep the encoder as it is (LiT); its projection learns", Flag()),
    "audio.dropout": Field(
        0.0, "share of activations left out at random in training", SHARE, TRAINED_AUDIO
    ),
    "audio.patch_out": Field(
        0.0, "share of patches left out at random in training", SHARE, TRAINED_AUDIO
    ),
    "audio.time_masks": Field(
        0, "SpecAugment: stretches of time blanked in training", STEPS, TRAINED_AUDIO
    ),
    "audio.time_mask_frames": Field(
        100, "frames of 10 ms in the longest of them", SIZE, TIME_MASKS
    ),
    "audio.freq_masks": Field(
        0, "SpecAugment: bands of frequency blanked in training", STEPS, TRAINED_AUDIO
    ),
    "audio.freq_mask_bins": Field(16, "mel bins in the widest of them", SIZE, FREQ_MASKS),
    "audio.target_length": Field(
        1_012, "frames of 10 ms encoded together; longer clips are split", COUNT
    ),
    "audio.seconds": Field(
        10.0,
        "longer clips are cropped to this, shorter ones masked",
        number(above=0, most=86_400, why="a day"),
    ),
    "audio.saved": Field(
        (),
        "what its blocks keep on the device for the gradient beside their input",
        Some(ACTIVATIONS),
        FULL_REMAT,
        resumable=True,
    ),
    "audio.offloaded": Field(
        (), "and in the memory of the host", Some(ACTIVATIONS), FULL_REMAT, resumable=True
    ),
    "audio.pretrained": Field(
        "", "weights of CED to start from: PATH or hf://OWNER/REPO/FILE", Text()
    ),
    "text.encoder": Field("sonar", "architecture: sonar, or one's own", Named()),
    "text.dim": Field(1024, "width of its blocks", SIZE),
    "text.depth": Field(24, "number of its blocks", DEPTH),
    "text.heads": Field(16, "heads of its attention", SIZE),
    "text.ffn_dim": Field(8192, "width inside its MLPs", SIZE),
    "text.frozen": Field(False, "keep the encoder as it is; its projection learns", Flag()),
    "text.dropout": Field(
        0.1, "share of activations left out at random in training", SHARE, TRAINED_TEXT
    ),
    "text.tokenizer": Field(
        "", "a sentencepiece model, such as SONAR's; empty: learned from captions", Text()
    ),
    "text.vocab_size": Field(
        8_000, "pieces, at least the tokenizer's; 256,000 with SONAR's", whole(1, most=2**24)
    ),
    "text.max_tokens": Field(
        64,
        "tokens of a caption, language tag and end included; longer ones are cut",
        whole(3, most=2**17, why="the language's tag, one piece and the end"),
    ),
    "text.saved": Field(
        (),
        "what its blocks keep on the device for the gradient beside their input",
        Some(ACTIVATIONS),
        FULL_REMAT,
        resumable=True,
    ),
    "text.offloaded": Field(
        (), "and in the memory of the host", Some(ACTIVATIONS), FULL_REMAT, resumable=True
    ),
    "text.pretrained": Field(
        "", "weights of SONAR to start from; they need their `text.tokenizer`", Text()
    ),
    "pretrained": Field(
        "", "or weights of both towers, projections and temperature, with ML-CLAP's names", Text()
    ),
    "projection_dim": Field(1024, "dimensions of the common space", SIZE),
    "compute_dtype": Field(
        "float32",
        "of what the encoders compute; parameters stay float32",
        choice("float32", "bfloat16"),
    ),
    "attention": Field(
        "xla",
        "its implementation; cudnn is fused, for bfloat16 on NVIDIA GPUs",
        choice("xla", "cudnn"),
        resumable=True,
    ),
    "scan_layers": Field(
        True, "compile one transformer block as a loop rather than each", Flag(), resumable=True
    ),
    "remat": Field(
        "none",
        "what is computed again for the gradient: none, all but the dots, or full blocks",
        choice("none", "dots", "full"),
        resumable=True,
    ),
    "optimizer.learning_rate": Field(5e-5, "peak, after the warm-up", RATE),
    "optimizer.warmup_steps": Field(500, "steps from a learning rate of zero to the peak", STEPS),
    "optimizer.schedule": Field(
        "cosine",
        "after the warm-up: a cosine to zero, a constant, or that with a cooldown at the end (wsd)",
        choice("cosine", "constant", "wsd"),
    ),
    "optimizer.decay_steps": Field(
        2_000,
        "last steps, the cooldown; a tenth to a fifth of the run is usual",
        whole(2, most=10**9, why="the first is at the peak"),
        WSD,
    ),
    "optimizer.weight_decay": Field(0.0, "of matrices alone", NON_NEGATIVE),
    "optimizer.clip_norm": Field(
        1.0, "largest global norm of the gradient; a longer one is shortened", POSITIVE
    ),
    "optimizer.layer_decay": Field(
        1.0, "learning rate of a block over that of the next one up", POSITIVE, TRAINED_ENCODER
    ),
    "optimizer.scale.audio": Field(1.0, "factor of the audio encoder", NON_NEGATIVE, TRAINED_AUDIO),
    "optimizer.scale.text": Field(1.0, "factor of the text encoder", NON_NEGATIVE, TRAINED_TEXT),
    "optimizer.scale.projections": Field(1.0, "factor of the projections", NON_NEGATIVE),
    "optimizer.scale.temperature": Field(
        1.0, "factor of the temperature, and the bias", NON_NEGATIVE
    ),
    "radius_optimizer.learning_rate": Field(1e-3, "peak, after the warm-up", RATE, LEARNED_RADIUS),
    "radius_optimizer.warmup_steps": Field(
        100, "steps from a learning rate of zero to the peak", STEPS, LEARNED_RADIUS
    ),
    "radius_optimizer.weight_decay": Field(0.0, "of matrices alone", NON_NEGATIVE, LEARNED_RADIUS),
    "radius_optimizer.clip_norm": Field(
        1.0,
        "largest global norm of the gradient; a longer one is shortened",
        POSITIVE,
        LEARNED_RADIUS,
    ),
    "branch.run": Field("", "folder of the run to start from; empty: from the beginning", Text()),
    "branch.step": Field(0, "step of its checkpoint to start from", STEPS, BRANCH),
    "ema_decay": Field(0.0, "of a moving average of the parameters, such as 0.999; 0: none", SHARE),
    "data.path": Field(
        "",
        "a prepared set or Clotho 2.1's layout; with a mixture, its sets' folder",
        Text(),
        resumable=True,
    ),
    "data.mixture": Field(
        {}, "prepared sets in `data.path` to train on: {name: weight}", Weights()
    ),
    "data.evaluation": Field(
        "", "the mixture's set in `data.path` to validate and evaluate on", Text(), MIXTURE
    ),
    "data.on_leak": Field(
        "error",
        "what to do about training clips that are in the evaluation data too",
        choice("error", "warn"),
    ),
    "data.buckets": Field(
        (),
        "seconds: shorter clips in batches of their own, below `audio.seconds`",
        Growing(number(0.15)),
    ),
    "data.languages": Field(
        ("eng_Latn",), "of captions; the first is the headline one", Languages()
    ),
    "data.on_bad_clip": Field(
        "error", "what to do about unreadable audio", choice("error", "skip")
    ),
    "data.workers": Field(
        1, "processes that decode audio; 0 decodes in threads", whole(0, most=1_024), resumable=True
    ),
    "data.prefetch": Field(8, "batches kept ready by each worker", PER_HOST, resumable=True),
    "data.time_shift": Field(
        False, "rotate training clips by a random share of their length", Flag()
    ),
    "data.gain_db": Field(
        0.0,
        "make training clips louder or softer by up to this",
        number(0, most=100, why="a factor of 100,000"),
    ),
    "data.mixup": Field(0.0, "share of training clips mixed with another, captions joined", SHARE),
    "evaluate.batch_size": Field(
        64, "clips, or captions, embedded at a time", SIZE, resumable=True
    ),
    "evaluate.long_audio": Field(
        "crop",
        "clips above `audio.seconds`: their beginning, or the mean of windows over all of them",
        choice("crop", "windows"),
        resumable=True,
    ),
    "evaluate.resamples": Field(
        1_000,
        "resamples of the clips, for the bootstrap's intervals",
        whole(1, most=100_000),
        resumable=True,
    ),
    "evaluate.ema": Field(
        True,
        "evaluate the moving average where there is one",
        Flag(),
        MOVING_AVERAGE,
        resumable=True,
    ),
    "profile.start": Field(10, "first step of the trace", COUNT, PROFILE, resumable=True),
    "profile.steps": Field(0, "number of steps in it; 0: no trace", STEPS, resumable=True),
    "compilation_cache": Field(
        "", "folder for compiled programs, so that a restart finds them", Text(), resumable=True
    ),
    "mesh.data": Field(
        -1,
        "groups of devices with a copy of the states each; -1: all that are left",
        either(-1, COUNT),
        resumable=True,
    ),
    "mesh.fsdp": Field(
        1,
        "devices of a group, which share the copy; all share the batch; -1: all that are left",
        either(-1, COUNT),
        resumable=True,
    ),
    "mesh.slices": Field(
        None,
        "slices of TPUs that the mesh spans; None: those that there are",
        optional(COUNT),
        resumable=True,
    ),
}
