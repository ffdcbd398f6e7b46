"""What of a node its cost depends on: the kind of kernel and how much work it does."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import onnx_ir as ir

from offramp.compiler.ir.macs import node_macs, shape_of
from offramp.cost_models import integers

FREE = frozenset(
    {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout", "Constant", "Shape"}
)
"""Views and constants: no kernel runs for them."""

_KINDS = {
    "MatMul": "dense",
    "Gemm": "dense",
    "AveragePool": "pool",
    "MaxPool": "pool",
    "GlobalAveragePool": "pool",
    "GlobalMaxPool": "pool",
    "ReduceMean": "pool",
    "ReduceSum": "pool",
    "ReduceMax": "pool",
    "ReduceMin": "pool",
    "ArgMax": "pool",
    "Softmax": "transcendental",
    "LogSoftmax": "transcendental",
    "Exp": "transcendental",
    "Log": "transcendental",
    "Sigmoid": "transcendental",
    "Tanh": "transcendental",
    "Erf": "transcendental",
    "Gelu": "transcendental",
    "LayerNormalization": "transcendental",
    "Transpose": "move",
    "Concat": "move",
    "Slice": "move",
    "Pad": "move",
    "Gather": "move",
    "Expand": "move",
    "Split": "move",
}


@dataclass(frozen=True)
class Features:
    """Work of one node.

    kind: key of the target's coefficients ("conv", "pointwise", "depthwise", "dense", "pool",
        "elementwise", "transcendental", "move" or "free").
    macs: multiply-accumulates. elements: the larger of elements read (first input; of a
        slice those that it leaves) and written.
    integer: the kind where a target has integer kernels, if it is another one: "int8_conv" and so
        on for what they compute, "free" for what they take along, "convert" between real numbers
        and integers.
    """

    kind: str
    macs: int
    elements: int
    integer: str | None = None


def features(node: ir.Node) -> Features:
    """The features of `node`.

    Raises:
        UnsupportedError: a shape that the features need is unknown.
    """
    if node.op_type in FREE:
        return Features("free", 0, 0)
    written = prod(shape_of(node, node.outputs[0]))
    first = node.inputs[0] if node.inputs else None
    read = 0 if first is None or node.op_type == "Slice" else prod(shape_of(node, first))
    kind = _kind(node)
    return Features(kind, node_macs(node), max(read, written), _integer_kind(node, kind))


def _integer_kind(node: ir.Node, kind: str) -> str | None:
    if integers.on_integers(node):
        return f"int8_{'elementwise' if kind == 'transcendental' else kind}"
    if integers.absorbed(node):
        return "free"
    return "convert" if node.op_type in ("QuantizeLinear", "DequantizeLinear") else None


def _kind(node: ir.Node) -> str:
    if node.op_type in ("Conv", "ConvTranspose"):
        return _convolution_kind(node)
    return _KINDS.get(node.op_type, "elementwise")


def _convolution_kind(node: ir.Node) -> str:
    _, per_group, *window = shape_of(node, node.inputs[1])
    group = node.attributes.get_int("group", 1)
    if group > 1 and per_group == 1:
        return "depthwise"
    return "pointwise" if prod(window) == 1 else "conv"
