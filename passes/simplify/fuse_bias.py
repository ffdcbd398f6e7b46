"""Fold the addition of a constant into the layer before it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from offramp.compiler.ir import Program
from offramp.passes.base import BlockPass
from offramp.passes.simplify.rewriting import (
    add_constant,
    constant,
    floats,
    replace,
    sole_reader,
    static_shape,
)


@dataclass(frozen=True)
class FuseConvBias(BlockPass):
    """Conv(x, W, b) + c = Conv(x, W, b + c) for a constant c per output channel.

    Where nobody else reads the convolution. c has the convolution's rank and extent 1 on every
    axis but the channels, or is a single number.
    """

    def rewrite(self, graph: ir.Graph, program: Program) -> bool:
        """Fuse every such pair."""
        changed = False
        for conv in tuple(graph):
            add = sole_reader(conv.outputs[0]) if conv.op_type == "Conv" else None
            if add is not None and add.op_type == "Add":
                changed = _fuse_bias(graph, conv, add) or changed
        return changed


@dataclass(frozen=True)
class MatMulToGemm(BlockPass):
    """A B + c = Gemm(A, B, c) for matrices A and constant B, c.

    Gemm is the canonical form of a dense layer with bias: one node, one kernel. The sum must have
    the product's shape; a product without bias, or of higher rank, stays a MatMul.
    """

    def rewrite(self, graph: ir.Graph, program: Program) -> bool:
        """Fuse every such pair."""
        changed = False
        for product in tuple(graph):
            add = sole_reader(product.outputs[0]) if product.op_type == "MatMul" else None
            bias = None if add is None or add.op_type != "Add" else _other(add, product.outputs[0])
            if add is None or bias is None or not _is_dense(product, add, bias):
                continue
            replace(graph, add, "Gemm", [*product.inputs, bias])
            graph.remove(product, safe=True)
            changed = True
        return changed


def _fuse_bias(graph: ir.Graph, conv: ir.Node, add: ir.Node) -> bool:
    other = _other(add, conv.outputs[0])
    shape = static_shape(conv.outputs[0])
    addend = floats(other)
    old = conv.inputs[2] if len(conv.inputs) > 2 else None
    bias = np.zeros(()) if old is None else floats(old)
    if other is None or shape is None or addend is None or bias is None:
        return False
    padded = (1,) * (len(shape) - addend.ndim) + addend.shape
    per_channel = all(extent == 1 for axis, extent in enumerate(padded) if axis != 1)
    if len(padded) != len(shape) or not per_channel or static_shape(add.outputs[0]) != shape:
        return False
    total = np.broadcast_to(bias + addend.ravel(), (shape[1],))
    new = add_constant(graph, f"{other.name}_bias", total, other)
    replace(graph, add, "Conv", [*conv.inputs[:2], new], tuple(conv.attributes.values()))
    graph.remove(conv, safe=True)
    return True


def _other(add: ir.Node, value: ir.Value) -> ir.Value | None:
    return add.inputs[1] if add.inputs[0] is value else add.inputs[0]


def _is_dense(product: ir.Node, add: ir.Node, bias: ir.Value) -> bool:
    left, right = (static_shape(value) for value in product.inputs)
    shape = static_shape(product.outputs[0])
    matrices = left is not None and right is not None and len(left) == len(right) == 2
    constants = constant(product.inputs[1]) is not None and constant(bias) is not None
    return matrices and constants and static_shape(add.outputs[0]) == shape
