"""Rules for control flow: acyclic, structured, one entry and one join for every region."""

from __future__ import annotations

from collections.abc import Iterator

from offramp.compiler.ir.cfg import joins
from offramp.compiler.ir.program import Program
from offramp.compiler.ir.terminators import Exit, Return


def order_violations(program: Program) -> list[str]:
    """Unknown successors, and edges against the order of `program.blocks`."""
    position = {name: i for i, name in enumerate(program.blocks)}
    found: list[str] = []
    reached = {program.entry.name}
    for block, successor in program.edges():
        if successor.block not in position:
            found.append(f"block {block.name!r} leads to {successor.block!r}, which does not exist")
        elif position[successor.block] <= position[block.name]:
            found.append(
                f"block {block.name!r} leads back to {successor.block!r}: blocks must be in "
                "topological order, without cycles"
            )
        reached.add(successor.block)
    found += [f"block {name!r} is never reached" for name in program.blocks if name not in reached]
    return found


def region_violations(program: Program) -> Iterator[str]:
    """Regions with several entries or without a join, and answers inside a region.

    The program's order is known to be right.
    """
    before = predecessors(program)
    join_of = joins(program)
    for block in program.blocks.values():
        if len(block.terminator.successors) < 2:
            continue
        if block.name not in join_of:
            yield f"the arms of block {block.name!r} never join"
            continue
        yield from _region(program, block.name, join_of[block.name], before)
    for name, sources in before.items():
        if len(sources) > 1 and name not in join_of.values():
            yield f"block {name!r} is entered from {sources}, and is no join"


def predecessors(program: Program) -> dict[str, list[str]]:
    """Names of the blocks that lead to each block, once per edge."""
    before: dict[str, list[str]] = {name: [] for name in program.blocks}
    for block, successor in program.edges():
        before[successor.block].append(block.name)
    return before


def region(program: Program, fork: str, join: str) -> list[str]:
    """Names of the blocks between `fork` and `join`, both excluded, in topological order."""
    inside: set[str] = set()
    waiting = [s.block for s in program.blocks[fork].terminator.successors]
    while waiting:
        name = waiting.pop()
        if name != join and name not in inside:
            inside.add(name)
            waiting += [s.block for s in program.blocks[name].terminator.successors]
    return [name for name in program.blocks if name in inside]


def _region(program: Program, fork: str, join: str, before: dict[str, list[str]]) -> Iterator[str]:
    inside = region(program, fork, join)
    label = f"the region of block {fork!r} up to {join!r}"
    for name in inside:
        if isinstance(program.blocks[name].terminator, Exit | Return):
            yield f"{label} holds an answer in block {name!r}: answers must stand outside regions"
    for name in [*inside, join]:
        strangers = [source for source in before[name] if source not in (fork, *inside)]
        if strangers:
            yield f"{label} is entered from outside: {strangers} lead to {name!r}"
    if not program.blocks[join].parameters:
        yield f"{label} computes nothing: {join!r} has no parameters"
