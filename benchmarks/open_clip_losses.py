"""The dense losses as open_clip computes them, in PyTorch: the other side of `losses.py`.

Runs in an environment of its own (`pip install torch==2.13.0 numpy`). Reads one JSON request a
line, `{"loss": "info_nce" | "siglip", "inputs": "file.npy", "scale": s, "bias": b}`, with audio and
text stacked `[2, batch, dim]`; answers with `{"seconds": ..., "value": ...}`.
"""

import json
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F


def info_nce(audio, text, scale, bias):
    logits = scale * audio @ text.T
    labels = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2


def siglip(audio, text, scale, bias):
    logits = scale * audio @ text.T + bias
    labels = 2 * torch.eye(len(logits), device=logits.device) - 1
    return -F.logsigmoid(labels * logits).sum() / len(logits)


def measure(request):
    inputs = np.load(request["inputs"], allow_pickle=False)
    audio, text = (torch.from_numpy(x).requires_grad_() for x in inputs)
    scale = torch.tensor(request["scale"], requires_grad=True)
    bias = torch.tensor(request["bias"], requires_grad=True)
    began = time.perf_counter()
    loss = {"info_nce": info_nce, "siglip": siglip}[request["loss"]](audio, text, scale, bias)
    loss.backward()
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "value": loss.item()}


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(measure(json.loads(line))), flush=True)
