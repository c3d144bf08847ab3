"""Weight files: where they come from, and that they are safetensors."""

import shlex
from pathlib import Path

from safetensors import SafetensorError, safe_open

from supclap_jax.errors import ConfigError

SUFFIX = ".safetensors"

_PICKLE_SUFFIXES = (".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth")
_PICKLE_STARTS = (b"PK\x03\x04", *(bytes([0x80, protocol]) for protocol in range(2, 6)))
_HUB = "hf://"
_CONVERT = (
    "import sys, torch, safetensors.torch as st; "
    "s = torch.load(sys.argv[1], map_location='cpu', weights_only=True); "
    "s = s.get('state_dict', s.get('model', s)); "
    "st.save_file({k: v.clone().contiguous() for k, v in s.items() if torch.is_tensor(v)}, "
    "sys.argv[2])"
)


def find_weights(source: str) -> Path:
    """The safetensors file that `source` names.

    Args:
      source: as of `find`.

    Raises:
      ConfigError: there is no such file, it is a pickle, which can run code when it is read, or it
        is damaged.
    """
    if Path(source).suffix in _PICKLE_SUFFIXES:
        raise _pickle(source)
    path = find(source)
    try:
        with safe_open(path, "numpy"):
            return path
    except (SafetensorError, OSError) as error:
        with path.open("rb") as file:
            if file.read(4).startswith(_PICKLE_STARTS):
                raise _pickle(str(path)) from error
        raise ConfigError(
            f"{path} is not a whole safetensors file ({error}); download or write it again"
        ) from error


def find(source: str) -> Path:
    """The file that `source` names, downloaded if need be.

    Args:
      source: a local path, or `hf://OWNER/REPOSITORY/FILE` on the Hugging Face Hub, or on the
        server that the environment variable HF_ENDPOINT names. Hugging Face's cache keeps it.

    Raises:
      ConfigError: there is no such file, or it cannot be had.
    """
    if source.startswith(_HUB):
        return _download(source)
    path = Path(source).expanduser()
    if not path.is_file():
        raise ConfigError(f"there is no file {source!r}; expected a path or hf://OWNER/REPO/FILE")
    return path


def _download(source: str) -> Path:
    import httpx2
    from huggingface_hub import hf_hub_download

    parts = source.removeprefix(_HUB).split("/")
    if len(parts) < 3 or not set(parts).isdisjoint({"", ".", ".."}) or "\\" in source:
        raise ConfigError(f"cannot read {source!r}; expected hf://OWNER/REPOSITORY/FILE")
    try:
        return Path(hf_hub_download("/".join(parts[:2]), "/".join(parts[2:])))
    except (OSError, ValueError, httpx2.HTTPError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"cannot download {source}: {reason or type(error).__name__}") from error


def _pickle(source: str) -> ConfigError:
    if source.startswith(_HUB):
        source = source.rsplit("/", 1)[-1]
    converted = str(Path(source).with_suffix(SUFFIX))
    if converted == source:
        converted = str(Path(source).with_suffix(".converted" + SUFFIX))
    command = f'python -c "{_CONVERT}" {shlex.quote(source)} {shlex.quote(converted)}'
    return ConfigError(
        f"{source} is a pickle, which can run code when it is read; only safetensors are. Convert "
        f"it, where PyTorch is installed, with: {command}"
    )
