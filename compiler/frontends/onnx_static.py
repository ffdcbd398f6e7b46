"""Give every value of a model a type and a static shape, in one walk in topological order.

The shape arithmetic that exporters leave behind (Shape, Gather, Concat, ...) is constant once the
inputs are static, and is folded on the way; so are `If`s and `Loop`s that it decides.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from offramp.compiler.errors import UnsupportedError, UserError
from offramp.compiler.ir.evaluate import evaluate, foldable
from offramp.compiler.ir.inference import DATA_ELEMENTS, describe, infer_node, require_static


def infer_static(model: ir.Model, *, fold: bool = True) -> None:
    """Set types and shapes of all values in place.

    Args:
        model: checked, without functions; inputs have static shapes; straight-line or with `If`.
        fold: whether small constant results replace the nodes that compute them.

    Raises:
        UserError: a node does not accept its inputs.
        UnsupportedError: a shape depends on data, or control flow that cannot be unrolled.
    """
    _Walk(dict(model.graph.opset_imports), fold).graph(model.graph)


class _Walk:
    def __init__(self, opset_imports: dict[str, int], fold: bool) -> None:
        self._opsets = opset_imports
        self._fold = fold

    def graph(self, graph: ir.Graph) -> None:
        for value in graph.initializers.values():
            _describe_constant(value)
        for node in tuple(graph):
            self._node(graph, node)

    def _node(self, graph: ir.Graph, node: ir.Node) -> None:
        match node.op_type:
            case "If":
                self._branches(graph, node)
            case "Loop" | "Scan":
                raise UnsupportedError(f"{describe(node)} is a loop, which cannot be compiled yet")
            case "Shape" | "Size":
                infer_node(node, self._opsets)
                if self._fold:
                    _replace(graph, node, [_extent(node)])
            case _:
                infer_node(node, self._opsets)
                if self._fold and foldable(node) and _is_small(node):
                    self._constant(graph, node)

    def _constant(self, graph: ir.Graph, node: ir.Node) -> None:
        arrays = evaluate(node, self._opsets)
        if arrays is not None:
            _replace(graph, node, arrays)

    def _branches(self, graph: ir.Graph, node: ir.Node) -> None:
        arms = [node.attributes[name].as_graph() for name in ("then_branch", "else_branch")]
        condition = node.inputs[0]
        if condition is not None and condition.const_value is not None:
            decided = bool(condition.const_value.numpy().reshape(-1)[0])
            self._inline(graph, node, arms[0] if decided else arms[1])
            return
        for arm in arms:
            self.graph(arm)
        for output, *results in zip(node.outputs, *(arm.outputs for arm in arms), strict=True):
            _join(node, output, results)

    def _inline(self, graph: ir.Graph, node: ir.Node, arm: ir.Graph) -> None:
        for value in tuple(arm.initializers.values()):
            arm.initializers.pop(str(value.name))
            graph.register_initializer(value)
            _describe_constant(value)
        results = tuple(arm.outputs)
        arm.outputs.clear()
        nodes = tuple(arm)
        arm.remove(nodes)
        graph.insert_before(node, nodes)
        _redirect(graph, node, results)
        for inner in nodes:
            self._node(graph, inner)


def _describe_constant(value: ir.Value) -> None:
    tensor = value.const_value
    if tensor is None:
        raise UserError(f"initializer {value.name!r} has no data")
    value.type = ir.TensorType(tensor.dtype)
    value.shape = ir.Shape(tensor.shape.numpy())


def _is_small(node: ir.Node) -> bool:
    sizes = [value.shape for value in node.outputs if value.name]
    return all(
        shape is not None and shape.is_static() and np.prod(shape.numpy()) <= DATA_ELEMENTS
        for shape in sizes
    )


def _extent(node: ir.Node) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """The value of a `Shape` or `Size` node whose input has a static shape."""
    source = node.inputs[0]
    shape = () if source is None or source.shape is None else source.shape.numpy()
    if node.op_type == "Size":
        return np.array(np.prod(shape, dtype=np.int64), np.int64)
    start = node.attributes.get_int("start", 0)
    end = node.attributes.get_int("end", len(shape))
    return np.array(shape[start:end], np.int64)


def _replace(graph: ir.Graph, node: ir.Node, arrays: list[np.ndarray]) -> None:
    """Put initializers in the place of `node`'s outputs; graph outputs keep their node."""
    if any(value.is_graph_output() for value in node.outputs):
        return
    constants: list[ir.Value] = []
    for output, array in zip((v for v in node.outputs if v.name), arrays, strict=True):
        tensor = ir.tensor(np.ascontiguousarray(array).reshape(array.shape), output.dtype)
        constant = ir.Value(name=output.name, const_value=tensor)
        _describe_constant(constant)
        constants.append(constant)
    used = [value for value in node.outputs if value.name]
    ir.convenience.replace_all_uses_with(used, constants)
    graph.remove(node, safe=True)
    for constant in constants:
        graph.register_initializer(constant)


def _redirect(graph: ir.Graph, node: ir.Node, results: tuple[ir.Value, ...]) -> None:
    """Make `results` stand for the outputs of `node`, and remove it."""
    for output, result in zip(node.outputs, results, strict=True):
        if not output.is_graph_output():
            ir.convenience.replace_all_uses_with(output, result)
            continue
        name = output.name
        output.name = f"{name}_decided"
        same = ir.Value(name=name, type=output.type, shape=output.shape)
        graph.insert_before(node, ir.Node("", "Identity", [result], outputs=[same]))
        ir.convenience.replace_all_uses_with(output, same, replace_graph_outputs=True)
    graph.remove(node, safe=True)


def _join(node: ir.Node, output: ir.Value, results: list[ir.Value]) -> None:
    then, else_ = results
    if then.type != else_.type or then.shape != else_.shape:
        raise UnsupportedError(
            f"{describe(node)} gives {output.name!r} as {then.type} {then.shape} in one branch and "
            f"{else_.type} {else_.shape} in the other: both must have one type and shape"
        )
    output.type, output.shape = then.type, then.shape
    require_static(node, output)
