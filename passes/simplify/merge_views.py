"""Merge consecutive Reshapes, and consecutive Transposes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from offramp.compiler.ir import Program
from offramp.passes.base import BlockPass
from offramp.passes.simplify.rewriting import (
    add_constant,
    remove_if_unread,
    replace,
    static_shape,
)

_RESHAPES = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze"})


@dataclass(frozen=True)
class MergeReshapes(BlockPass):
    """Reshape(Reshape(x, s), t) = Reshape(x, t); Flatten, Squeeze and Unsqueeze are Reshapes.

    The inner one stays where others read it.
    """

    def rewrite(self, graph: ir.Graph, program: Program) -> bool:
        """Let each outer Reshape read the inner one's input, with a constant target."""
        changed = False
        for node in tuple(graph):
            inner = _producer(node, _RESHAPES)
            target = static_shape(node.outputs[0])
            if inner is None or target is None or node.op_type not in _RESHAPES:
                continue
            dims = np.array(target, np.int64)
            index = ir.Value(name="", type=ir.TensorType(ir.DataType.INT64))
            shape = add_constant(graph, f"{node.outputs[0].name}_shape", dims, index)
            replace(graph, node, "Reshape", [inner.inputs[0], shape])
            remove_if_unread(graph, inner)
            changed = True
        return changed


@dataclass(frozen=True)
class MergeTransposes(BlockPass):
    """Transpose(Transpose(x, p), q) = Transpose(x, p[q[0]], p[q[1]], ...).

    The inner one stays where others read it.
    """

    def rewrite(self, graph: ir.Graph, program: Program) -> bool:
        """Let each outer Transpose read the inner one's input."""
        changed = False
        for node in tuple(graph):
            inner = _producer(node, frozenset({"Transpose"}))
            shape = static_shape(node.outputs[0])
            if inner is None or shape is None or node.op_type != "Transpose":
                continue
            first, second = _order(inner, len(shape)), _order(node, len(shape))
            order = ir.AttrInt64s("perm", [first[axis] for axis in second])
            replace(graph, node, "Transpose", [inner.inputs[0]], [order])
            remove_if_unread(graph, inner)
            changed = True
        return changed


def _producer(node: ir.Node, kinds: frozenset[str]) -> ir.Node | None:
    source = node.inputs[0] if node.inputs else None
    producer = None if source is None else source.producer()
    return producer if producer is not None and producer.op_type in kinds else None


def _order(node: ir.Node, rank: int) -> list[int]:
    attribute = node.attributes.get("perm")
    return list(reversed(range(rank))) if attribute is None else list(attribute.as_ints())
