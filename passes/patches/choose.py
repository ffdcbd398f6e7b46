"""How far a network is computed band by band, and in how many bands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod

import onnx_ir as ir

from offramp.compiler.ir import Program
from offramp.compiler.ir.costs import block_cost
from offramp.passes.layout import rules
from offramp.passes.patches.insert import InsertPatches
from offramp.passes.patches.rows import activations, is_constant, rows_of
from offramp.passes.patches.stage import stages

BANDS = (2, 3, 4, 6, 8, 12, 16)
"""Numbers of bands that are tried."""
MOVES = rules.VIEWS | {"Slice", "Transpose"}
"""Operators whose results take no memory of their own; most transposes vanish with the layout."""
MOST_PLANNED = 8
"""Choices whose arena is planned: those that seem to need the least."""


@dataclass(frozen=True)
class Choice:
    """A network computed in bands up to a tensor, and what that costs.

    end, bands: as in `InsertPatches`. macs: multiply-accumulates of the entry block, relative to
    those before, less one. arena, arena_before: bytes.
    """

    program: Program
    end: str
    bands: int
    macs: float
    arena: int
    arena_before: int


def choose_patches(
    program: Program,
    most_macs: float,
    arena: Callable[[Program], int],
    progress: Callable[[float], None] = lambda fraction: None,
) -> Choice | None:
    """The bands with which the arena is smallest; None if none makes it smaller.

    Many choices are compared by the bytes of their tensors, in order of computation; the best of
    them are planned. Deterministic.

    Args:
        program: verified; bands go into its entry block.
        most_macs: by which part the multiply-accumulates of the entry block may grow.
        arena: plans a program's memory: bytes of its arena.
        progress: is told which part of the work is done.
    """
    before = arena(program)
    possible = sorted(_possible(program, most_macs), key=lambda c: (c.arena, c.macs, c.bands))
    planned: list[Choice] = []
    for number, choice in enumerate(possible[:MOST_PLANNED]):
        progress(number / min(len(possible), MOST_PLANNED))
        bytes_ = arena(choice.program)
        planned.append(
            Choice(choice.program, choice.end, choice.bands, choice.macs, bytes_, before)
        )
    best = min(planned, key=lambda c: (c.arena, c.macs, c.bands), default=None)
    return best if best is not None and best.arena < before else None


def _possible(program: Program, most_macs: float) -> Iterator[Choice]:
    """All choices within the budget; their arenas are estimates."""
    before = block_cost(program.entry).macs
    whole = _bytes_in_use(program.entry.graph)
    for stage in stages(program):
        for bands in BANDS:
            if bands > rows_of(stage.end):
                break
            end = str(stage.end.name)
            cut = InsertPatches(end, bands)(program)
            macs = block_cost(cut.entry).macs / before - 1 if before else 0.0
            if macs > most_macs:
                break
            needed = _bytes_in_use(cut.entry.graph)
            if needed < whole:
                yield Choice(cut, end, bands, macs, needed, whole)


def _bytes_in_use(graph: ir.Graph) -> int:
    """The most bytes in use at a time, in the given order.

    Tensors inside kernels take none: in quantised networks the real ones, in others those that one
    elementwise operator reads. What is put together lies where its parts do.
    """
    nodes = list(graph)
    is_quantised = any(node.op_type == "QuantizeLinear" for node in nodes)
    first: dict[ir.Value, int] = dict.fromkeys(graph.inputs, 0)
    last: dict[ir.Value, int] = {}
    place = {value: value for value in graph.inputs}
    for step, node in enumerate(nodes):
        read = [place[v] for v in activations(node) if v in place]
        for value in node.outputs:
            is_view = node.op_type in MOVES
            place[value] = read[0] if is_view and read else value
            first.setdefault(place[value], step)
        last |= dict.fromkeys(read, step)
    for node in nodes:
        if node.op_type == "Concat":
            whole = node.outputs[0]
            first[whole] = min(first[place[v]] for v in node.inputs if v is not None)
    last |= {place[value]: len(nodes) for value in graph.outputs if value in place}
    joined = {v for node in nodes if node.op_type == "Concat" for v in node.inputs}
    change = [0] * (len(nodes) + 2)
    for value, start in first.items():
        if value in joined or is_constant(value) or _is_inside(value, is_quantised):
            continue
        size = prod(rules.static_shape(value)) * (value.dtype or ir.DataType.FLOAT).numpy().itemsize
        change[start] += size
        change[last.get(value, start) + 1] -= size
    return _highest(change)


def _is_inside(value: ir.Value, is_quantised: bool) -> bool:
    node = value.producer()
    if node is None or value.dtype is None or not value.dtype.is_floating_point():
        return False
    if is_quantised:
        return True
    readers = value.consumers()
    return len(readers) == 1 and readers[0].op_type in rules.ELEMENTWISE


def _highest(change: list[int]) -> int:
    highest = level = 0
    for difference in change:
        level += difference
        highest = max(highest, level)
    return highest
