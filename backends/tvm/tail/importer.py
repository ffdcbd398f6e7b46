"""ONNX nodes to Relax, one by one: ours first, then TVM's importer, then ONNX's function bodies."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from offramp.backends.tvm.tail import folding, functions
from offramp.backends.tvm.tail.operators import LOWERINGS, OperatorCall
from offramp.backends.tvm.tail.refusal import RefusalError, node_name, reason_of, refusal
from offramp.backends.tvm.tail.scope import Attributes, Scope, resolved
from offramp.backends.tvm.tail.types import (
    TensorType,
    numpy_dtype,
    type_of_expression,
    type_of_value,
)


@dataclass(frozen=True)
class Imported:
    """A Relax module whose `main` takes the graph's inputs and returns a tuple of its outputs.

    Variables named `n<i>_...` end the bindings of the graph's i-th node. Outputs that are
    constants are in `constants` by position, and stand in the tuple as constants too.
    """

    module: Any
    node_names: tuple[str, ...]


def import_graph(graph: ir.Graph) -> Imported:
    """One straight-line graph as a Relax module; constants are baked in.

    Raises:
        UnsupportedError: a node has no lowering; names the operator, the node and the reason.
    """
    from tvm import relax

    nodes = list(graph)
    builder = relax.BlockBuilder()
    scope = Scope({}, dict(graph.opset_imports))
    for name, value in graph.initializers.items():
        if value.const_value is not None:
            scope.values[name] = value.const_value.numpy()
    parameters = _bind_parameters(graph, scope)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with builder.function("main", params=parameters):
            with builder.dataflow():
                for position, node in enumerate(nodes):
                    _import_node(builder, node, position, scope)
                results = [_expression(scope.values[v.name]) for v in graph.outputs]
                answer = builder.emit_output(relax.Tuple(results))
            builder.emit_func_output(answer)
    return Imported(builder.get(), tuple(node_name(n) for n in nodes))


def _bind_parameters(graph: ir.Graph, scope: Scope) -> list[Any]:
    from tvm import relax

    parameters = []
    for position, value in enumerate(graph.inputs):
        kind = type_of_value(value)
        variable = relax.Var(f"p{position}", relax.TensorType(kind.shape, kind.dtype))
        scope.values[value.name] = variable
        parameters.append(variable)
    return parameters


def _import_node(builder: Any, node: ir.Node, position: int, scope: Scope) -> None:
    try:
        expected = [type_of_value(v) if v.name else None for v in node.outputs]
        proto = ir.serde.serialize_node(node)
        results = NodeImporter(builder).lower(proto, scope, expected)
    except RefusalError as error:
        raise refusal(node, str(error)) from error
    for value, result in zip(node.outputs, results, strict=False):
        if isinstance(result, np.ndarray):
            scope.values[value.name] = result
        elif value.name:
            scope.values[value.name] = builder.emit(result, name_hint=f"n{position}_")


class NodeImporter:
    """Lowers nodes into one block builder; function bodies and branches recurse."""

    def __init__(self, builder: Any) -> None:
        self._builder = builder

    def lower(
        self,
        node: onnx.NodeProto,
        scope: Scope,
        expected: Sequence[TensorType | None] | None = None,
    ) -> list[Any]:
        """The node's outputs: NumPy arrays where they are constant, else Relax expressions.

        Raises:
            RefusalError: no way of lowering fits; the message is the reason of the first.
        """
        attributes = scope.attributes_of(node)
        operands = scope.operands(node)
        if folding.foldable(node, operands):
            return folding.fold(node, operands, attributes, scope.opsets)
        if expected and all(t is not None and t.elements == 0 for t in expected):
            return [_empty(t) for t in expected if t is not None]
        reasons: list[str] = []
        for way in (self._inline_branch, self._own, self._tvm, self._function_body):
            try:
                results = way(node, operands, attributes, scope)
                if results is not None:
                    _check_types(results, expected)
                    return results
            except Exception as error:  # whatever TVM raises is a reason to refuse, not a crash
                reasons.append(reason_of(error))
        raise RefusalError(reasons[0] if reasons else "there is no lowering for this operator")

    def _inline_branch(
        self, node: onnx.NodeProto, operands: list[Any], attributes: Attributes, scope: Scope
    ) -> list[Any] | None:
        if node.op_type != "If" or node.domain:
            return None
        if not isinstance(operands[0], np.ndarray):
            raise RefusalError("its condition depends on data")
        branch = attributes["then_branch" if operands[0].item() else "else_branch"]
        inner = scope.inner()
        for tensor in branch.initializer:
            inner.values[tensor.name] = onnx.numpy_helper.to_array(tensor)
        return self._straight_line(branch.node, [o.name for o in branch.output], inner)

    def _own(
        self, node: onnx.NodeProto, operands: list[Any], attributes: Attributes, scope: Scope
    ) -> list[Any] | None:
        lowering = LOWERINGS.get((node.domain, node.op_type))
        if lowering is None:
            return None
        call = OperatorCall(
            self._builder,
            tuple(operands),
            attributes,
            tuple(node.output),
            scope.version(node.domain),
        )
        return self._results(lowering(call))

    def _tvm(
        self, node: onnx.NodeProto, operands: list[Any], attributes: Attributes, scope: Scope
    ) -> list[Any] | None:
        from tvm.relax.frontend.onnx.onnx_frontend import onnx_input

        if node.domain or node.op_type not in _tvm_converters():
            return None
        converter = _tvm_converters()[node.op_type].get_converter(scope.version(""))
        custom = {"name": node.name, "num_outputs": len(node.output)}
        inputs = onnx_input([None if o is None else _expression(o) for o in operands])
        result = converter(self._builder, inputs, {**attributes, "tvm_custom": custom}, [{}, {}])
        results = self._results(result)
        if len(results) < len(node.output):
            raise RefusalError(f"{len(node.output)} outputs are wanted, {len(results)} supported")
        return results

    def _function_body(
        self, node: onnx.NodeProto, operands: list[Any], attributes: Attributes, scope: Scope
    ) -> list[Any] | None:
        version = scope.version(node.domain)
        node = resolved(node, attributes)
        types = [None if o is None else _type_of(o) for o in operands]
        body = functions.function_body(node, version, types)
        if body is None:
            return None
        given = functions.default_attributes(node, version, body) | attributes
        opsets = {o.domain: o.version for o in body.opset_import}
        names = list(body.input)
        bound = dict(zip(names, [*operands, *[None] * (len(names) - len(operands))], strict=True))
        inner = Scope(bound, {**scope.opsets, **opsets}, given)
        return self._straight_line(body.node, body.output[: len(node.output)], inner)

    def _straight_line(
        self, nodes: Sequence[onnx.NodeProto], outputs: Sequence[str], scope: Scope
    ) -> list[Any]:
        for node in nodes:
            try:
                results = self.lower(node, scope)
            except RefusalError as error:
                raise RefusalError(f"{error} (in {node.op_type} of its function body)") from error
            for name, result in zip(node.output, results, strict=False):
                if name:
                    scope.values[name] = self._bound(result)
        return [scope.values.get(name) for name in outputs]

    def _bound(self, result: Any) -> Any:
        return result if isinstance(result, np.ndarray) else self._builder.emit(result)

    def _results(self, result: Any) -> list[Any]:
        from tvm import relax
        from tvm.ir import GenericConst

        if isinstance(result, list | tuple):
            return [r for one in result for r in self._results(one)]
        if isinstance(result, np.ndarray):
            return [result]
        if isinstance(result, relax.Tuple):
            return [r for one in result.fields for r in self._results(one)]
        if isinstance(result, relax.ShapeExpr):
            return [_shape_constant(result)]
        if isinstance(result, GenericConst):
            return [result.value.numpy()]
        variable = self._builder.emit(result)
        if isinstance(variable.ty, relax.TupleType):
            fields = range(len(variable.ty.fields))
            return [self._builder.emit(relax.TupleGetItem(variable, i)) for i in fields]
        return [variable]


@cache
def _tvm_converters() -> dict[str, Any]:
    from tvm.relax.frontend.onnx import onnx_frontend

    return onnx_frontend._get_convert_map()


def _check_types(results: Sequence[Any], expected: Sequence[TensorType | None] | None) -> None:
    for position, result in enumerate(results):
        if result is None:
            continue
        found = _type_of(result)
        wanted = expected[position] if expected and position < len(expected) else None
        if wanted is not None and found != wanted:
            raise RefusalError(
                f"output {position} should be {wanted}, TVM's importer gives {found}"
            )


def _type_of(value: Any) -> TensorType:
    if isinstance(value, np.ndarray):
        return TensorType(value.shape, str(value.dtype))
    return type_of_expression(value)


def _expression(value: Any) -> Any:
    from tvm import relax

    return relax.const(value) if isinstance(value, np.ndarray) else value


def _shape_constant(shape: Any) -> npt.NDArray[np.int64]:
    if not all(hasattr(extent, "value") for extent in shape.values):
        raise RefusalError("the shape of its result depends on data")
    return np.array([int(extent.value) for extent in shape.values], np.int64)


def _empty(kind: TensorType) -> npt.NDArray[np.generic]:
    return np.zeros(kind.shape, numpy_dtype(kind.dtype))
