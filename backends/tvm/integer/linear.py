"""Between real numbers and 8-bit integers, element by element."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import onnx_ir as ir

from offramp.backends.tvm.anchors import constant
from offramp.backends.tvm.tir import FunctionBuilder, tirx
from offramp.passes.layout import rules

RANGES = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767), "uint16": (0, 65535)}


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
    scale, zero = tirx.FloatImm("float32", spec.scale), tirx.FloatImm("float32", float(spec.zero))
    with code.loop("element", spec.count) as index:
        value = source.load(index)
        if spec.quantises:
            low, high = (tirx.FloatImm("float32", float(end)) for end in RANGES[spec.integer])
            rounded = tirx.call_pure_extern("float32", "rintf", value / scale) + zero
            result = tirx.Cast(
                spec.integer, tirx.Cast("int32", tirx.min(tirx.max(rounded, low), high))
            )
        else:
            result = (tirx.Cast("float32", value) - zero) * scale
        code.store(output, index, result)
    return code.build()
