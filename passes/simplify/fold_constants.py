"""Compute at compile time what depends on constants alone."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
import onnx_ir as ir

from offramp.compiler.ir import Program
from offramp.compiler.ir.evaluate import evaluate, foldable
from offramp.passes.base import BlockPass
from offramp.passes.simplify.rewriting import static_shape


@dataclass(frozen=True)
class FoldConstants(BlockPass):
    """f(c1, ..., cn) = c, computed once by onnxruntime; Shape and Size of static shapes too.

    Terminator operands keep their nodes. Random operators, Dropout and the QuantizeLinear pair are
    left alone: the last says how a tensor is stored.

    max_bytes: no result above this size is stored, unless it is smaller than what it is made of.
    """

    max_bytes: int = 1 << 20

    def rewrite(self, graph: ir.Graph, program: Program) -> bool:
        """Fold in topological order, so that chains fold in one go."""
        changed = False
        for node in tuple(graph):
            arrays = self._fold(node, program)
            if arrays is not None:
                _store(graph, node, arrays)
                changed = True
        return changed

    def _fold(self, node: ir.Node, program: Program) -> list[np.ndarray] | None:
        if any(value.is_graph_output() for value in node.outputs):
            return None
        if node.op_type in ("Shape", "Size"):
            return _extent(node)
        written = sum(_bytes(value) for value in node.outputs)
        read = sum(_bytes(value) for value in node.inputs)
        if not foldable(node) or written > max(self.max_bytes, read):
            return None
        return evaluate(node, program.opset_imports)


def _extent(node: ir.Node) -> list[np.ndarray] | None:
    shape = static_shape(node.inputs[0])
    if shape is None:
        return None
    if node.op_type == "Size":
        return [np.array(prod(shape), np.int64)]
    start = node.attributes.get_int("start", 0)
    end = node.attributes.get_int("end", len(shape))
    return [np.array(shape[start:end], np.int64)]


def _store(graph: ir.Graph, node: ir.Node, arrays: list[np.ndarray]) -> None:
    outputs = [value for value in node.outputs if value.name]
    constants = [
        ir.Value(
            name=value.name,
            type=value.type,
            shape=ir.Shape(array.shape),
            const_value=ir.tensor(np.array(array, order="C"), value.dtype),
        )
        for value, array in zip(outputs, arrays, strict=True)
    ]
    ir.convenience.replace_all_uses_with(outputs, constants)
    graph.remove(node, safe=True)
    for value in constants:
        graph.register_initializer(value)


def _bytes(value: ir.Value | None) -> int:
    shape = static_shape(value)
    if value is None or shape is None or value.dtype is None:
        return 0
    return prod(shape) * value.dtype.bitwidth // 8
