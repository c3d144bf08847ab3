"""Where results come from."""

import hashlib
import shlex
import subprocess
import sys
from pathlib import Path

import jax
from ml_collections import ConfigDict

import supclap_jax
from supclap_jax.config import to_json


def provenance(config: ConfigDict | None = None) -> dict[str, str | None]:
    """What made a result: the program, and of what settings.

    Returns:
      {"supclap_jax": version, "commit": of the checkout that the program lies in, with "+" where
      that was changed, or None, "jax": version, "command": as it was given, "config": SHA-256 of
      the config's JSON}
    """
    told = {
        "supclap_jax": supclap_jax.__version__,
        "commit": _commit(),
        "jax": jax.__version__,
        "command": shlex.join(["supclap", *sys.argv[1:]]),
    }
    if config is not None:
        told["config"] = hashlib.sha256(to_json(config).encode()).hexdigest()
    return told


def _commit() -> str | None:
    root = Path(supclap_jax.__file__).parents[1]
    if not (root / ".git").exists():
        return None
    git = ["git", "-C", str(root)]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True)
        changed = subprocess.run([*git, "diff", "--quiet", "HEAD"], capture_output=True)
    except OSError:  # no git here
        return None
    if commit.returncode:  # such as for a checkout of somebody else
        return None
    return commit.stdout.strip() + ("+" if changed.returncode else "")
