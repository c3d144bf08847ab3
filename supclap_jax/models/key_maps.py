"""Which weight of a file is which of our parameters: the parts of which such tables are made.

A table maps a parameter's path to the keys of a file. `{i}` numbers the layers, which our
parameter stacks along its first axis; several keys hold consecutive outputs of one dense layer.
Where a layout differs in more than names, its table says which transform lies between the two.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping

import numpy as np

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Transform:
    """Between a tensor of a file and ours.

    Attributes:
      to_ours: from the file's tensor.
      to_theirs: its inverse.
      their_shape: of the file's tensor, from that of ours.
    """

    to_ours: Callable[[np.ndarray], np.ndarray]
    to_theirs: Callable[[np.ndarray], np.ndarray]
    their_shape: Callable[[Shape], Shape]


SAME = Transform(lambda x: x, lambda x: x, lambda shape: shape)
MATRIX = Transform(lambda x: x.T, lambda x: x.T, lambda shape: shape[::-1])


@dataclasses.dataclass(frozen=True)
class Source:
    """Where a parameter lies in a file.

    Attributes:
      keys: with `{i}` for the layer if there are several.
      transform: from one layer's tensor to ours.
      file_may_lack: whether a file need not hold it; the model's own value stays.
      model_may_lack: whether a model need not have it; that of the file is left.
      resize: takes a file's tensor of another length along the first axis, and ours; None if its
        length must be ours.
    """

    keys: tuple[str, ...]
    transform: Transform = SAME
    file_may_lack: bool = False
    model_may_lack: bool = False
    resize: Callable[[np.ndarray, int], np.ndarray] | None = None


@dataclasses.dataclass(frozen=True)
class Layout:
    """The names that one kind of file uses.

    Attributes:
      name: of the layout.
      tower: "audio", "text" or "dual": what the file holds.
      sources: by the path of our parameter in the variables of that module.
      sizes: what of the config a file fixes: the key and axis where it can be read; with an axis
        of None, the number of layers.
      heads: number of attention heads by width, of the published models; no file tells it.
      leftovers: keys that are left out on purpose, with `*` for anything, and why.
      constants: keys of fixed numbers which must be those of our own front end.
      aliases: other spellings of keys.
      notice: what a user of the weights must know.
    """

    name: str
    tower: str
    sources: Mapping[str, Source]
    sizes: Mapping[str, tuple[str, int | None]] = dataclasses.field(default_factory=dict)
    heads: Mapping[str, Mapping[int, int]] = dataclasses.field(default_factory=dict)
    leftovers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    constants: Mapping[str, Callable[[], np.ndarray]] = dataclasses.field(default_factory=dict)
    aliases: Mapping[str, str] = dataclasses.field(default_factory=dict)
    notice: str = ""


def norm(ours: str, theirs: str) -> dict[str, Source]:
    """Scale and bias of a norm."""
    return {
        f"{ours}/scale": Source((f"{theirs}.weight",)),
        f"{ours}/bias": Source((f"{theirs}.bias",)),
    }


def dense(ours: str, *theirs: str) -> dict[str, Source]:
    """Kernel and bias of a dense layer, whose outputs several of theirs may share in turn."""
    return {
        f"{ours}/kernel": Source(tuple(f"{name}.weight" for name in theirs), MATRIX),
        f"{ours}/bias": Source(tuple(f"{name}.bias" for name in theirs)),
    }


def within(prefix: str, sources: Mapping[str, Source], module: str = "") -> dict[str, Source]:
    """The same sources under a prefix of the file, and in a module of ours."""
    moved = {}
    for path, source in sources.items():
        collection, rest = path.split("/", 1)
        path = f"{collection}/{module}/{rest}" if module else path
        moved[path] = dataclasses.replace(source, keys=tuple(prefix + key for key in source.keys))
    return moved


def own_names(name: str, tower: str, paths: Iterable[str]) -> Layout:
    """The layout of files whose keys are the paths of our parameters, joined by dots.

    Args:
      name: of the layout.
      tower: as `Layout.tower`.
      paths: of all parameters, such as "params/Dense_0/kernel".
    """
    sources = {path: Source((path.replace("/", "."),)) for path in paths}
    return Layout(name, tower, sources)
