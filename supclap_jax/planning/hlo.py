"""Reads the text of a compiled program: how often what runs, and what it moves in memory.

XLA's own `cost_analysis` counts the body of a loop once; here an instruction counts as often as it
runs.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

CONTROL = ("while", "conditional", "call", "async-start")
FREE = (*CONTROL, "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all")
SLICES = ("dynamic-slice", "slice", "gather")
UPDATES = {"dynamic-update-slice": 1, "scatter": 2}  # and which operand holds what is written

_COMPUTATION = re.compile(r"(ENTRY )?%?([^\s(]+) \(.*\{$")
_INSTRUCTION = re.compile(r"\s+(ROOT )?%?([^\s=]+) = (.*?) ([a-z][a-z0-9-]*)\((.*)$")
_ARRAY = re.compile(r"\b([a-z]+\d*[a-z0-9]*)\[([\d,]*)\](?:\{([^}]*)\})?")
_NAME = re.compile(r"%([\w.-]+)")
_CALLED = re.compile(r"(?:calls|body|to_apply|branch_computations)=(\{[^}]*\}|%[\w.-]+)")


@dataclass(frozen=True)
class Instruction:
    """`name = result opcode(operands), attributes`.

    Attributes:
      hbm: bytes of each array of the result, zero for those that lie in faster memory.
      bytes: bytes of all of them, wherever they lie.
      operands: names, in the same computation.
      argument: what is between the parentheses.
    """

    name: str
    opcode: str
    hbm: tuple[int, ...]
    bytes: int
    operands: tuple[str, ...]
    argument: str
    attributes: str
    root: bool


Computation = dict[str, Instruction]


@dataclass(frozen=True)
class Program:
    """The computations of a module, and the name of that it begins with."""

    computations: dict[str, Computation]
    entry: str


def parse(text: str) -> Program:
    """Reads `compiled.as_text()`. Raises ValueError where there is no entry computation."""
    computations, entry, current = {}, None, {}
    for line in text.splitlines():
        if found := _INSTRUCTION.match(line):
            instruction = _instruction(*found.groups())
            current[instruction.name] = instruction
        elif found := _COMPUTATION.match(line):
            current = computations[found[2]] = {}
            entry = found[2] if found[1] else entry
    if entry is None:
        raise ValueError("no ENTRY computation; expected the text of a compiled program")
    return Program(computations, entry)


def hbm_bytes(program: Program) -> int:
    """Bytes that the instructions of a program read from HBM and write to it, in one run.

    A fusion reads its operands, of which it may take slices, and writes its result, which may be a
    part of an array; nothing in between. Arrays that the compiler keeps in faster memory are left
    out, and so is padding to whole tiles.
    """
    total = 0
    for name, runs in executions(program, within_fusions=False).items():
        for instruction in program.computations[name].values():
            total += runs * _moved(program, program.computations[name], instruction)
    return total


def executions(program: Program, *, within_fusions: bool) -> Counter:
    """How often each computation runs, in one run of the program.

    Each branch of a conditional counts. A loop turns as often as `trip_count` says.

    Args:
      program: what runs.
      within_fusions: also count what instructions apply, such as the insides of fusions.
    """
    counts = Counter()

    def run(name: str, times: int):
        counts[name] += times
        for instruction in program.computations[name].values():
            if within_fusions or instruction.opcode in CONTROL:
                turns = trip_count(program, instruction) if instruction.opcode == "while" else 1
                for called in called_by(instruction):
                    run(called, turns * times)

    run(program.entry, 1)
    return counts


def trip_count(program: Program, loop: Instruction) -> int:
    """Turns of a while loop: what the compiler noted, or the constant that its condition compares.

    A loop is taken to count from zero, as `jax.lax.scan` and `map` do. One whose condition has
    another number of constants than one counts as a single turn.
    """
    if known := re.search(r'known_trip_count\W+"?n"?\W+(\d+)', loop.attributes):
        return int(known[1])
    condition = re.search(r"condition=%?([\w.-]+)", loop.attributes)[1]
    limits = list(_integers(program, condition))
    return limits[0] if len(limits) == 1 else 1


def _instruction(root, name, result, opcode, rest) -> Instruction:
    end = _closing(rest)
    argument = rest[:end]
    arrays = [
        (_bytes(dtype, shape), not layout or "S(" not in layout or "S(0)" in layout)
        for dtype, shape, layout in _ARRAY.findall(result)
    ]
    return Instruction(
        name=name,
        opcode=opcode,
        hbm=tuple(size if in_hbm else 0 for size, in_hbm in arrays),
        bytes=sum(size for size, _ in arrays),
        operands=tuple(_NAME.findall(argument)),
        argument=argument,
        attributes=rest[end:],
        root=bool(root),
    )


def _closing(text: str) -> int:
    """Where the parenthesis is closed that was opened before the text."""
    depth = 1
    for found in re.finditer(r"[()]", text):
        depth += 1 if found[0] == "(" else -1
        if not depth:
            return found.start()
    return len(text)


def _bytes(dtype: str, shape: str) -> int:
    digits = re.search(r"\d+", dtype)
    size = int(digits[0]) if digits else 8 * (dtype == "pred")
    for length in filter(None, shape.split(",")):
        size *= int(length)
    return -(-size // 8)


def called_by(instruction: Instruction) -> Iterator[str]:
    """Computations that an instruction runs."""
    for found in _CALLED.findall(instruction.attributes):
        yield from _NAME.findall(found)


def _integers(program: Program, name: str) -> Iterator[int]:
    for instruction in program.computations[name].values():
        if instruction.opcode == "constant" and instruction.argument.isdecimal():
            yield int(instruction.argument)
        for called in called_by(instruction):
            yield from _integers(program, called)


def _moved(program: Program, computation: Computation, instruction: Instruction) -> int:
    if instruction.opcode in FREE or instruction.opcode.endswith("-done"):
        return 0
    operands = dict.fromkeys(instruction.operands)
    read = sum(_read(program, computation, name, [instruction]) for name in operands)
    if instruction.opcode.endswith("-start"):  # its result holds the operands, too
        given = sum(sum(computation[name].hbm) for name in operands)
        return read + max(0, sum(instruction.hbm) - given)
    return read + min(sum(instruction.hbm), _written(program, computation, instruction))


def _read(program: Program, computation: Computation, name: str, users: list[Instruction]) -> int:
    """HBM bytes that some instructions read of an array: slices where they take no more."""
    whole, total = sum(computation[name].hbm), 0
    if not whole:
        return 0
    for user in users:
        first = user.operands.index(name) == 0
        if user.opcode in SLICES and first:
            total += user.bytes
        elif user.opcode in UPDATES and first:
            continue
        elif user.opcode == "fusion":
            (called,) = called_by(user)
            inside = program.computations[called]
            for place, operand in enumerate(user.operands):
                if operand == name:
                    inner = _parameter(inside, place)
                    total += min(whole, _read(program, inside, inner, _users(inside, inner)))
        elif user.opcode == "bitcast":
            total += _read(program, computation, user.name, _users(computation, user.name))
        else:
            return whole
    return min(whole, total)


def _written(program: Program, computation: Computation, instruction: Instruction) -> int:
    """Bytes that an instruction writes: those of an update where it changes an array in place."""
    if instruction.opcode in UPDATES:
        return computation[instruction.operands[UPDATES[instruction.opcode]]].bytes
    if instruction.opcode == "fusion":
        (called,) = called_by(instruction)
        inside = program.computations[called]
        return _written(program, inside, next(x for x in inside.values() if x.root))
    if instruction.opcode in ("bitcast", "tuple"):
        return sum(_written(program, computation, computation[x]) for x in instruction.operands)
    return instruction.bytes


def _parameter(computation: Computation, place: int) -> str:
    return next(
        instruction.name
        for instruction in computation.values()
        if instruction.opcode == "parameter" and instruction.argument == str(place)
    )


def _users(computation: Computation, name: str) -> list[Instruction]:
    return [instruction for instruction in computation.values() if name in instruction.operands]
