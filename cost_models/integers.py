"""Which nodes of a network in QDQ form are one kernel on integers, and which run by themselves.

A kernel computes an operator whose activations are dequantised and whose result is quantised again;
the dequantisations, the activations on the way and the quantisation cost nothing of their own.
"""

from __future__ import annotations

import onnx_ir as ir

from offramp.compiler.ir.dequantise import dequantised
from offramp.compiler.ir.functions import ELEMENTWISE, Function, function_of

OPERATORS = frozenset(
    {
        "Conv", "Gemm", "MatMul", "AveragePool", "GlobalAveragePool", "ReduceMean", "MaxPool",
        "GlobalMaxPool", "Add",
    }
)  # fmt: skip
CLAMPS = frozenset({"Relu", "Clip"})
MOVES = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Identity", "Slice"})


def on_integers(node: ir.Node) -> bool:
    """Whether `node` is an operator, or ends a function, that a kernel computes on integers."""
    function = _function(node)
    if function is not None:
        return node is function.nodes[-1]
    if node.op_type not in OPERATORS or _adds_bias(node):
        return False
    activations = [v for v in node.inputs if v is not None and not _is_constant(v)]
    return bool(activations) and all(map(_is_dequantised, activations)) and _is_quantised(node)


def absorbed(node: ir.Node) -> bool:
    """Whether `node` is part of the kernel of another node, which is on integers."""
    if node.op_type == "DequantizeLinear":
        if dequantised(node) is not None:
            return True
        readers = [reader for value in node.outputs for reader in _past_moves(value)]
        return bool(readers) and all(on_integers(r) or _function(r) is not None for r in readers)
    if _function(node) is not None:
        return not on_integers(node)
    if node.op_type == "QuantizeLinear" or node.op_type in CLAMPS or _adds_bias(node):
        operator = _operator(node)
        return operator is not None and on_integers(operator)
    return False


def _operator(node: ir.Node) -> ir.Node | None:
    """What arrives at `node` through clamps and a bias: an operator's result, or a function's."""
    value = _activation(node)
    before = None if value is None else value.producer()
    if before is not None and _function(before) is not None:
        return before
    while before is not None and (before.op_type in CLAMPS or _adds_bias(before)):
        value = _activation(before)
        before = None if value is None else value.producer()
    return before


def _function(node: ir.Node) -> Function | None:
    """The function between a dequantisation and a quantisation that `node` is part of, if any."""
    last = node
    while last.op_type in ELEMENTWISE:
        readers = last.outputs[0].consumers()
        if len(readers) == 1 and readers[0].op_type == "QuantizeLinear":
            found = function_of(last.outputs[0], _is_read_from_integers)
            is_whole = found is not None and _is_read_from_integers(found.source)
            return found if found is not None and is_whole and node in found.nodes else None
        if not readers:
            return None
        last = readers[0]
    return None


def _is_read_from_integers(value: ir.Value) -> bool:
    node = value.producer()
    return node is not None and node.op_type == "DequantizeLinear" and _is_dequantised(value)


def _activation(node: ir.Node) -> ir.Value | None:
    return next((v for v in node.inputs if v is not None and not _is_constant(v)), None)


def _adds_bias(node: ir.Node) -> bool:
    return node.op_type == "Add" and any(v is not None and _is_constant(v) for v in node.inputs)


def _is_constant(value: ir.Value) -> bool:
    node = value.producer()
    return value.const_value is not None or (node is not None and dequantised(node) is not None)


def _is_dequantised(value: ir.Value) -> bool:
    node = value.producer()
    while node is not None and node.op_type in MOVES and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    if node is None or node.op_type != "DequantizeLinear" or node.inputs[0] is None:
        return False
    return node.inputs[0].dtype == ir.DataType.INT8


def _is_quantised(node: ir.Node) -> bool:
    """Whether the result of `node` is read by one quantisation, after clamps and a bias."""
    while True:
        readers = _past_moves(node.outputs[0])
        if len(readers) != 1 or node.outputs[0].is_graph_output():
            return False
        (node,) = readers
        if node.op_type == "QuantizeLinear":
            return node.outputs[0].dtype == ir.DataType.INT8
        if node.op_type not in CLAMPS and not _adds_bias(node):
            return False


def _past_moves(value: ir.Value) -> list[ir.Node]:
    """The readers of `value`, and of what only moves it."""
    found: list[ir.Node] = []
    for reader in value.consumers():
        found += _past_moves(reader.outputs[0]) if reader.op_type in MOVES else [reader]
    return found
