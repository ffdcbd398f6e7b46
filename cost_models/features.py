"""What of a node its cost depends on: the kind of kernel and how much work it does."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import onnx_ir as ir

from offramp.compiler.errors import UnsupportedError

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
    macs: multiply-accumulates. elements: the larger of elements read (first input) and written.
    """

    kind: str
    macs: int
    elements: int


def features(node: ir.Node) -> Features:
    """The features of `node`.

    Raises:
        UnsupportedError: a shape that the features need is unknown.
    """
    if node.op_type in FREE:
        return Features("free", 0, 0)
    written = prod(_shape(node, node.outputs[0]))
    first = node.inputs[0] if node.inputs else None
    read = prod(_shape(node, first)) if first is not None else 0
    return Features(_kind(node), _macs(node, written), max(read, written))


def _kind(node: ir.Node) -> str:
    if node.op_type in ("Conv", "ConvTranspose"):
        return _convolution_kind(node)
    return _KINDS.get(node.op_type, "elementwise")


def _convolution_kind(node: ir.Node) -> str:
    _, per_group, *window = _shape(node, node.inputs[1])
    group = node.attributes.get_int("group", 1)
    if group > 1 and per_group == 1:
        return "depthwise"
    return "pointwise" if prod(window) == 1 else "conv"


def _macs(node: ir.Node, written: int) -> int:
    match node.op_type:
        case "Conv":
            return written * prod(_shape(node, node.inputs[1])[1:])
        case "ConvTranspose":
            read = prod(_shape(node, node.inputs[0]))
            return read * prod(_shape(node, node.inputs[1])[1:])
        case "MatMul":
            return written * _shape(node, node.inputs[0])[-1]
        case "Gemm":
            transposed = node.attributes.get_int("transA", 0)
            return written * _shape(node, node.inputs[0])[0 if transposed else -1]
        case _:
            return 0


def _shape(node: ir.Node, value: ir.Value | None) -> tuple[int, ...]:
    if value is None or value.shape is None or not value.shape.is_static():
        found = "no shape" if value is None or value.shape is None else f"shape {value.shape}"
        name = "(missing)" if value is None else value.name
        raise UnsupportedError(
            f"cannot cost {node.op_type} node {node.name!r}: value {name!r} has {found}, "
            "a static shape is needed; run shape inference or fix the model's dimensions"
        )
    return tuple(int(d) for d in value.shape.numpy())
