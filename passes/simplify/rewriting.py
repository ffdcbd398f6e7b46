"""What every rewrite needs: constants in and out of graphs, and nodes in the place of nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from offramp.compiler.ir.names import fresh


def constant(value: ir.Value | None) -> npt.NDArray[Any] | None:
    """The array of an initializer; None for anything computed or missing."""
    if value is None or value.const_value is None or value.producer() is not None:
        return None
    return value.const_value.numpy()


def floats(value: ir.Value | None) -> npt.NDArray[np.float64] | None:
    """The array of a floating-point initializer in double precision; None for anything else."""
    array = constant(value)
    if array is None or value is None or value.dtype is None or not value.dtype.is_floating_point():
        return None
    return array.astype(np.float64)


def add_constant(graph: ir.Graph, name: str, array: npt.NDArray[Any], like: ir.Value) -> ir.Value:
    """A new initializer with the element type of `like`; `name` is made unique."""
    dtype = ir.DataType.FLOAT if like.dtype is None else like.dtype
    tensor = ir.tensor(array.astype(dtype.numpy()), dtype)
    value = ir.Value(
        name=fresh(name, _names(graph)),
        type=ir.TensorType(dtype),
        shape=ir.Shape(array.shape),
        const_value=tensor,
    )
    graph.register_initializer(value)
    return value


def fresh_value(
    graph: ir.Graph, name: str, type_: ir.TypeProtocol | None, shape: ir.Shape | None
) -> ir.Value:
    """A value that nothing computes yet; `name` is made unique."""
    return ir.Value(name=fresh(name, _names(graph)), type=type_, shape=shape)


def sole_reader(value: ir.Value) -> ir.Node | None:
    """The one node that reads `value`, once; None if it is an operand or read elsewhere too."""
    uses = tuple(value.uses())
    return uses[0].node if len(uses) == 1 and not value.is_graph_output() else None


def replace(
    graph: ir.Graph,
    old: ir.Node,
    op_type: str,
    inputs: Sequence[ir.Value | None],
    attributes: Sequence[ir.Attr] = (),
) -> None:
    """Put a new node with one output in the place of `old`, whose first output it takes over."""
    target = old.outputs[0]
    output = ir.Value(name=target.name, type=target.type, shape=target.shape)
    new = ir.Node(old.domain, op_type, inputs, attributes, outputs=[output], name=old.name)
    graph.insert_before(old, new)
    bypass(graph, old, output)


def bypass(graph: ir.Graph, node: ir.Node, value: ir.Value) -> None:
    """Let `value` stand for the first output of `node`, operands included; remove `node`."""
    ir.convenience.replace_all_uses_with(node.outputs[0], value, replace_graph_outputs=True)
    graph.remove(node, safe=True)


def remove_if_unread(graph: ir.Graph, node: ir.Node) -> None:
    """Remove a node whose first and only output nobody reads any more."""
    output = node.outputs[0]
    if not output.uses() and not output.is_graph_output():
        graph.remove(node, safe=True)


def static_shape(value: ir.Value | None) -> tuple[int, ...] | None:
    """The shape of `value`, where it is known."""
    if value is None or value.shape is None or not value.shape.is_static():
        return None
    return tuple(int(dim) for dim in value.shape.numpy())


def _names(graph: ir.Graph) -> set[str | None]:
    made = {value.name for node in graph for value in node.outputs}
    return made.union(graph.initializers, (value.name for value in graph.inputs))
