"""Activations of unsigned integers become signed ones, which integer kernels read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from offramp.compiler.ir import Program
from offramp.passes.base import BlockPass
from offramp.passes.simplify.rewriting import add_constant, constant

SIGNED = {ir.DataType.UINT8: ir.DataType.INT8, ir.DataType.UINT16: ir.DataType.INT16}


@dataclass(frozen=True)
class SignedIntegers(BlockPass):
    """QuantizeLinear(x, s, z) - 128 = QuantizeLinear(x, s, z - 128), unsigned and signed, and the
    same with 2^15 for those of 16 bits.

    Where DequantizeLinear alone reads the integers, its zero point moves along, and the real
    numbers stay what they are. Quantisers write unsigned activations unless told otherwise.
    """

    def rewrite(self, graph: ir.Graph, program: Program) -> bool:
        """Rewrite every pair."""
        changed = False
        for node in tuple(graph):
            signed = _signed(node)
            if signed is not None:
                for member in (node, *node.outputs[0].consumers()):
                    _shift_zero_point(graph, member, signed)
                node.outputs[0].type = ir.TensorType(signed)
                changed = True
        return changed


def _signed(node: ir.Node) -> ir.DataType | None:
    """What the unsigned integers of a quantisation become; None if others read them as they are."""
    if node.op_type != "QuantizeLinear" or node.domain != "":
        return None
    integers = node.outputs[0]
    if integers.dtype is None or integers.is_graph_output():
        return None
    readers = list(integers.consumers())
    are_read_alike = all(
        reader.op_type == "DequantizeLinear" and reader.inputs[0] is integers for reader in readers
    )
    is_pair = bool(readers) and are_read_alike and all(map(_has_known_zero, (node, *readers)))
    return SIGNED.get(integers.dtype) if is_pair else None


def _has_known_zero(node: ir.Node) -> bool:
    return len(node.inputs) < 3 or node.inputs[2] is None or constant(node.inputs[2]) is not None


def _shift_zero_point(graph: ir.Graph, node: ir.Node, signed: ir.DataType) -> None:
    given = constant(node.inputs[2]) if len(node.inputs) > 2 else None
    scale = node.inputs[1]
    if given is None:
        shape = () if scale is None or scale.shape is None else tuple(scale.shape.numpy())
        given = np.zeros(shape, np.uint8)
    lowest = np.iinfo(signed.numpy()).min
    shifted = (given.astype(np.int32) + lowest).astype(signed.numpy())
    like = ir.Value(type=ir.TensorType(signed))
    zero = add_constant(graph, f"{node.outputs[0].name}_zero", shifted, like)
    if len(node.inputs) < 3:
        node.resize_inputs(3)
    node.replace_input_with(2, zero)
    if "output_dtype" in node.attributes and node.op_type == "QuantizeLinear":
        node.attributes.add(ir.AttrInt64("output_dtype", int(signed)))
