"""A plain PyTorch loop over a folder of sounds: the other side of `embedding.py`.

    python torch_embedding.py EXPORT SOURCE OUT.npy

Runs in an environment of its own (`pip install torch==2.13.0 safetensors numpy soundfile`).
"""

import sys
from pathlib import Path

import numpy as np
import soundfile
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from torch_encoders import CED, LogMel

BATCH = 32


def main(export, source, out):
    ours = load_file(Path(export) / "model.safetensors")
    frontend, encoder = LogMel().eval(), CED(768, 12, 12).eval()
    frontend.load_state_dict({"window": frontend.window, "mel": ours.pop("mel")})
    audio = {
        name.split("/", 2)[2]: value
        for name, value in ours.items()
        if name.startswith(("params/audio/", "batch_stats/audio/"))
    }
    encoder.load_state_dict(
        encoder.state_from(audio)
        | {
            "input_norm.running_mean": audio["input_norm/mean"],
            "input_norm.running_var": audio["input_norm/var"],
        }
    )
    layers = [
        (ours[f"params/audio_projection/Dense_{i}/kernel"].T,
         ours[f"params/audio_projection/Dense_{i}/bias"])
        for i in range(2)
    ]  # fmt: skip
    paths = sorted(Path(source).glob("*.wav"))
    rows = []
    with torch.inference_mode():
        for begin in range(0, len(paths), BATCH):
            batch = [soundfile.read(p, dtype="float32")[0] for p in paths[begin : begin + BATCH]]
            features = encoder(frontend(torch.from_numpy(np.stack(batch))))
            projected = F.linear(F.relu(F.linear(features, *layers[0])), *layers[1])
            rows.append(F.normalize(projected).numpy())
    np.save(out, np.concatenate(rows))


if __name__ == "__main__":
    main(*sys.argv[1:])
