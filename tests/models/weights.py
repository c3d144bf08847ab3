"""Published state dicts as Linen variables: which key becomes which parameter."""

import jax
import numpy as np
from safetensors.numpy import load_file

CED_LAYOUTS = {
    "original": dict(prefix="", input_norm="init_bn.1"),
    "hf": dict(prefix="encoder.", input_norm="init_bn"),
}
CED_BLOCK = {
    "norm1": ["norm1"],
    "qkv": ["attn.qkv"],
    "proj": ["attn.proj"],
    "norm2": ["norm2"],
    "fc1": ["mlp.fc1"],
    "fc2": ["mlp.fc2"],
}

SONAR_LAYOUTS = {
    "hf": dict(
        embed="embed_tokens",
        block="layers.",
        block_modules={
            "norm1": ["self_attn_layer_norm"],
            "qkv": ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
            "proj": ["self_attn.out_proj"],
            "norm2": ["final_layer_norm"],
            "fc1": ["fc1"],
            "fc2": ["fc2"],
        },
        special_ids=[0, 1, 2, 3],
    ),
    "fairseq2": dict(
        embed="encoder_frontend.embed",
        block="encoder.layers.",
        block_modules={
            "norm1": ["self_attn_layer_norm"],
            "qkv": ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
            "proj": ["self_attn.output_proj"],
            "norm2": ["ffn_layer_norm"],
            "fc1": ["ffn.inner_proj"],
            "fc2": ["ffn.output_proj"],
        },
        special_ids=[2, 0, 3, 1],
    ),
}


def load_ced(path, layout: str, depth: int) -> dict:
    """Linen variables of a CED from a safetensors file in the "original" or "hf" layout."""
    state = load_file(path)
    prefix = CED_LAYOUTS[layout]["prefix"]
    input_norm = prefix + CED_LAYOUTS[layout]["input_norm"]
    patch = state[f"{prefix}patch_embed.proj.weight"]
    params = {
        "input_norm": module(state, [input_norm]),
        "patch_embed": {
            "kernel": patch[:, 0].transpose(2, 1, 0).reshape(-1, patch.shape[0]),
            "bias": state[f"{prefix}patch_embed.proj.bias"],
        },
        "time_pos_embed": state[f"{prefix}time_pos_embed"][0, :, 0].T,
        "freq_pos_embed": state[f"{prefix}freq_pos_embed"][0, :, :, 0].T,
        "norm": module(state, [f"{prefix}norm"]),
        "blocks": blocks(state, f"{prefix}blocks.", CED_BLOCK, depth),
    }
    statistics = {
        "mean": state[f"{input_norm}.running_mean"],
        "var": state[f"{input_norm}.running_var"],
    }
    return {"params": params, "batch_stats": {"input_norm": statistics}}


def load_sonar(path, layout: str, depth: int) -> dict:
    """Linen variables of a SONAR encoder from a safetensors file, layout "hf" or "fairseq2"."""
    state = load_file(path)
    names = SONAR_LAYOUTS[layout]
    embedding = state[f"{names['embed']}.weight"]
    params = {
        "embed": {"embedding": np.concatenate([embedding[names["special_ids"]], embedding[4:]])},
        "norm": module(state, ["layer_norm"]),
        "blocks": blocks(state, names["block"], names["block_modules"], depth),
    }
    return {"params": params}


def blocks(state: dict, prefix: str, modules: dict, depth: int) -> dict:
    """The blocks' modules, each leaf stacked over the blocks, [depth, ...]."""
    each = [
        {
            ours: module(state, [f"{prefix}{i}.{name}" for name in theirs])
            for ours, theirs in modules.items()
        }
        for i in range(depth)
    ]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *each)


def module(state: dict, names: list[str]) -> dict:
    """A norm, or a dense layer of which `names` hold consecutive outputs."""
    weight = np.concatenate([state[f"{name}.weight"] for name in names])
    bias = np.concatenate([state[f"{name}.bias"] for name in names])
    return {("scale" if weight.ndim == 1 else "kernel"): weight.T, "bias": bias}
