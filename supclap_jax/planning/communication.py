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
        instructions = list(program.computations[name].values())
        begun, ends = {}, {}
        for place, instruction in enumerate(instructions):
            for transfer in _transfers(program, name, instruction):
                begun.setdefault(transfer.key, (place, transfer))
                ends[transfer.key] = place
            if instruction.opcode.endswith("-done"):
                starts = (f"{name}/{operand}" for operand in instruction.operands)
                ends |= {key: place for key in starts if key in begun}
        for key, (place, transfer) in begun.items():
            if key in counted:
                continue
            counted.add(key)
            span = instructions[place : ends[key] + 1]
            total = totals[transfer.kind]
            total["count"] += runs
            total["bytes"] += runs * transfer.sent
            if not any(_multiplies(program, instruction) for instruction in span):
                total["exposed"] += runs * transfer.sent
    return {
        kind: {name: totals[kind][name] for name in ("count", "bytes", "exposed")}
        for kind in sorted(totals)
    }


def between_slices(program: Program, slices: int) -> dict[str, int]:
    """What a device sends to other slices in one run of the program.

    XLA takes it through the host's network: it sends an array out and receives the result. Bytes
    are counted as of `collectives`, for groups of one device of each of the slices.

    Returns:
      {"count", "bytes", "exposed"}.
    """
    total = Counter(count=0, bytes=0, exposed=0)
    for name, runs in executions(program, within_fusions=False).items():
        computation = program.computations[name]
        begun, ends = {}, {}
        for place, instruction in enumerate(computation.values()):
            if instruction.opcode == "send" and (kind := _crossing(instruction)):
                begun[_meeting(instruction)] = (
                    place,
                    _sent(kind, computation[instruction.operands[0]].bytes, slices),
                )
            if instruction.opcode in ("send-done", "recv-done"):
                ends[_meeting(computation[instruction.operands[0]])] = place
        instructions = list(computation.values())
        for meeting, (place, sent) in begun.items():
            span = instructions[place : ends.get(meeting, place) + 1]
            total.update(count=runs, bytes=runs * sent)
            if not any(_multiplies(program, instruction) for instruction in span):
                total.update(exposed=runs * sent)
    return dict(total)


def _crossing(instruction: Instruction) -> str | None:
    """The kind of collective between slices that a send begins; None of any other."""
    found = re.search(r'_xla_megascale_transfer_type="(\w+)"', instruction.attributes)
    return found and found[1].lower().replace("_", "-")


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
