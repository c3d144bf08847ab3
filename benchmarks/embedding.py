"""Files a second of `supclap embed` with CED-Base, beside a plain PyTorch loop; for inference.py.

Both are whole commands, from start to the written vectors: WAV files of 10 s at 16 kHz, one
after the other in turns, the same weights, all processors.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
import pyarrow.parquet as pq
import soundfile
from safetensors.numpy import load_file, save_file

from supclap_jax.config import default, stored
from supclap_jax.data.text import train_tokenizer
from supclap_jax.inference.model_folder import CONFIG, WEIGHTS, write_weights
from supclap_jax.models.log_mel import mel_filterbank
from supclap_jax.runs.mesh import make_mesh
from supclap_jax.runs.states import init_states, variables_of
from supclap_jax.runs.tokenizer import TOKENIZER

RATE, SECONDS = 16_000, 10
TURNS = 1  # of minutes a side
CLOSE = 1e-4


def embedded(torch: str, clips: int) -> dict[str, float]:
    """Files a second of both, and the median ratio.

    Args:
      torch: a Python interpreter that has torch 2.13.0, safetensors and soundfile.
      clips: number of files.
    """
    with tempfile.TemporaryDirectory() as folder:
        model, source = Path(folder) / "model", Path(folder) / "source"
        write_model(model)
        source.mkdir()
        rng = np.random.default_rng(0)
        for number in range(clips):
            samples = rng.uniform(-0.5, 0.5, RATE * SECONDS)
            soundfile.write(source / f"{number:05d}.wav", samples, RATE, "PCM_16")
        index, theirs = Path(folder) / "index", Path(folder) / "theirs.npy"
        embed = [sys.executable, "-m", "supclap_jax.cli", "embed", f"--model={model}",
                 f"--source={source}", f"--out={index}", "--dtype=float32"]  # fmt: skip
        script = str(Path(__file__).parent / "torch_embedding.py")
        reference = Path(folder) / "reference"
        shutil.copytree(model, reference)
        weights = load_file(reference / WEIGHTS) | {"mel": mel_filterbank()}
        save_file(weights, reference / WEIGHTS)
        loop = [torch, script, str(reference), str(source), str(theirs)]
        seconds = []
        for _ in range(TURNS):
            shutil.rmtree(index, ignore_errors=True)
            seconds.append((_seconds_of(embed), _seconds_of(loop)))
        table = pq.read_table(sorted(index.glob("part-*.parquet"))).sort_by("path")
        ours = np.stack(table["vector"].to_numpy())
        difference = float(np.abs(ours - np.load(theirs)).max())
    if difference > CLOSE:
        raise RuntimeError(f"the vectors differ by {difference:.2g}")
    return {
        "clips": clips,
        "files a second": clips / statistics.median(mine for mine, _ in seconds),
        "files a second, PyTorch": clips / statistics.median(other for _, other in seconds),
        "rate over PyTorch's": statistics.median(other / mine for mine, other in seconds),
        "largest difference": difference,
    }


def write_model(folder: Path) -> None:
    """An export of CED-Base that is not trained, with a small text encoder."""
    config = default()
    config.audio.update(dim=768, depth=12, heads=12, seconds=float(SECONDS))
    config.text.update(dim=64, depth=1, heads=2, ffn_dim=64, vocab_size=300)
    variables = variables_of(init_states(config, make_mesh(1, 1)).dual, config)
    folder.mkdir()
    (folder / CONFIG).write_text(stored.to_json(config))
    (folder / TOKENIZER).write_bytes(train_tokenizer(["a dog barks", "rain falls"], 300))
    write_weights(jax.device_get(variables), folder / WEIGHTS, {"step": "0"})


def _seconds_of(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ)
    return time.perf_counter() - began
