"""Between real numbers and 8-bit integers, element by element."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir

from offramp.backends.tvm.anchors import constant
from offramp.backends.tvm.tir import FunctionBuilder, tirx
from offramp.passes.layout import rules

RANGES = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767), "uint16": (0, 65535)}


ROUNDING = 1.5 * 2**23
"""Added to a smaller float32 it leaves no bits for a fraction: the sum is rounded to even, and its
bits count up from those of this number. No processor needs a function for that. Bits of larger
numbers order as the numbers do, and those of negative ones are negative."""

ROUNDING_BITS = int(np.float32(ROUNDING).view(np.int32))


@dataclass(frozen=True)
class Linear:
    """`QuantizeLinear` or `DequantizeLinear` of `count` elements by one scale.

    integer: NumPy name of the quantised type.
    """

    count: int
    scale: float
    zero: int
    integer: str
    quantises: bool
    macs: int = 0
    workspace: int = 0


def match(node: ir.Node) -> Linear | None:
    """The specification of a (de)quantisation by one scale, or None."""
    if node.op_type not in ("QuantizeLinear", "DequantizeLinear") or node.domain != "":
        return None
    scale = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    zero = constant(node.inputs[2]) if len(node.inputs) > 2 else None
    quantises = node.op_type == "QuantizeLinear"
    end = node.outputs[0] if quantises else node.inputs[0]
    real = node.inputs[0] if quantises else node.outputs[0]
    if scale is None or scale.size != 1 or end is None or end.dtype is None or real is None:
        return None
    integer = end.dtype.numpy().name
    if integer not in RANGES or real.dtype != ir.DataType.FLOAT:
        return None
    count = prod(rules.static_shape(node.outputs[0]))
    offset = 0 if zero is None else int(zero.reshape(-1)[0])
    return Linear(count, float(scale.reshape(())), offset, integer, quantises)


def build(spec: Linear) -> Any:
    """The kernel: input, output; quotients are rounded to even, as ONNX says."""
    code = FunctionBuilder()
    types = ("float32", spec.integer) if spec.quantises else (spec.integer, "float32")
    source = code.pointer("input", spec.count, types[0])
    output = code.pointer("output", spec.count, types[1])
    scale = tirx.FloatImm("float32", spec.scale)
    with code.loop("element", spec.count) as index:
        value = source.load(index)
        if spec.quantises:
            low, high = RANGES[spec.integer]
            bits = tirx.reinterpret("int32", value / scale + tirx.FloatImm("float32", ROUNDING))
            steps = tirx.max(bits, 0) - (ROUNDING_BITS - spec.zero)
            result = tirx.Cast(spec.integer, tirx.min(tirx.max(steps, low), high))
        else:
            zero = tirx.FloatImm("float32", float(spec.zero))
            result = (tirx.Cast("float32", value) - zero) * scale
        code.store(output, index, result)
    return code.build()
