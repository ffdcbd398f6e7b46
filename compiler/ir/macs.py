"""Multiply-accumulates of one ONNX node."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import onnx_ir as ir

from offramp.compiler.errors import UnsupportedError
from offramp.compiler.ir.inference import describe


def node_macs(node: ir.Node) -> int:
    """Multiply-accumulates of `node` for its static shapes.

    Convolutions, matrix products, recurrent layers and attention count; pooling, elementwise
    operators and data movement are 0.

    Raises:
        UnsupportedError: a shape that the count needs is unknown.
    """
    count = _COUNTS.get(node.op_type)
    return 0 if count is None else count(node)


def shape_of(node: ir.Node, value: ir.Value | None) -> tuple[int, ...]:
    """The static shape of an input or output of `node`.

    Raises:
        UnsupportedError: it is missing or not static.
    """
    if value is None or value.shape is None or not value.shape.is_static():
        name = "a missing input" if value is None else f"{value.name!r} of unknown shape"
        raise UnsupportedError(f"cannot count the work of {describe(node)}: it involves {name}")
    return tuple(int(dim) for dim in value.shape.numpy())


def _input(node: ir.Node, position: int) -> tuple[int, ...]:
    value = node.inputs[position] if position < len(node.inputs) else None
    return shape_of(node, value)


def _output(node: ir.Node) -> int:
    return prod(shape_of(node, node.outputs[0]))


def _convolution(weights: int) -> Callable[[ir.Node], int]:
    """Every output element reads one window of one group: the weight shape without its first."""
    return lambda node: _output(node) * prod(_input(node, weights)[1:])


def _transposed_convolution(node: ir.Node) -> int:
    """Every input element is spread over one window of one group."""
    return prod(_input(node, 0)) * prod(_input(node, 1)[1:])


def _matrix_product(node: ir.Node) -> int:
    return _output(node) * _input(node, 0)[-1]


def _gemm(node: ir.Node) -> int:
    transposed = node.attributes.get_int("transA", 0)
    return _output(node) * _input(node, 0)[0 if transposed else 1]


def _recurrent(node: ir.Node) -> int:
    """Each step multiplies the input by W and the state by R, gates and directions included."""
    first, second, _ = _input(node, 0)
    return first * second * (prod(_input(node, 1)) + prod(_input(node, 2)))


def _attention(node: ir.Node) -> int:
    """Queries times keys, then weights times values; queries and outputs meet every key."""
    keys = _input(node, 1)[-2]
    past = node.inputs[4] if len(node.inputs) > 4 else None
    keys += shape_of(node, past)[-2] if past is not None else 0
    return (prod(_input(node, 0)) + _output(node)) * keys


def _einsum(node: ir.Node) -> int:
    """The product of the extents of all labels, for two operands or more."""
    if len(node.inputs) < 2:
        return 0
    equation = node.attributes["equation"].as_string().replace(" ", "")
    extents: dict[str, int] = {}
    for position, labels in enumerate(equation.split("->")[0].split(",")):
        shape = _input(node, position)
        named = labels.replace("...", "")
        spread = len(shape) - len(named)
        head = len(labels.split("...")[0]) if "..." in labels else len(named)
        names = [*named[:head], *(f"...{spread - i}" for i in range(spread)), *named[head:]]
        for name, extent in zip(names, shape, strict=True):
            extents[name] = max(extent, extents.get(name, 1))
    return prod(extents.values())


_COUNTS: dict[str, Callable[[ir.Node], int]] = {
    "Conv": _convolution(1),
    "ConvInteger": _convolution(1),
    "DeformConv": _convolution(1),
    "QLinearConv": _convolution(3),
    "ConvTranspose": _transposed_convolution,
    "MatMul": _matrix_product,
    "MatMulInteger": _matrix_product,
    "QLinearMatMul": _matrix_product,
    "Gemm": _gemm,
    "RNN": _recurrent,
    "GRU": _recurrent,
    "LSTM": _recurrent,
    "Attention": _attention,
    "Einsum": _einsum,
}
