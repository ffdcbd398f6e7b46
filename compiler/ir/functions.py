"""Elementwise operators that together are one function of one tensor, whatever its shape."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import onnx_ir as ir

from offramp.compiler.ir.dequantise import dequantised

ELEMENTWISE = frozenset(
    {
        "Abs", "Add", "Ceil", "Celu", "Clip", "Div", "Elu", "Erf", "Exp", "Floor", "Gelu",
        "HardSigmoid", "HardSwish", "LeakyRelu", "Log", "Max", "Min", "Mish", "Mul", "Neg", "PRelu",
        "Pow", "Reciprocal", "Relu", "Round", "Selu", "Sigmoid", "Sign", "Softplus", "Softsign",
        "Sqrt", "Sub", "Swish", "Tanh", "ThresholdedRelu",
    }
)  # fmt: skip
"""Operators that compute each real number from those in its place, and from constants."""


@dataclass(frozen=True)
class Function:
    """`result` is computed from `source`, element by element, by `nodes` in order."""

    source: ir.Value
    result: ir.Value
    nodes: tuple[ir.Node, ...]


def function_of(
    result: ir.Value, is_source: Callable[[ir.Value], bool] = lambda value: False
) -> Function | None:
    """The longest function that ends in `result`; None if there is none of one tensor.

    Nobody else reads what is computed on the way, and constants are single numbers.

    is_source: where the way back ends, at the latest.
    """
    nodes: set[ir.Node] = set()
    sources: dict[ir.Value, None] = {}
    pending = [result]
    while pending:
        value = pending.pop()
        node = value.producer()
        if node is None or is_source(value) or not _is_step(node):
            sources[value] = None
        elif node not in nodes:
            nodes.add(node)
            pending += [v for v in node.inputs if v is not None and not _is_constant(v)]
    if not nodes or len(sources) != 1:
        return None
    (source,) = sources
    inner = [node.outputs[0] for node in nodes if node.outputs[0] is not result]
    shapes = {_shape(value) for value in (source, result, *inner)}
    if len(shapes) != 1 or None in shapes:
        return None
    if any(v.is_graph_output() or set(v.consumers()) - nodes for v in inner):
        return None
    ordered = [node for node in _graph_of(result) if node in nodes]
    return Function(source, result, tuple(ordered))


def _is_step(node: ir.Node) -> bool:
    """Whether each of the node's numbers depends on one place of its inputs only."""
    if node.op_type not in ELEMENTWISE or node.domain != "" or len(node.outputs) != 1:
        return False
    given = [v for v in node.inputs if v is not None]
    constants = [v for v in given if _is_constant(v)]
    return len(constants) < len(given) and all(_is_single(v) for v in constants)


def _is_constant(value: ir.Value) -> bool:
    node = value.producer()
    return value.const_value is not None or (node is not None and dequantised(node) is not None)


def _is_single(value: ir.Value) -> bool:
    shape = _shape(value)
    return shape is not None and prod(shape) == 1


def _shape(value: ir.Value) -> tuple[int, ...] | None:
    if value.shape is None or not value.shape.is_static():
        return None
    return tuple(int(extent) for extent in value.shape.numpy())


def _graph_of(value: ir.Value) -> ir.Graph | ir.Function:
    node = value.producer()
    if node is None or node.graph is None:
        raise ValueError(f"{value.name!r} is computed by no node of a graph")
    return node.graph
