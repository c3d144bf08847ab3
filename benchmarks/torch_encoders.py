"""CED, SONAR and the log-mel front end in PyTorch: the other side of `encoders.py`.

Runs in an environment of its own (`pip install torch==2.13.0 transformers safetensors numpy`).
Reads one JSON request a line, `{"model": "ced" | "sonar" | "log_mel", "folder": ..., "threads": n,
"backward": bool, ...sizes}`; weights and inputs lie in the folder as safetensors, under our names.
Answers with `{"seconds": ..., "parameters": ...}`, and leaves the result in the folder.
"""

import json
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn


class Block(nn.Module):
    def __init__(self, dim, heads, hidden=None, activation=F.gelu):
        super().__init__()
        hidden = hidden or 4 * dim
        self.heads, self.activation = heads, activation
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.fc1, self.fc2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)

    def forward(self, x, mask=None):
        batch, tokens, dim = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(batch, tokens, 3, self.heads, dim // self.heads)
        attended = F.scaled_dot_product_attention(*qkv.permute(2, 0, 3, 1, 4), mask)
        x = x + self.proj(attended.transpose(1, 2).reshape(x.shape))
        return x + self.fc2(self.activation(self.fc1(self.norm2(x))))


class CED(nn.Module):
    def __init__(self, dim, depth, heads):
        super().__init__()
        self.input_norm = nn.BatchNorm1d(64)
        self.patch_embed = nn.Conv2d(1, dim, 16, 16)
        self.time_pos_embed = nn.Parameter(torch.empty(63, dim))
        self.freq_pos_embed = nn.Parameter(torch.empty(4, dim))
        self.blocks = nn.ModuleList(Block(dim, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, eps=1e-6)

    def forward(self, log_mel):
        x = self.input_norm(log_mel.transpose(1, 2))[:, None]
        x = self.patch_embed(x).permute(0, 2, 3, 1)
        x = x + self.time_pos_embed[: x.shape[2]] + self.freq_pos_embed[:, None]
        x = x.flatten(1, 2)
        for block in self.blocks:
            x = block(x)
        return self.norm(x).mean(1)

    def state_from(self, ours):
        """A state dict from our parameters."""
        state = dict(self.state_dict())
        dim = len(ours["patch_embed/bias"])
        patch = ours["patch_embed/kernel"].T.reshape(dim, 1, 16, 16)
        state |= {"patch_embed.weight": patch.mT, "patch_embed.bias": ours["patch_embed/bias"]}
        for name in ("time_pos_embed", "freq_pos_embed"):
            state[name] = ours[name]
        for name in ("input_norm", "norm"):
            state |= {f"{name}.weight": ours[f"{name}/scale"], f"{name}.bias": ours[f"{name}/bias"]}
        for i in range(len(self.blocks)):
            for name in ("norm1", "qkv", "proj", "norm2", "fc1", "fc2"):
                state |= module(ours, name, i, f"blocks.{i}.{name}")
        return state


class Sonar(nn.Module):
    def __init__(self, vocab_size, dim, depth, heads, ffn_dim):
        from transformers import M2M100Config
        from transformers.models.m2m_100.modeling_m2m_100 import M2M100Encoder

        super().__init__()
        self.encoder = M2M100Encoder(
            M2M100Config(
                vocab_size=vocab_size,
                d_model=dim,
                encoder_layers=depth,
                encoder_attention_heads=heads,
                encoder_ffn_dim=ffn_dim,
                max_position_embeddings=514,
                scale_embedding=True,
                attn_implementation="sdpa",
            )
        )

    def forward(self, tokens):
        return self.encoder(tokens.long()).last_hidden_state.mean(1)

    def state_from(self, ours):
        state = dict(self.state_dict())
        state["encoder.embed_tokens.weight"] = ours["embed/embedding"]
        state["encoder.layer_norm.weight"] = ours["norm/scale"]
        state["encoder.layer_norm.bias"] = ours["norm/bias"]
        names = {
            "norm1": "self_attn_layer_norm",
            "proj": "self_attn.out_proj",
            "norm2": "final_layer_norm",
            "fc1": "fc1",
            "fc2": "fc2",
        }
        for i in range(len(self.encoder.layers)):
            prefix = f"encoder.layers.{i}."
            for mine, theirs in names.items():
                state |= module(ours, mine, i, prefix + theirs)
            qkv = module(ours, "qkv", i, "qkv")
            for j, part in enumerate("qkv"):
                name = f"{prefix}self_attn.{part}_proj"
                state[f"{name}.weight"] = qkv["qkv.weight"].chunk(3)[j]
                state[f"{name}.bias"] = qkv["qkv.bias"].chunk(3)[j]
        return state


class LogMel(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("window", torch.hann_window(512))
        self.register_buffer("mel", torch.empty(257, 64))

    def forward(self, waveform):
        spectrum = torch.stft(waveform, 512, 160, window=self.window, return_complex=True)
        power = spectrum.real**2 + spectrum.imag**2
        decibels = 10 * (power.transpose(1, 2) @ self.mel).clamp(min=1e-10).log10()
        return torch.maximum(decibels, decibels.amax((1, 2), keepdim=True) - 120)

    def state_from(self, ours):
        return {"window": self.window, "mel": ours["mel"]}


def module(ours, name, layer, theirs):
    """Weight and bias of one module in one layer of our stack."""
    weight = ours.get(f"blocks/{name}/scale")
    weight = ours[f"blocks/{name}/kernel"][layer].T if weight is None else weight[layer]
    return {f"{theirs}.weight": weight, f"{theirs}.bias": ours[f"blocks/{name}/bias"][layer]}


MODELS = {"ced": CED, "sonar": Sonar, "log_mel": LogMel}
loaded = {}


def load(model, folder, sizes):
    if folder not in loaded:
        loaded.clear()
        built = MODELS[model](**sizes).eval()
        built.load_state_dict(built.state_from(load_file(folder / "weights.safetensors")))
        loaded[folder] = built, load_file(folder / "inputs.safetensors")["inputs"]
    return loaded[folder]


def measure(model, folder, threads, backward, **sizes):
    torch.set_num_threads(threads)
    folder = Path(folder)
    built, inputs = load(model, folder, sizes)
    built.zero_grad()
    began = time.perf_counter()
    with torch.set_grad_enabled(backward):
        output = built(inputs)
        if backward:
            (output**2).sum().backward()
    seconds = time.perf_counter() - began
    save_file({"output": output.detach().contiguous()}, folder / "torch.safetensors")
    return {"seconds": seconds, "parameters": sum(p.numel() for p in built.parameters())}


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(measure(**json.loads(line))), flush=True)
