"""A recipe of seconds: the real architecture at its smallest, on one device."""

from pathlib import Path

from supclap_jax.config import default, set_variant

PATH = Path(__file__)


def get_config(variant="dynamic"):
    config = default()
    set_variant(config, variant)
    config.data.workers = 0
    config.total_steps = 6
    config.batch_size = 8
    config.eval_every = 3
    config.checkpoint_every = 2
    config.log_every = 1
    config.keep_last = 9
    config.audio.update(dim=32, depth=1, heads=2, seconds=1.0)
    config.text.update(dim=32, depth=1, heads=2, ffn_dim=32, vocab_size=300, max_tokens=24)
    config.projection_dim = 16
    config.optimizer.update(learning_rate=1e-3, warmup_steps=2, weight_decay=0.01)
    config.evaluate.update(batch_size=8, resamples=50)
    config.mesh.data = 1
    return config
