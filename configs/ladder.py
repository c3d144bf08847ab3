"""Sizes of one family, for scaling laws: width alone grows, and the learning rate falls with it.

`ladder:SIZE,VARIANT`; SIZE is tiny, mini, small or base, the sizes of CED, or w16, w32,
w48, w80 or w144 for the soundscape, 57-fold in the encoders' parameters; VARIANT is as in
configs/soundscape.py, by default dynamic. The text encoder has the width and depth of the audio
encoder. configs/sweeps/ladder.py trains them all. For the soundscape make the data first, enough
that no clip is seen twice:

    supclap synthesize --out=runs/soundscape64k --clips=66000 --held-out=1000
    supclap prepare --format=clotho --source=runs/soundscape64k --out=prepared/soundscape64k
"""

from supclap_jax.config import default, set_variant
from supclap_jax.errors import ConfigError

CED = {"tiny": 192, "mini": 256, "small": 384, "base": 768}  # widths
SOUNDSCAPE = {f"w{width}": width for width in (16, 32, 48, 80, 144)}


def get_config(argument="w48"):
    size, _, variant = argument.partition(",")
    config = default()
    config.compilation_cache = "runs/compiled"
    set_variant(config, variant or "dynamic")
    if size in CED:
        set_ced(config)
        set_width(config, CED[size], head=64)
        config.optimizer.learning_rate = learning_rate(CED[size], at_width=(192, 1e-3))
    elif size in SOUNDSCAPE:
        set_soundscape(config)
        set_width(config, SOUNDSCAPE[size], head=16)
        config.optimizer.learning_rate = learning_rate(SOUNDSCAPE[size], at_width=(48, 1.5e-3))
    else:
        raise ConfigError(f"unknown size {size!r}; expected one of {', '.join(CED | SOUNDSCAPE)}")
    return config


def set_ced(config):
    """Prepared data of 10 s in bfloat16; `data.path` or `data.mixture` name the sets."""
    config.data.path = "prepared/training"
    config.batch_size = 1_024
    config.audio.seconds = 10.0
    config.audio.depth = config.text.depth = 12
    config.text.vocab_size = 8_000
    config.compute_dtype = "bfloat16"
    config.optimizer.warmup_steps = 200
    config.optimizer.weight_decay = 0.05
    config.eval_every = config.checkpoint_every = 1_000


def set_soundscape(config):
    config.data.path = "prepared/soundscape64k"
    config.batch_size = 32
    config.audio.seconds = 4.0
    config.audio.depth = config.text.depth = 2
    config.text.vocab_size = 2_000
    config.text.max_tokens = 44
    config.projection_dim = 128
    config.optimizer.warmup_steps = 50
    config.optimizer.weight_decay = 0.05
    config.eval_every = config.checkpoint_every = 2_000


def set_width(config, width, head):
    for tower in (config.audio, config.text):
        tower.dim = width
        tower.heads = width // head
    config.text.ffn_dim = 4 * width


def learning_rate(width, at_width):
    """Inverse to the width, as for Adam's matrices in Yang et al., arXiv 2203.03466, table 3."""
    reference, rate = at_width
    return rate * reference / width
