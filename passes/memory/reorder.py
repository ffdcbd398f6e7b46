"""Kernel calls of a block in the order that needs the least memory, where that beats the given."""

from __future__ import annotations

from dataclasses import replace

from offramp.compiler.plan import BlockPlan, KernelCall, Plan
from offramp.passes.memory.footprint import Operators, Tensor
from offramp.passes.memory.liveness import (
    Liveness,
    arena_root,
    first_steps,
    is_whole,
    liveness,
)
from offramp.passes.memory.order import best_order, peak_of


def reorder(plan: Plan) -> Plan:
    """`plan` with the calls of each block in the order of the lowest peak of bytes in use.

    A block keeps the order it has unless another one is lower. Blocks stay where they are, so that
    what is in use between them does not change. `best_order` says when an order is proven.

    Raises:
        InternalError: the plan reads what nothing writes.
    """
    live, first = liveness(plan), first_steps(plan)
    blocks = tuple(_reorder_block(plan, block, live, first[block.name]) for block in plan.blocks)
    return plan if blocks == plan.blocks else replace(plan, blocks=blocks)


def _reorder_block(plan: Plan, block: BlockPlan, live: Liveness, first: int) -> BlockPlan:
    if not block.calls:
        return block
    operators = as_operators(plan, block, live, first)
    order = best_order(operators)
    if order.peak == peak_of(operators, range(len(block.calls))):
        return block
    return replace(block, calls=tuple(block.calls[position] for position in order.positions))


def as_operators(plan: Plan, block: BlockPlan, live: Liveness, first: int) -> Operators:
    """The calls of a block with the arena buffers that are in use in it; views count as theirs.

    first: the step of the block's first call.
    """
    reads = [_roots(plan, call.reads) for call in block.calls]
    writes = [_roots(plan, call.writes) for call in block.calls]
    entering, leaving = live.entering[block.name], live.after[first + len(block.calls) - 1]
    names = sorted({*entering, *leaving}.union(*reads, *writes))
    index = {name: position for position, name in enumerate(names)}
    tensors = tuple(
        Tensor(
            plan.buffers[name].nbytes,
            None if name in entering else _first_writer(name, writes),
            frozenset(i for i in range(len(reads)) if name in reads[i] | writes[i]),
            name in leaving,
        )
        for name in names
    )
    return Operators(
        tensors,
        tuple(_waits_for(reads, writes, position) for position in range(len(reads))),
        tuple(call.workspace for call in block.calls),
        tuple(_in_place(plan, call, index) for call in block.calls),
    )


def _first_writer(name: str, writes: list[frozenset[str]]) -> int:
    return next(position for position, written in enumerate(writes) if name in written)


def _waits_for(
    reads: list[frozenset[str]], writes: list[frozenset[str]], position: int
) -> frozenset[int]:
    """The calls before this one that write what it touches, or touch what it writes."""
    touched = reads[position] | writes[position]
    return frozenset(
        earlier
        for earlier in range(position)
        if writes[earlier] & touched or reads[earlier] & writes[position]
    )


def _in_place(plan: Plan, call: KernelCall, index: dict[str, int]) -> tuple[tuple[int, int], ...]:
    """What may be written over: at every position at which it is read, as in `sharing`."""
    roots = [arena_root(plan, name) for name in call.arguments]
    found: list[tuple[int, int]] = []
    for written, read in call.in_place:
        target, source = roots[written], roots[read]
        positions = [p for p in range(len(call.reads)) if roots[p] == source]
        paired = all((written, position) in call.in_place for position in positions)
        whole = all(is_whole(plan, call.arguments[p]) for p in (written, *positions))
        if target is not None and source is not None and paired and whole:
            found.append((index[target], index[source]))
    return tuple(found)


def _roots(plan: Plan, names: tuple[str, ...]) -> frozenset[str]:
    return frozenset(base for name in names if (base := arena_root(plan, name)) is not None)
