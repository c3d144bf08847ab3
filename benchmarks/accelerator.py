"""All that can be measured of us on an accelerator, by one command: GPU, TPU or, tiny, the CPU.

    python benchmarks/accelerator.py --out=benchmarks/results/accelerator
    python benchmarks/accelerator.py --out=DIR --part=losses --budget=240
    python benchmarks/accelerator.py --out=/tmp/tiny --tiny       # on the CPU, under two minutes

Parts, in this order: right (golden files, tiles, the CPU's training steps), losses, encoders (and
whole training steps), torch (PyTorch on the same device, where it can be imported). Every part runs
in a process of its own and takes at most its share of what is left of the budget, the most telling
figures first. Each figure is kept as it comes, in DIR/PART.json, so that a second call goes on
where one ended or was killed. DIR/README.md is the page of all of them.

Needs no network, and of packages only jax, flax, optax, numpy, ml_collections and safetensors; what
a machine lacks can be carried there as wheels. Run it from anywhere; the package itself need not be
installed. Exit code 1 where a number is wrong or a part failed,
such as where no accelerator is found.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from accelerator_parts.page import write_page

SHARES = {"right": 3, "losses": 4, "encoders": 4, "torch": 3}  # of what is left of the budget
GRACE = 30  # seconds after which a part that should have ended is killed
LEAST = 10  # seconds below which a part is not begun
HERE = Path(__file__).parent


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--part", choices=SHARES, action="append", help="default: all")
    parser.add_argument(
        "--budget", type=float, default=480, metavar="SECONDS", help="default: %(default)s"
    )
    parser.add_argument("--tiny", action="store_true", help="small shapes, on the CPU")
    options = parser.parse_args()

    options.out.mkdir(parents=True, exist_ok=True)
    deadline, parts = time.monotonic() + options.budget - GRACE, options.part or list(SHARES)
    failed = []
    if importlib.util.find_spec("torch") is None and "torch" in parts:
        parts.remove("torch")
        print("torch: left out, since it cannot be imported")
    for i, part in enumerate(parts):
        left = deadline - time.monotonic()
        seconds = left * SHARES[part] / sum(SHARES[later] for later in parts[i:])
        if seconds < LEAST:
            print(f"{part}: not begun, the budget is spent")
            continue
        print(f"{part}: at most {seconds:.0f} s", flush=True)
        if not run(part, options.out / f"{part}.json", seconds, options.tiny):
            failed.append(part)
        write_page(options.out)
    wrong = wrong_numbers(options.out)
    for row in wrong:
        print(f"WRONG: {row['what']}, {row['dtype']}: {row['worst']}")
    if failed:
        print(f"Failed: {', '.join(failed)}")
    print(f"Written: {options.out / 'README.md'}")
    return 1 if wrong or failed else 0


def run(part: str, file: Path, seconds: float, tiny: bool) -> bool:
    """Whether the part ended well, in a process of its own that frees its memory with its end."""
    paths = (str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", ""))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    if tiny:
        environment |= {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
        environment |= {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    command = [sys.executable, "-m", "accelerator_parts", part, str(file.absolute()), str(seconds)]
    try:
        return not subprocess.run(
            command + ["quick"] * tiny, env=environment, timeout=seconds + GRACE
        ).returncode
    except subprocess.TimeoutExpired:
        return False


def wrong_numbers(folder: Path) -> list[dict]:
    """Rows of the first part that are out of their bounds."""
    file = folder / "right.json"
    rows = json.loads(file.read_text())["rows"] if file.exists() else []
    return [row for row in rows if row.get("passed") is False]


if __name__ == "__main__":
    sys.exit(main())
