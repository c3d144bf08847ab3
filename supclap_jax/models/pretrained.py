"""Published weights to our variables and back, by the tables of their layouts."""

import dataclasses
import fnmatch
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import safe_open

from supclap_jax.errors import ConfigError
from supclap_jax.models.key_maps import Layout, Shape, Source
from supclap_jax.models.tokens import vocab_size_of

FRONT_END_TOLERANCE = 1e-4
_FLOATS = ("F64", "F32", "F16", "BF16")


@dataclasses.dataclass(frozen=True)
class Match:
    """A file whose every key is accounted for.

    Attributes:
      path: of the file.
      layout: of its names.
      shapes: of our parameters that it holds, by path.
      spelling: the file's own key for each key of the layout.
      left: keys that the layout has, but the model has no parameter for.
      metadata: of the file.
    """

    path: Path
    layout: Layout
    shapes: dict[str, Shape]
    spelling: dict[str, str]
    left: tuple[str, ...]
    metadata: dict[str, str]


def load_pretrained(path: Path, variables: dict, tower: str, layouts: Sequence[Layout]) -> dict:
    """The variables with the values of a file.

    Args:
      path: a safetensors file; float16 and bfloat16 become float32.
      variables: of the module, arrays or their shapes: {"params": ..., "batch_stats": ...}.
      tower: what the module is: "audio", "text" or "dual" (DualEncoder).
      layouts: that the file may have, also of other towers, which it may be confused with.

    Returns:
      The same tree, float32 numpy arrays where the file has a value.

    Raises:
      ConfigError: as `match` and `read`.
    """
    found = match(path, variables, tower, layouts)
    return unflatten_dict(_flat(variables) | dict(read(found)), sep="/")


def match(path: Path, variables: dict, tower: str, layouts: Sequence[Layout]) -> Match:
    """Recognises a file's layout and compares all its keys and shapes with the variables.

    Reads no values but those of a front end.

    Args:
      path, variables, tower, layouts: as for `load_pretrained`.

    Raises:
      ConfigError: no known layout, another tower, another front end, another number of attention
        heads, or keys that are missing, unexpected or of another shape, which are listed.
    """
    with safe_open(path, "numpy") as file:
        slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118
        shapes = {key: tuple(tensor.get_shape()) for key, tensor in slices.items()}
        types = {key: tensor.get_dtype() for key, tensor in slices.items()}
        metadata = file.metadata() or {}
    layout = _recognise(path, shapes, layouts)
    if layout.tower != tower:
        raise ConfigError(
            f"{path} holds {_KINDS[layout.tower]} ({layout.name}), but {_KINDS[tower]} was expected"
        )
    spelling = {layout.aliases.get(key, key): key for key in shapes}
    found = {known: shapes[key] for known, key in spelling.items()}
    ours = {name: tuple(leaf.shape) for name, leaf in _flat(variables).items()}
    _check_keys(path, layout, found, ours, {known: types[key] for known, key in spelling.items()})
    held = {
        name: ours[name]
        for name, source in layout.sources.items()
        if name in ours and (source.keys[0] in found or not source.file_may_lack)
    }
    left = [key for name, s in layout.sources.items() if name not in ours for key in s.keys]
    left = tuple(key for key in left if key in found)
    matched = Match(path, layout, held, spelling, left, metadata)
    _check_constants(matched)
    return matched


def read(match: Match) -> Iterator[tuple[str, np.ndarray]]:
    """Reads a matched file parameter by parameter: path and float32 array.

    Raises:
      ConfigError: a value is not finite.
    """
    with safe_open(match.path, "numpy") as file:
        for name, shape in match.shapes.items():
            source = match.layout.sources[name]
            layers = []
            for keys in _keys(source, shape):
                parts = [file.get_tensor(match.spelling[key]) for key in keys]
                whole = np.concatenate(parts) if len(parts) > 1 else parts[0]
                layers.append(source.transform.to_ours(whole))
            value = np.stack(layers) if _layered(source) else layers[0]
            value = np.ascontiguousarray(value, np.float32).reshape(value.shape)
            if not np.isfinite(value).all():
                raise ConfigError(f"{match.path}: values of {keys[0]} are not finite, or not valid")
            if source.resize:
                value = np.asarray(source.resize(value, shape[0]))
            yield name, value


def to_layout(layout: Layout, variables: dict) -> dict[str, np.ndarray]:
    """The tensors of a file of this layout, from variables; the inverse of `read`.

    Leftovers and constants of the layout are not among them. A temperature is the shortest decimal
    number with our float32 logarithm.
    """
    tensors = {}
    ours = _flat(variables)
    for name, source in layout.sources.items():
        if name not in ours and source.file_may_lack:
            continue
        value = np.asarray(ours[name])
        layers = value if _layered(source) else value[None]
        for keys, layer in zip(_keys(source, value.shape), layers, strict=True):
            whole = source.transform.to_theirs(layer)
            parts = np.split(whole, len(keys)) if len(keys) > 1 else [whole]
            for key, part in zip(keys, parts, strict=True):
                tensors[key] = np.ascontiguousarray(part).reshape(part.shape)
    return tensors


_KINDS = {
    "audio": "an audio encoder",
    "text": "a text encoder",
    "dual": "a whole dual encoder",
}


def _flat(variables: dict) -> dict:
    return flatten_dict(variables, sep="/")


def _layered(source: Source) -> bool:
    return "{i}" in source.keys[0]


def _keys(source: Source, shape: Shape) -> Iterator[list[str]]:
    """For each layer, the keys of a parameter of this shape."""
    for i in range(shape[0] if _layered(source) else 1):
        yield [key.format(i=i) for key in source.keys]


def _expected(source: Source, shape: Shape) -> dict[str, Shape]:
    """Shapes in the file, by key."""
    theirs = source.transform.their_shape(shape[1:] if _layered(source) else shape)
    if len(source.keys) > 1:
        theirs = (theirs[0] // len(source.keys), *theirs[1:])
    return {key: theirs for keys in _keys(source, shape) for key in keys}


def _is_leftover(layout: Layout, key: str) -> bool:
    return any(fnmatch.fnmatchcase(key, pattern) for pattern in layout.leftovers)


def _depth(pattern: str, keys: Iterable[str]) -> int:
    """Number of layers, whose keys look like `pattern` with `{i}`."""
    layer = re.compile(re.escape(pattern).replace(r"\{i\}", r"\d+"))
    return sum(layer.fullmatch(key) is not None for key in keys)


def _recognise(path: Path, shapes: Mapping[str, Shape], layouts: Sequence[Layout]) -> Layout:
    """The layout that shares most keys with the file; at least half of its own."""

    def share(layout: Layout) -> float:
        keys = {layout.aliases.get(key, key) for key in shapes}
        own = set()
        for source in layout.sources.values():
            depth = max(_depth(source.keys[0], keys), 1)
            own.update(key for layer in _keys(source, (depth,)) for key in layer)
        return len(own & keys) / len(own)

    nearest = max(layouts, key=share)
    if share(nearest) < 0.5:
        some = ", ".join(_ranges({key: shapes[key] for key in shapes})[:4])
        raise ConfigError(
            f"{path} has none of the known layouts "
            f"({'; '.join(layout.name for layout in layouts)}); the nearest is {nearest.name}, of "
            f"which it has {share(nearest):.0%} of the keys. It holds "
            f"{some or 'nothing'}{', ...' * (len(shapes) > 4)}"
        )
    return nearest


def _check_keys(
    path: Path,
    layout: Layout,
    found: Mapping[str, Shape],
    ours: Mapping[str, Shape],
    types: Mapping[str, str],
) -> None:
    needed = {name for name, source in layout.sources.items() if not source.model_may_lack}
    if not needed <= ours.keys() <= layout.sources.keys():
        raise ValueError(f"the variables are not those of a model of {layout.name}: {sorted(ours)}")
    expected, misshaped = {}, {}
    optional, known = set(), set(layout.constants)
    for name, source in layout.sources.items():
        if name not in ours:
            known.update(source.keys)
            continue
        for key, shape in _expected(source, ours[name]).items():
            expected[key] = shape
            if source.file_may_lack:
                optional.add(key)
            got = found.get(key, shape)
            comparable = slice(0, -1) if source.resize and len(got) == len(shape) else slice(None)
            if got[comparable] != shape[comparable]:
                misshaped[key] = f"{got} instead of {shape}"
    missing = {key: expected[key] for key in expected if key not in found and key not in optional}
    unexpected = {
        key: shape
        for key, shape in found.items()
        if key not in expected and key not in known and not _is_leftover(layout, key)
    }
    not_floats = {key: types[key] for key in expected if types.get(key, "F32") not in _FLOATS}
    problems = [
        f"{len(keys)} {what}: {', '.join(_ranges(keys))}"
        for what, keys in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("of another shape", misshaped),
            ("not of floating point", not_floats),
        )
        if keys
    ]
    if problems:
        raise ConfigError(
            f"the keys of {path} ({layout.name}) do not fit the model; {'; '.join(problems)}"
            + (f". The file is of {_describe(layout, found)}" if layout.sizes else "")
        )


def _describe(layout: Layout, found: Mapping[str, Shape]) -> str:
    """The config that fits a file."""
    sizes = []
    for name, (key, axis) in layout.sizes.items():
        if axis is None:
            sizes.append(f"{name}={_depth(key, found)}")
        elif key in found:
            size = found[key][axis]
            size = vocab_size_of(size) if name == "text.vocab_size" else size
            sizes.append(f"{name}={size}")
            tower, _, part = name.partition(".")
            heads = layout.heads.get(tower, {}).get(size) if part == "dim" else None
            if heads:
                sizes.append(f"{tower}.heads={heads}")
    return ", ".join(sizes)


def _ranges(keys: Mapping[str, object]) -> list[str]:
    """Keys with their shapes; those that differ by the number of a layer as one."""
    groups = defaultdict(list)
    for key, shape in keys.items():
        number = re.search(r"(?<=\.)\d+(?=\..*\.)", key)
        pattern = key if number is None else key[: number.start()] + "{}" + key[number.end() :]
        groups[pattern, shape].append(0 if number is None else int(number[0]))
    lines = []
    for (pattern, shape), layers in groups.items():
        layers = sorted(layers)
        whole = layers == list(range(layers[0], layers[-1] + 1)) and len(layers) > 1
        names = f"{layers[0]}-{layers[-1]}" if whole else ",".join(map(str, layers))
        lines.append(f"{pattern.replace('{}', names)} {shape}")
    return lines


def _check_constants(match: Match) -> None:
    with safe_open(match.path, "numpy") as file:
        for key, constant in match.layout.constants.items():
            if key not in match.spelling:
                continue
            theirs, ours = file.get_tensor(match.spelling[key]), constant()
            tolerance = max(FRONT_END_TOLERANCE, float(jnp.finfo(theirs.dtype).eps))
            if theirs.shape != ours.shape:
                difference = f"has shape {theirs.shape} instead of {ours.shape}"
            elif not np.abs(theirs - ours).max() <= tolerance:
                difference = f"differs by {np.abs(theirs - ours).max():.2g}"
            else:
                continue
            raise ConfigError(
                f"{match.path} belongs to another front end than that of this model "
                f"({match.layout.name}): {key} {difference}"
            )
