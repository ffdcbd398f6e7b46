"""Let operators that only move data move integers instead of the real numbers they stand for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from offramp.compiler.ir import Program
from offramp.passes.base import BlockPass
from offramp.passes.layout import rules
from offramp.passes.simplify.rewriting import (
    bypass,
    constant,
    fresh_value,
    remove_if_unread,
    replace,
)

MOVING = rules.VIEWS | {"Transpose", "Slice"}


@dataclass(frozen=True)
class MoveIntegers(BlockPass):
    """Move(DequantizeLinear(q)) = DequantizeLinear(Move(q)) where one scale serves all of q, and
    QuantizeLinear(DequantizeLinear(q)) = q where both have one scale, zero point and type.

    The transposes that `ChannelsLast` leaves directly around a spatial operator stay with it.
    """

    def rewrite(self, graph: ir.Graph, program: Program) -> bool:
        """One walk in order: what was moved down meets the next node that moves data."""
        changed = False
        for node in tuple(graph):
            source = node.inputs[0] if node.inputs else None
            before = None if source is None else source.producer()
            if before is None or before.op_type != "DequantizeLinear" or node.domain != "":
                continue
            if _moves(node) and _has_one_scale(before):
                _swap(graph, before, node)
                remove_if_unread(graph, before)
                changed = True
            elif node.op_type == "QuantizeLinear" and _undoes(before, node):
                integers = before.inputs[0]
                if integers is not None:
                    bypass(graph, node, integers)
                    remove_if_unread(graph, before)
                    changed = True
        return changed


def _moves(node: ir.Node) -> bool:
    readers = node.outputs[0].consumers()
    return node.op_type in MOVING and not any(rules.is_spatial(reader) for reader in readers)


def _has_one_scale(node: ir.Node) -> bool:
    scale = constant(node.inputs[1])
    return scale is not None and scale.size == 1


def _swap(graph: ir.Graph, before: ir.Node, node: ir.Node) -> None:
    integers, target = before.inputs[0], node.outputs[0]
    kind = None if integers is None else integers.type
    moved = fresh_value(graph, f"{target.name}_integers", kind, target.shape)
    attributes = list(node.attributes.values())
    inputs = [integers, *node.inputs[1:]]
    graph.insert_before(
        node, ir.Node("", node.op_type, inputs, attributes, outputs=[moved], name=node.name)
    )
    replace(graph, node, "DequantizeLinear", [moved, *before.inputs[1:]])


def _undoes(before: ir.Node, node: ir.Node) -> bool:
    """Whether a quantisation gives back the integers that were dequantised."""
    integers = before.inputs[0]
    if integers is None or integers.dtype != node.outputs[0].dtype:
        return False
    if not _has_one_scale(before) or len(before.inputs) != len(node.inputs):
        return False
    pairs = [
        (constant(a), constant(b)) for a, b in zip(before.inputs[1:], node.inputs[1:], strict=True)
    ]
    return all(
        a is not None and b is not None and a.dtype == b.dtype and np.array_equal(a, b)
        for a, b in pairs
    )
