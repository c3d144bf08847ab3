"""What training and evaluation compute, as hashes: equal before and after a change of structure.

    python benchmarks/fingerprints.py record before.json
    python benchmarks/fingerprints.py compare before.json   # exit code 1, and what differs

Hashes hold for one machine and one version of JAX. `--values=FILE.npz` in both keeps the arrays
themselves, and says by how much they differ.
"""

import argparse
import hashlib
import json
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np

from inputs import make_batch
from supclap_jax.config import VARIANTS, read_config
from supclap_jax.data.soundscape import Soundscape
from supclap_jax.data.soundscape_files import write_clotho
from supclap_jax.evaluate.evaluation import evaluate_run
from supclap_jax.runs.mesh import make_mesh, mesh_of, put_batch
from supclap_jax.runs.states import abstract_states, init_states
from supclap_jax.train.loop import train
from supclap_jax.train.step import make_train_step

RECIPE = Path(__file__).parents[1] / "tests" / "tiny.py"
STEPS = 6
WAYS = {
    "plain": {},
    "microbatches": {"microbatch_size": 4},
    "tiles": {"loss": {"block_size": 3}},
    "8x1": {"mesh": {"data": 8}},
    "4x2": {"mesh": {"data": 4, "fsdp": 2}},
    "all on": {
        "ema_decay": 0.9,
        "audio": {"dropout": 0.1, "patch_out": 0.2, "time_masks": 1, "freq_masks": 1},
        "text": {"dropout": 0.2},
        "data": {"time_shift": True, "gain_db": 6.0, "mixup": 0.5},
    },
}


def tiny(variant: str):
    """The recipe of the tests, of seconds."""
    return read_config(f"{RECIPE}:{variant}", [])


def leaves(name: str, tree) -> dict[str, np.ndarray]:
    """Each leaf by its path."""
    found = jax.tree_util.tree_leaves_with_path(jax.device_get(tree))
    return {f"{name}{jax.tree_util.keystr(path)}": np.asarray(leaf) for path, leaf in found}


def trained(variant: str, way: str) -> dict[str, np.ndarray]:
    """Both states after some steps, and the last metrics."""
    config = tiny(variant)
    config.update(WAYS[way])
    mesh = mesh_of(config)
    states, step = init_states(config, mesh), make_train_step(config, mesh)
    for k in range(STEPS):
        states, metrics = step(states, put_batch(make_batch(config, k, padded=True), mesh))
    name = f"{variant}, {way}: "
    return (
        leaves(f"{name}train", states.dual)
        | leaves(f"{name}radius", states.radius)
        | leaves(f"{name}metrics", metrics)
    )


def shardings(variant: str) -> dict[str, np.ndarray]:
    """Of the compiled step on 4 x 2 devices: inputs and outputs, as text."""
    config = tiny(variant)
    config.audio.dim = config.text.dim = 256
    config.mesh.update(data=4, fsdp=2)
    mesh = make_mesh(4, config.batch_size, 2)
    step = make_train_step(config, mesh)
    given = put_batch(make_batch(config, padded=True), mesh)
    compiled = step.lower(abstract_states(config, mesh), given).compile()
    text = "\n".join(
        map(str, jax.tree.leaves((compiled.input_shardings, compiled.output_shardings)))
    )
    return {f"{variant}: shardings": np.frombuffer(text.encode(), np.uint8)}


def evaluated(variant: str, folder: Path) -> dict[str, np.ndarray]:
    """The report of a run trained from files."""
    data = folder / "data"
    if not data.is_dir():
        write_clotho(Soundscape(seconds=2.0), data, 40, workers=1)
    config = tiny(variant)
    config.update(WAYS["all on"])
    config.data.path = str(data)
    config.data.languages = ("eng_Latn", "deu_Latn")
    workdir = folder / variant
    train(config.lock(), workdir)
    evaluate_run(workdir)
    text = (workdir / "evaluation.json").read_bytes()
    return {f"{variant}: evaluation": np.frombuffer(text, np.uint8)}


def fingerprints() -> dict[str, np.ndarray]:
    found = {}
    for variant in VARIANTS:
        for way in WAYS:
            print(f"{variant}, {way}", file=sys.stderr, flush=True)
            found |= trained(variant, way)
    found |= shardings("static") | shardings("siglip_dynamic")
    with tempfile.TemporaryDirectory() as folder:
        for variant in ("info_nce", "siglip_dynamic"):
            found |= evaluated(variant, Path(folder))
    return found


def digest(array: np.ndarray) -> str:
    content = f"{array.dtype} {array.shape} ".encode() + np.ascontiguousarray(array).tobytes()
    return hashlib.sha256(content).hexdigest()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=("record", "compare"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--values", type=Path, help="file of the arrays (.npz), beside the hashes")
    options = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 8)
    found = fingerprints()
    hashes = {name: digest(array) for name, array in found.items()}
    if options.action == "record":
        options.file.write_text(json.dumps({"jax": jax.__version__, "sha256": hashes}, indent=1))
        if options.values:
            np.savez(options.values, **found)
        print(f"{len(hashes)} hashes written to {options.file}")
        return 0
    before = json.loads(options.file.read_text())["sha256"]
    known = np.load(options.values, allow_pickle=False) if options.values else {}
    different = [name for name in {**before, **hashes} if before.get(name) != hashes.get(name)]
    for name in different:
        detail = ""
        if name in found and name in known and known[name].shape == found[name].shape:
            a, b = (np.asarray(x, np.float64) for x in (known[name], found[name]))
            error = np.max(np.abs(a - b)) / max(np.max(np.abs(a)), 1e-30)
            detail = f": up to {error:.1e} of the largest entry"
        fate = "" if name in before else " (new)"
        fate += "" if name in hashes else " (gone)"
        print(f"{name}{fate}{detail}")
    print(f"{len(different)} of {len(before)} differ")
    return bool(different)


if __name__ == "__main__":
    sys.exit(main())
