"""Give every value of a model a type and a static shape, in one walk in topological order.

The shape arithmetic that exporters leave behind (Shape, Gather, Concat, ...) is constant once the
inputs are static, and is folded on the way; so are the `If`s and `Loop`s that it decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from offramp.compiler.errors import UnsupportedError, UserError
from offramp.compiler.frontends.onnx_splice import fresh_copy, redirect, splice
from offramp.compiler.frontends.onnx_unroll import unroll_loop, unroll_scan
from offramp.compiler.ir.evaluate import evaluate, foldable
from offramp.compiler.ir.inference import DATA_ELEMENTS, describe, infer_node, require_static

MAX_UNROLLED = 100_000
"""Nodes that unrolled loops may add up to."""


def infer_static(model: ir.Model, *, fold: bool = True, former_batch: int | None = None) -> None:
    """Set types and shapes of all values in place.

    Args:
        model: checked, without functions; inputs have static shapes; straight-line or with
            control flow.
        fold: whether small constant results replace the nodes that compute them.
        former_batch: a batch size above 1 that the inputs had; constant Reshape targets that
            begin with it begin with 1 afterwards.

    Raises:
        UserError: a node does not accept its inputs.
        UnsupportedError: a shape depends on data, or control flow that cannot be unrolled.
    """
    _Walk(dict(model.graph.opset_imports), fold, former_batch).graph(model.graph)


class _Walk:
    def __init__(self, opsets: dict[str, int], fold: bool, former_batch: int | None) -> None:
        self._opsets = opsets
        self._fold = fold
        self._former_batch = former_batch
        self._replaced: dict[ir.Value, ir.Value] = {}
        self._copies = 0
        self._unrolled = 0

    def graph(self, graph: ir.Graph) -> None:
        for value in graph.initializers.values():
            _describe_constant(value)
        self.nodes(graph, tuple(graph))

    def nodes(self, graph: ir.Graph, nodes: Iterable[ir.Node]) -> None:
        for node in nodes:
            self._node(graph, node)

    def inline(
        self, graph: ir.Graph, node: ir.Node, body: ir.Graph, arguments: Sequence[ir.Value]
    ) -> list[ir.Value]:
        """Move `body` before `node` and walk it; what its results became."""
        for value in body.initializers.values():
            _describe_constant(value)
        nodes, results = splice(graph, node, body, arguments)
        self.nodes(graph, nodes)
        return [self._replaced.get(value, value) for value in results]

    def copy(self, body: ir.Graph, node: ir.Node) -> ir.Graph:
        """A copy of a loop's body with names of its own."""
        self._copies += 1
        self._unrolled += len(body)
        if self._unrolled > MAX_UNROLLED:
            raise UnsupportedError(f"{describe(node)} unrolls to more than {MAX_UNROLLED} nodes")
        return fresh_copy(body, f"_t{self._copies}")

    def insert(self, graph: ir.Graph, before: ir.Node, node: ir.Node) -> ir.Value:
        """Insert `node`, which has one output, and walk it; what its output became."""
        self._copies += 1
        (output,) = node.outputs
        output.name = f"{node.op_type}_{self._copies}"
        graph.insert_before(before, node)
        self.nodes(graph, (node,))
        return self._replaced.get(output, output)

    def constant(self, graph: ir.Graph, array: npt.NDArray[Any]) -> ir.Value:
        """A new initializer of `graph`."""
        self._copies += 1
        value = ir.Value(name=f"constant_{self._copies}", const_value=ir.tensor(array))
        _describe_constant(value)
        graph.register_initializer(value)
        return value

    def _node(self, graph: ir.Graph, node: ir.Node) -> None:
        match node.op_type:
            case "If":
                self._branches(graph, node)
            case "Loop":
                self._redirect(graph, node, unroll_loop(node, _Site(self, graph, node)))
            case "Scan":
                self._redirect(graph, node, unroll_scan(node, _Site(self, graph, node)))
            case _:
                self._mend(graph, node)
                infer_node(node, self._opsets)
                if self._fold:
                    self._try_to_fold(graph, node)

    def _try_to_fold(self, graph: ir.Graph, node: ir.Node) -> None:
        if any(value.is_graph_output() for value in node.outputs) or not _is_small(node):
            return
        if node.op_type in ("Shape", "Size"):
            self._replace(graph, node, [_extent(node)])
        elif foldable(node) and (arrays := evaluate(node, self._opsets)) is not None:
            self._replace(graph, node, arrays)

    def _replace(self, graph: ir.Graph, node: ir.Node, arrays: Sequence[npt.NDArray[Any]]) -> None:
        """Put initializers in the place of `node`'s outputs."""
        outputs = [value for value in node.outputs if value.name]
        constants: list[ir.Value] = []
        for output, array in zip(outputs, arrays, strict=True):
            tensor = ir.tensor(np.array(array, order="C"), output.dtype)
            constant = ir.Value(name=output.name, const_value=tensor)
            _describe_constant(constant)
            constants.append(constant)
        ir.convenience.replace_all_uses_with(outputs, constants)
        graph.remove(node, safe=True)
        for output, constant in zip(outputs, constants, strict=True):
            graph.register_initializer(constant)
            self._replaced[output] = constant

    def _redirect(self, graph: ir.Graph, node: ir.Node, results: Sequence[ir.Value]) -> None:
        self._replaced.update(zip(node.outputs, results, strict=True))
        redirect(graph, node, results)

    def _branches(self, graph: ir.Graph, node: ir.Node) -> None:
        arms = [node.attributes[name].as_graph() for name in ("then_branch", "else_branch")]
        condition = _condition(node)
        if condition.const_value is not None:
            decided = bool(condition.const_value.numpy().reshape(-1)[0])
            results = self.inline(graph, node, arms[0] if decided else arms[1], ())
            self._redirect(graph, node, results)
            return
        for arm in arms:
            self.graph(arm)
        for output, *results in zip(node.outputs, *(arm.outputs for arm in arms), strict=True):
            _join(node, output, results)

    def _mend(self, graph: ir.Graph, node: ir.Node) -> None:
        """Replace a batch size that a Reshape hard-codes by 1."""
        target = node.inputs[1] if node.op_type == "Reshape" else None
        if self._former_batch is None or target is None or target.const_value is None:
            return
        dims = target.const_value.numpy()
        source = node.inputs[0]
        elements = 0 if source is None or source.shape is None else np.prod(source.shape.numpy())
        free = -1 in dims or 0 in dims
        if dims.size and dims[0] == self._former_batch and (free or np.prod(dims) != elements):
            mended = self.constant(graph, np.array([1, *dims[1:]], np.int64))
            node.replace_input_with(1, mended)


class _Site:
    """The place before one loop node, for unrolling."""

    def __init__(self, walk: _Walk, graph: ir.Graph, node: ir.Node) -> None:
        self._walk = walk
        self._graph = graph
        self._before = node

    def inline(self, body: ir.Graph, arguments: Sequence[ir.Value]) -> list[ir.Value]:
        copy = self._walk.copy(body, self._before)
        return self._walk.inline(self._graph, self._before, copy, arguments)

    def emit(
        self, op_type: str, inputs: Sequence[ir.Value], attributes: Sequence[ir.Attr] = ()
    ) -> ir.Value:
        node = ir.Node("", op_type, inputs, attributes)
        return self._walk.insert(self._graph, self._before, node)

    def constant(self, array: npt.NDArray[Any]) -> ir.Value:
        return self._walk.constant(self._graph, array)


def _condition(node: ir.Node) -> ir.Value:
    condition = node.inputs[0]
    shape = None if condition is None else condition.shape
    if (
        condition is None
        or condition.dtype != ir.DataType.BOOL
        or shape is None
        or prod(shape.numpy()) != 1
    ):
        found = "missing" if condition is None else f"{condition.dtype} {shape}"
        raise UserError(
            f"{describe(node)} needs one boolean to decide by, its condition is {found}"
        )
    return condition


def _describe_constant(value: ir.Value) -> None:
    tensor = value.const_value
    if tensor is None:
        raise UserError(f"initializer {value.name!r} has no data")
    value.type = ir.TensorType(tensor.dtype)
    value.shape = ir.Shape(tensor.shape.numpy())


def _is_small(node: ir.Node) -> bool:
    shapes = [value.shape for value in node.outputs if value.name]
    return all(s is not None and np.prod(s.numpy()) <= DATA_ELEMENTS for s in shapes)


def _extent(node: ir.Node) -> npt.NDArray[np.int64]:
    """The value of a `Shape` or `Size` node whose input has a static shape."""
    source = node.inputs[0]
    shape = () if source is None or source.shape is None else source.shape.numpy()
    if node.op_type == "Size":
        return np.array(np.prod(shape, dtype=np.int64), np.int64)
    start = node.attributes.get_int("start", 0)
    end = node.attributes.get_int("end", len(shape))
    return np.array(shape[start:end], np.int64)


def _join(node: ir.Node, output: ir.Value, results: list[ir.Value]) -> None:
    then, else_ = results
    if then.type != else_.type or then.shape != else_.shape:
        raise UnsupportedError(
            f"{describe(node)} gives {output.name!r} as {then.type} {then.shape} in one branch and "
            f"{else_.type} {else_.shape} in the other: both must have one type and shape"
        )
    output.type, output.shape = then.type, then.shape
    require_static(node, output)
