"""The first layers of a network, as far as they can be computed band by band."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import onnx_ir as ir

from offramp.compiler.ir import Program
from offramp.compiler.ir.cfg import dominating_values
from offramp.passes.layout import rules
from offramp.passes.patches.rows import Rows, activations, rows_of, sliding


@dataclass(frozen=True)
class Stage:
    """What computes `end` from `sources`, row by row.

    nodes: in order, without those that compute constants. sources: values that are there before.
    """

    nodes: tuple[ir.Node, ...]
    sources: tuple[ir.Value, ...]
    end: ir.Value

    def bands(self, count: int) -> tuple[Rows, ...]:
        """The rows of `end` in `count` bands, as even as can be."""
        size = rows_of(self.end)
        cuts = [size * i // count for i in range(count + 1)]
        return tuple(Rows(a, b) for a, b in pairwise(cuts) if a < b)

    def needed(self, band: Rows) -> dict[ir.Value, Rows]:
        """The rows of all values, those of the sources too, that some rows of `end` need."""
        found = {self.end: band}
        for node in reversed(self.nodes):
            window = sliding(node)
            if window is None or node.outputs[0] not in found:
                continue
            for value in activations(node):
                rows = window.needed(found[node.outputs[0]]).within(rows_of(value))
                found[value] = rows.joined(found[value]) if value in found else rows
        return found


def stages(program: Program) -> list[Stage]:
    """All stages of the entry block, the shortest first."""
    graph = program.entry.graph
    outputs = [value for value in graph.outputs if value is not None]
    found: list[Stage] = []
    for end in dominating_values(graph.inputs, graph, outputs):
        shape = rules.static_shape(end)
        if len(shape) != 4 or shape[0] != 1 or shape[2] < 2 or not _is_kept(end):
            continue
        stage = stage_of(end)
        if stage is not None and any(sliding_over(node) for node in stage.nodes):
            found.append(stage)
    return found


def stage_of(end: ir.Value) -> Stage | None:
    """The stage that ends in a value.

    None if its producer mixes rows, a source is no image, or something else reads what is computed
    on the way, such as a mean over all rows that scales them.
    """
    last = end.producer()
    if last is None or sliding(last) is None or last.graph is None:
        return None
    inside: set[ir.Node] = set()
    sources: dict[ir.Value, None] = {}
    pending = [end]
    while pending:
        value = pending.pop()
        node = value.producer()
        if node is None or sliding(node) is None or _quantises_input(node):
            sources[value] = None
        elif node not in inside:
            inside.add(node)
            pending += activations(node)
    shapes = [rules.static_shape(value) for value in sources]
    if any(len(shape) != 4 or shape[0] != 1 for shape in shapes):
        return None
    inner = [node.outputs[0] for node in inside if node is not last]
    if any(v.is_graph_output() or not inside.issuperset(v.consumers()) for v in inner):
        return None
    ordered = tuple(node for node in last.graph if node in inside)
    return Stage(ordered, tuple(sources), end)


def _quantises_input(node: ir.Node) -> bool:
    """Whether a node makes integers of the network's input: once for all, so that it can go."""
    source = node.inputs[0]
    return node.op_type == "QuantizeLinear" and source is not None and source.is_graph_input()


def sliding_over(node: ir.Node) -> bool:
    """Whether a node reads more than one row for a row."""
    window = sliding(node)
    return window is not None and window.reach > 1


def _is_kept(value: ir.Value) -> bool:
    """Whether a value lies in memory once it is computed, not inside a kernel.

    In quantised networks these are the quantised ones; in others those that no elementwise operator
    reads alone.
    """
    if value.dtype is not None and not value.dtype.is_floating_point():
        return True
    readers = value.consumers()
    node = value.producer()
    if node is None or node.op_type == "DequantizeLinear":
        return False
    return len(readers) != 1 or readers[0].op_type not in rules.ELEMENTWISE
