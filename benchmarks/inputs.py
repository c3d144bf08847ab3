"""Configs and random batches that several benchmarks share."""

import importlib.util
from pathlib import Path

import numpy as np

CONFIGS = Path(__file__).parents[1] / "configs"


def recipe(name: str, variant: str, **changes):
    """The config of `configs/NAME.py:VARIANT` with other values of fields, dots as `__`."""
    spec = importlib.util.spec_from_file_location(name, CONFIGS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config(variant)
    config.update_from_flattened_dict({key.replace("__", "."): x for key, x in changes.items()})
    return config


def make_batch(config, seed: int = 0, padded: bool = False) -> dict[str, np.ndarray]:
    """Noise of full length, and captions of 20 tokens.

    With `padded` of half to full length, captions of 12 tokens, and the last pair of the first
    pair's clip.
    """
    rng = np.random.default_rng(seed)
    rows, samples = config.batch_size, round(16_000 * config.audio.seconds)
    length = 12 if padded else 20
    tokens = np.ones((rows, config.text.max_tokens), np.int32)
    tokens[:, :length] = rng.integers(4, config.text.vocab_size, (rows, length))
    lengths = rng.integers(samples // 2, samples + 1, rows) if padded else np.full(rows, samples)
    group_ids = np.arange(rows, dtype=np.int32)
    if padded:
        group_ids[-1] = 0
    return {
        "audio": 0.1 * rng.standard_normal((rows, samples), np.float32),
        "audio_lengths": lengths.astype(np.int32),
        "tokens": tokens,
        "group_ids": group_ids,
    }
