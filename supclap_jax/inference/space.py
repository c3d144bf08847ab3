"""The id of a model's space, so that vectors of different models are never compared."""

import hashlib
import json

import jax
import numpy as np
from ml_collections import ConfigDict

from supclap_jax.data.text import Tokenizer

# Fields that change a vector beside weights and tokenizer.
PREPROCESSING = ("audio.encoder", "audio.seconds", "audio.target_length", "audio.heads",
                 "text.encoder", "text.max_tokens", "text.heads", "text.vocab_size")  # fmt: skip
LETTERS = 16


def space_id(variables: dict, tokenizer: Tokenizer, config: ConfigDict) -> str:
    """Sixteen hexadecimal letters of the SHA-256 of weights, tokenizer and preprocessing.

    Args:
      variables: of the dual encoder, as `DualEncoder.apply` takes them.
      tokenizer: of its captions.
      config: of the run.
    """
    flat = config.to_dict()
    fields = {}
    for name in PREPROCESSING:
        group, key = name.split(".")
        fields[name] = flat[group][key]
    digest = hashlib.sha256(json.dumps(fields, sort_keys=True).encode())
    digest.update(tokenizer.serialized)
    for path, leaf in jax.tree.leaves_with_path(variables):
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(np.ascontiguousarray(np.asarray(leaf, np.float32)))
    return digest.hexdigest()[:LETTERS]
