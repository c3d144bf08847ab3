"""The settings of a recipe that take the least time on a slice: a few are compiled, all predicted.

Operations and the memory of states are counted exactly for all. What else a step takes of memory,
and of the rates of HBM and links, is taken to be linear in a few counts; each compilation corrects
their weights, and the next to be compiled is what is then predicted to be the fastest that fits.
"""

import functools
import itertools
import math
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from supclap_jax.models.registry import check_config, encoders
from supclap_jax.planning.chips import CHIPS, Chip
from supclap_jax.planning.compiled_step import (
    DeviceIsFull,
    abstract_batch,
    compile_step,
    devices_of,
)
from supclap_jax.planning.flops import learning_passes, train_step_flops
from supclap_jax.planning.planner import analysis
from supclap_jax.runs.mesh import make_mesh
from supclap_jax.runs.states import abstract_states

MEMORY = 0.95  # share of a device's that a step may take
NEAR = 0.005  # what is predicted to be faster by less than this share is not compiled
NOISE, PRIOR = 0.01, 0.5  # relative errors of a prediction with the right weights, and of theirs
# Before anything was compiled: bytes for each that is held, and the count that the rest goes with.
BEFORE = {"memory": (1, 1), "hbm": (3, -1), "links": (0, 1), "exposed": (0, 1), "network": (0, 2)}
# What blocks may keep but attention's output, which saves the fewest operations a byte.
SAVED = [
    names for count in range(4) for names in itertools.combinations(("qkv", "sum", "hidden"), count)
]


class Settings(NamedTuple):
    """What is searched; `KEYS` are the fields of the config."""

    microbatch_size: int | None
    gradient_cache: bool
    remat: str
    audio_saved: tuple[str, ...]
    text_saved: tuple[str, ...]
    data: int
    fsdp: int


KEYS = (
    *("microbatch_size", "gradient_cache", "remat", "audio.saved", "text.saved"),
    *("mesh.data", "mesh.fsdp"),
)


def tune(
    config: ConfigDict,
    topology: str,
    compilations: int = 8,
    *,
    slices: int = 1,
    tell: Callable[[dict], None] = lambda entry: None,
) -> dict:
    """Searches `remat`, what blocks keep, microbatches and mesh for the least time on a slice.

    That is the floor with exposed communication, of `roofline.floor`. The second to be compiled is
    in the midst of all: microbatches of middle size, nothing of which is computed twice but whole
    blocks.

    Args:
      config: of the recipe, the first that is compiled.
      topology: as of `planner.plan`.
      compilations: at most so many.
      slices: as of `planner.plan`.
      tell: is called with the entry of each one.

    Returns:
      A dict for JSON. "recipe" and each of "best", those that fit, the fastest first: "settings",
      by dotted key, where they are not the recipe's, and what `planner.analysis` gives; of one that
      does not fit, "memory" is None. "candidates" and "compilations", how many, and "seconds".

    Raises:
      ConfigError: as of `planner.plan`.
    """
    check_config(config)
    devices = devices_of(topology, slices)
    chip = CHIPS[topology.partition(":")[0]]
    began = time.perf_counter()
    space = list(dict.fromkeys(_space(config, len(devices), slices)))
    table = _Table(config, space, devices, chip, slices)
    entries: dict[int, dict] = {}
    place, middle = 0, space.index(_middle(space))
    while len(entries) < min(compilations, len(space)):
        entries[place] = _compiled(config, space[place], devices, chip, slices)
        tell(entries[place])
        table.learn(place, entries[place])
        if len(entries) == 1 and middle not in entries:
            place = middle
            continue
        place = next(filter(None, map(table.faster, (0, 1, 2))), None)
        if place is None:
            break
    fitting = [x for x in entries.values() if x["memory"] and _fits(x["memory"])]
    return {
        "topology": topology,
        "candidates": len(space),
        "compilations": len(entries),
        "seconds": time.perf_counter() - began,
        "recipe": entries[0],
        "best": sorted(fitting, key=lambda x: x["floor"]["with_exposed"]),
    }


def with_settings(config: ConfigDict, settings: Settings) -> ConfigDict:
    """A config with other settings."""
    changed = deepcopy(config)
    for key, value in zip(KEYS, settings, strict=True):
        *sections, name = key.split(".")
        functools.reduce(getattr, sections, changed)[name] = value
    return changed


def _values(config: ConfigDict) -> list:
    return [functools.reduce(getattr, key.split("."), config) for key in KEYS]


def _own(config: ConfigDict, devices: int, slices: int) -> Settings:
    """The config's settings; its mesh where that has all devices, else the nearest that has."""
    own = Settings(*_values(config))
    fsdp = devices // own.data if own.fsdp == -1 else own.fsdp
    fsdp = math.gcd(fsdp, devices // slices)
    return own._replace(data=devices // fsdp, fsdp=fsdp)


def _space(config: ConfigDict, devices: int, slices: int = 1) -> Iterator[Settings]:
    """All settings that are considered, the config's own first."""
    yield _own(config, devices, slices)
    microbatches = [(None, True)]
    size = config.batch_size
    while size % (2 * devices) == 0:
        size //= 2
        microbatches += [(size, False), (size, True)]
    saved = [
        SAVED if "saved" in encoder.fields and not config[tower].frozen else [()]
        for tower, encoder in encoders(config).items()
    ]
    remats = list(itertools.product(["full"], *saved))
    if not (config.audio.offloaded or config.text.offloaded):  # of which "none" has no use
        remats.append(("none", (), ()))
    sizes = [2**k for k in range(devices.bit_length()) if devices % (slices * 2**k) == 0]
    for microbatch, remat, fsdp in itertools.product(microbatches, remats, sizes):
        yield Settings(*microbatch, *remat, devices // fsdp, fsdp)


def _middle(space: list[Settings]) -> Settings:
    """Blocks that keep their input alone, in microbatches between the largest and the smallest."""
    own = space[0]
    sizes = sorted({x.microbatch_size for x in space if x.microbatch_size and not x.gradient_cache})
    if not sizes:
        return own
    size = sizes[len(sizes) // 2]
    candidates = [
        x
        for x in space
        if (x.microbatch_size, x.gradient_cache) == (size, False)
        and (x.remat, x.audio_saved, x.text_saved) == ("full", (), ())
    ]
    return min(candidates, key=lambda x: abs(x.fsdp - own.fsdp))


def _compiled(
    config: ConfigDict, settings: Settings, devices: list, chip: Chip, slices: int
) -> dict:
    changed = with_settings(config, settings)
    own = _own(config, len(devices), slices)
    values = [value if value != -1 else own[i] for i, value in enumerate(_values(config))]
    differ = zip(KEYS, settings, values, strict=True)
    entry = {"settings": {key: new for key, new, old in differ if new != old}}
    try:
        return entry | analysis(changed, compile_step(changed, devices), chip, devices, slices)
    except DeviceIsFull as full:
        return entry | {"memory": None, "used": full.used}


def _fits(memory: dict[str, int]) -> bool:
    return memory["total"] <= MEMORY * memory["capacity"]


def _counts(
    config: ConfigDict, space: list[Settings], devices: list, slices: int
) -> Iterator[tuple]:
    """Of each of the settings and of one device: operations; bytes of states and batch; and what
    memory, the rate of HBM and the links are linear in."""

    @functools.cache
    def work(has_parts: bool, *others) -> tuple[int, int, int]:
        size = config.batch_size // 2 if has_parts else None
        changed = with_settings(config, Settings(size, *others, config.mesh.data, config.mesh.fsdp))
        held = sum(
            part.held
            for tower, encoder in encoders(changed).items()
            for part in encoder.flops(changed).values()
            if not config[tower].frozen
        )
        return sum(train_step_flops(changed).values()), held, learning_passes(changed)

    @functools.cache
    def placed(data: int, fsdp: int) -> tuple[int, int]:
        mesh = make_mesh(data, config.batch_size, fsdp, devices, slices=slices)
        states = abstract_states(config, mesh)
        known = sum(map(_bytes, jax.tree.leaves((states, abstract_batch(config, mesh)))))
        return known, sum(map(_bytes, jax.tree.leaves(states.dual.params)))

    for settings in space:
        size, cached, *remat, data, fsdp = settings
        count = data * fsdp
        flops, held, passes = work(size is not None, cached, *remat)
        known, weights = placed(data, fsdp)
        parts = 1 if size is None else config.batch_size // size
        rows = config.batch_size / count / parts
        held_at_once = held / count / (parts if size is not None and cached else 1)
        runs = parts * passes
        gathered, summed = weights * (fsdp - 1), weights * (data - 1) / data
        yield (
            flops / count,
            known,
            (held_at_once, rows, 1),
            (held / count, math.log2(2 * rows), runs * weights * fsdp, weights, 1),
            (held / count, runs * gathered, parts * summed, parts * gathered, 1),
        )


def _bytes(array: jax.ShapeDtypeStruct) -> int:
    """On one device."""
    return math.prod(array.sharding.shard_shape(array.shape)) * array.dtype.itemsize


class _Table:
    """Counts of all settings, and what those that were compiled say of the rest."""

    def __init__(
        self, config: ConfigDict, space: list[Settings], devices: list, chip: Chip, slices: int
    ):
        self.chip = chip
        self.found = {"memory": {}, "hbm": {}, "links": {}, "exposed": {}, "network": {}}
        self.actual: dict[int, float] = {}
        rows = _counts(config, space, devices, slices)
        self.flops, self.known, *counts = (np.array(x) for x in zip(*rows, strict=True))
        self.counts = dict(zip(self.found, [*counts, counts[-1], counts[-1]], strict=True))

    def learn(self, place: int, entry: dict) -> None:
        """Takes in what the compiler found."""
        if entry["memory"]:
            self.found["memory"][place] = entry["memory"]["total"] - self.known[place]
        elif entry["used"]:
            self.found["memory"][place] = entry["used"]
        self.actual[place] = math.inf
        if entry["memory"]:
            self.found["hbm"][place] = entry["hbm_bytes"]
            for what, name in (("links", "bytes"), ("exposed", "exposed")):
                kinds = entry["collectives"].values()
                self.found[what][place] = sum(kind[name] for kind in kinds)
            crossing = entry["between_slices"].values()
            self.found["network"][place] = sum(kind["bytes"] for kind in crossing)
            if _fits(entry["memory"]):
                self.actual[place] = entry["floor"]["with_exposed"]

    def faster(self, hope: float) -> int | None:
        """The one not compiled that is predicted to be the fastest, if it is faster than those.

        Args:
          hope: standard errors of the predictions to take off them.
        """
        alone = self._predicted("exposed", hope) / self.chip.ici_rate
        parts = [
            self.flops / self.chip.flops,
            self._predicted("hbm", hope) / self.chip.hbm_rate,
            self._predicted("links", hope) / self.chip.ici_rate - alone,
        ]
        if any(self.found["network"].values()):
            parts.append(self._predicted("network", hope) / self.chip.network_rate)
        seconds = np.max(parts, axis=0) + alone
        memory = self.known + self._predicted("memory", hope)
        seconds[memory > MEMORY * self.chip.hbm_bytes] = math.inf
        seconds[list(self.actual)] = math.inf
        place = int(np.argmin(seconds))
        return place if seconds[place] < (1 - NEAR) * min(self.actual.values()) else None

    def _predicted(self, what: str, hope: float) -> np.ndarray:
        """Bayesian linear regression; the first compilation gives the scale of the weights."""
        counts, found = self.counts[what], self.found[what]
        if not found:
            return np.zeros(len(counts))
        places, values = list(found), np.maximum(list(found.values()), 1.0)
        scale = np.maximum(counts.max(axis=0), 1)
        x = counts / scale
        times_held, main = BEFORE[what]
        first, prior = x[places[0]], np.zeros(x.shape[1])
        main = main if first[main] else -1
        prior[0] = times_held * scale[0]
        rest = max(values[0] - prior[0] * first[0], NOISE * values[0])
        prior[main] = rest / first[main]
        errors = PRIOR * np.where(prior > 0, prior, rest)
        rows = np.concatenate([x[places] / (NOISE * values[:, None]), np.diag(1 / errors)])
        target = np.concatenate([np.full(len(values), 1 / NOISE), prior / errors])
        weights = np.linalg.lstsq(rows, target, rcond=None)[0]
        errors = np.linalg.norm(x @ np.linalg.pinv(rows), axis=1)
        return np.maximum(x @ weights - hope * errors, 0)
