"""What the devices of a compiled program send each other, and what of it no product hides."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from supclap_jax.planning.hlo import CONTROL, Instruction, Program, called_by, executions

COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "ragged-all-to-all",
    "collective-permute",
    "collective-broadcast",
)
PRODUCTS = ("dot", "convolution")


class Transfer(NamedTuple):
    """One collective of a computation.

    Attributes:
      key: of all the pieces that it runs in.
      kind: of `COLLECTIVES`.
      sent: bytes that a device sends.
    """

    key: str
    kind: str
    sent: int


def collectives(program: Program) -> dict[str, dict[str, int]]:
    """What a device sends to others in one run of the program.

    Bytes are the least that a device of n in a group sends for an operand of b bytes: `2 (n-1)/n b`
    of all-reduce, `(n-1) b` of all-gather, `(n-1)/n b` of reduce-scatter and all-to-all, b of
    others. An asynchronous collective counts at its start. TPUs run some in pieces, fused with
    other work, and the text repeats an all-gather in each: within fusions, those of one channel
    count once. A fused all-reduce of which each device keeps a part is a reduce-scatter.

    A collective is exposed unless a matrix product runs between its first and its last piece, or
    its start and its end, in the order of the schedule, or in a fusion with it.

    Returns:
      kind -> {"count", "bytes", "exposed"}, the last of them bytes, too, without those that stay on
      one device.
    """
    totals, counted = defaultdict(Counter), set()
    for name, runs in executions(program, within_fusions=False).items():
        spans = _Spans(program, name)
        for place, instruction in enumerate(spans.instructions):
            for transfer in _transfers(program, name, instruction):
                spans.add(transfer.key, place, transfer)
            if instruction.opcode.endswith("-done"):
                for operand in instruction.operands:
                    spans.end(f"{name}/{operand}", place)
        for key, transfer, hidden in spans:
            if key not in counted:
                counted.add(key)
                _count(totals[transfer.kind], runs, transfer.sent, hidden)
    return {kind: dict(totals[kind]) for kind in sorted(totals)}


def between_slices(program: Program, slices: int) -> dict[str, dict[str, int]]:
    """What a device sends to other slices in one run of the program.

    XLA takes it through the host's network: it sends an array out and receives the result. Bytes
    are counted as of `collectives`, for groups of one device of each of the slices.

    Returns:
      kind -> {"count", "bytes", "exposed"}.
    """
    totals = defaultdict(Counter)
    for name, runs in executions(program, within_fusions=False).items():
        computation = program.computations[name]
        spans = _Spans(program, name)
        for place, instruction in enumerate(spans.instructions):
            if instruction.opcode == "send" and (kind := _crossing(instruction)):
                given = computation[instruction.operands[0]].bytes
                key = _meeting(instruction)
                spans.add(key, place, Transfer(key, kind, _sent(kind, given, slices)))
            if instruction.opcode in ("send-done", "recv-done"):
                spans.end(_meeting(computation[instruction.operands[0]]), place)
        for _, transfer, hidden in spans:
            _count(totals[transfer.kind], runs, transfer.sent, hidden)
    return {kind: dict(totals[kind]) for kind in sorted(totals)}


class _Spans:
    """The transfers of a computation, each with what is scheduled from its begin to its end."""

    def __init__(self, program: Program, name: str):
        self._program = program
        self.instructions = list(program.computations[name].values())
        self._begun: dict[str, tuple[int, Transfer]] = {}
        self._ends: dict[str, int] = {}

    def add(self, key: str, place: int, transfer: Transfer) -> None:
        """A piece of a transfer, the first or a later one."""
        self._begun.setdefault(key, (place, transfer))
        self._ends[key] = place

    def end(self, key: str | None, place: int) -> None:
        """The end of a transfer, of those that were begun."""
        if key in self._begun:
            self._ends[key] = place

    def __iter__(self) -> Iterator[tuple[str, Transfer, bool]]:
        """Key, transfer, and whether a matrix product runs on the way."""
        for key, (place, transfer) in self._begun.items():
            span = self.instructions[place : self._ends[key] + 1]
            yield key, transfer, any(_multiplies(self._program, x) for x in span)


def _count(total: Counter, runs: int, sent: int, hidden: bool) -> None:
    total["count"] += runs
    total["bytes"] += runs * sent
    total["exposed"] += 0 if hidden else runs * sent


def _crossing(instruction: Instruction) -> str | None:
    """The kind of collective between slices that a send begins; None of any other."""
    found = re.search(r'_xla_megascale_transfer_type="(\w+)"', instruction.attributes)
    if found is None:
        return None
    kind = found[1].lower().replace("_", "-")
    return "collective-permute" if kind == "one-to-one" else kind


def _meeting(instruction: Instruction) -> str | None:
    """What a send and the receiving of its result have in common."""
    found = re.search(r'_xla_host_transfer_rendezvous="([^"]+)"', instruction.attributes)
    return found and found[1]


def _transfers(program: Program, name: str, instruction: Instruction) -> Iterator[Transfer]:
    """Collectives that an instruction of a computation is, or that are fused in it."""
    yield from _own_transfer(program, name, instruction, fused=False)
    if instruction.opcode not in CONTROL:
        for called in called_by(instruction):
            yield from _fused(program, called)


def _fused(program: Program, name: str) -> Iterator[Transfer]:
    for instruction in program.computations[name].values():
        yield from _own_transfer(program, name, instruction, fused=True)
        for called in called_by(instruction):
            yield from _fused(program, called)


def _own_transfer(
    program: Program, name: str, instruction: Instruction, *, fused: bool
) -> Iterator[Transfer]:
    kind = instruction.opcode.removesuffix("-start")
    if kind not in COLLECTIVES or (group := _group_size(instruction)) == 1:
        return
    channel = _channel(instruction)
    key = f"{name}/{instruction.name}"
    if fused and kind == "all-gather" and channel:
        key = f"channel {channel}"
    if kind == "all-reduce" and name.startswith("all-reduce-scatter"):
        kind = "reduce-scatter"
    computation = program.computations[name]
    given = sum(computation[operand].bytes for operand in instruction.operands)
    yield Transfer(key, kind, _sent(kind, given, group))


def _multiplies(program: Program, instruction: Instruction) -> bool:
    """Whether an instruction is a matrix product or has one inside."""
    if instruction.opcode in PRODUCTS:
        return True
    return any(
        _multiplies(program, inner)
        for called in called_by(instruction)
        for inner in program.computations[called].values()
    )


def _channel(instruction: Instruction) -> str | None:
    found = re.search(r"channel_id=(\d+)", instruction.attributes)
    return found and found[1]


def _group_size(instruction: Instruction) -> int:
    """Chips that take part together; XLA writes groups as lists, as iotas and as axes of a mesh."""
    text = instruction.attributes
    if "source_target_pairs=" in text:
        pairs = re.search(r"source_target_pairs=\{(.*?)\}\}", text)
        return 1 + any(a != b for a, b in re.findall(r"(\d+),(\d+)", pairs[1])) if pairs else 1
    if axes := re.search(r"replica_groups=mesh\[(.*?)\][^{]*\{(.*?)\}", text):
        sizes = dict(re.findall(r"'(.*?)'=(\d+)", axes[1]))
        size = 1
        for axis in re.findall(r"'(.*?)'", axes[2]):
            size *= int(sizes[axis])
        return size
    if iota := re.search(r"replica_groups=\[\d+,(\d+)\]<=", text):
        return int(iota[1])
    groups = re.search(r"replica_groups=\{\{([\d,]*)\}", text)
    return len(groups[1].split(",")) if groups else 1


def _sent(kind: str, given: int, group: int) -> int:
    others = group - 1
    share = {
        "all-reduce": 2 * others / group,
        "all-gather": others,
        "reduce-scatter": others / group,
        "all-to-all": others / group,
        "ragged-all-to-all": others / group,
    }
    return round(given * share.get(kind, 1))
