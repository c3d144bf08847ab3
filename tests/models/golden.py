"""The small models of the golden files: their weights, inputs and largest errors."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import load_file

from supclap_jax.models import ced_weights, sonar_weights
from supclap_jax.models.ced import CED
from supclap_jax.models.pretrained import load_pretrained
from supclap_jax.models.sonar import SonarTextEncoder

GOLDEN = Path(__file__).parents[1] / "golden"
CED_MODEL = CED(dim=48, depth=2, heads=3)
SONAR_MODEL = SonarTextEncoder(vocab_size=320, dim=64, depth=2, heads=4, ffn_dim=128, max_length=64)
CLIPS = {
    clip["name"]: clip
    for clip in json.loads((GOLDEN / "ced_encoder.json").read_text())["inputs"]["clips"]
}
TOKENS = ("batch0", "batch1")
# Of embeddings, of those of waveforms, and of the log-mel in dB; with products in full float32.
EMBEDDING_ERROR, WAVEFORM_ERROR, LOG_MEL_ERROR = 5e-6, 2e-5, 5e-3


def cases_of(name):
    """Arrays of a file of `tests/golden`, by its name without the suffix."""
    return load_file(GOLDEN / f"{name}.safetensors")


def cut(cases, name):
    """A clip of `ced_encoder.cases`, [frames, 64]."""
    bank, clip = cases["logmel_bank"], CLIPS[name]
    return bank.T[(clip["start"] + np.arange(clip["frames"])) % bank.shape[1]]


def ced_weights_of(layout):
    """Variables of `CED_MODEL`, from the file of that layout: "original" or "hf"."""
    shapes = jax.eval_shape(CED_MODEL.init, jax.random.key(0), jnp.zeros([1, 200, 64]))
    path = GOLDEN / f"ced_encoder.weights_{layout}.safetensors"
    return load_pretrained(path, shapes, "audio", ced_weights.LAYOUTS.values())


def sonar_weights_of(layout):
    """Variables of `SONAR_MODEL`, from the file of that layout: "hf" or "fairseq2"."""
    shapes = jax.eval_shape(SONAR_MODEL.init, jax.random.key(0), jnp.zeros([1, 4], jnp.int32))
    path = GOLDEN / f"sonar_encoder.weights_{layout}.safetensors"
    return load_pretrained(path, shapes, "text", sonar_weights.LAYOUTS.values())
