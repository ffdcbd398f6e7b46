"""Let what is computed from constants alone stand beside what reads it."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from offramp.compiler.ir import Program
from offramp.passes.base import BlockPass


@dataclass(frozen=True)
class SinkDequantised(BlockPass):
    """A DequantizeLinear of a constant moves down to its first reader.

    Some exporters write all of them first. Blocks that are cut off later would be handed the real
    numbers of all weights behind the cut, where they should hold the integers.
    """

    def rewrite(self, graph: ir.Graph, program: Program) -> bool:
        """Move each that is not there yet."""
        order = {node: position for position, node in enumerate(graph)}
        changed = False
        for node in tuple(graph):
            source = node.inputs[0] if node.inputs else None
            if node.op_type != "DequantizeLinear" or source is None or source.const_value is None:
                continue
            readers = sorted(node.outputs[0].consumers(), key=lambda reader: order[reader])
            if node.outputs[0].is_graph_output() or not readers:
                continue
            between = [n for n, p in order.items() if order[node] < p < order[readers[0]]]
            if any(n.op_type != "DequantizeLinear" for n in between):
                graph.remove(node)
                graph.insert_before(readers[0], node)
                changed = True
        return changed
