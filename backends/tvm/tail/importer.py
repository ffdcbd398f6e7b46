"""A straight-line ONNX graph as a Relax module."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from offramp.backends.tvm.tail.encoding import Encoded, is_encoded, stored
from offramp.backends.tvm.tail.nodes import NodeImporter
from offramp.backends.tvm.tail.refusal import RefusalError, node_name, refusal
from offramp.backends.tvm.tail.scope import Scope
from offramp.backends.tvm.tail.types import type_of_value
from offramp.backends.tvm.tail.untyped import relax
from offramp.backends.tvm.tail.values import expression


@dataclass(frozen=True)
class Imported:
    """A Relax module whose `main` takes the graph's inputs and returns a tuple of its outputs.

    Variables named `n<i>_...` end the bindings of the graph's i-th node; node_names: of all nodes.
    """

    module: Any
    node_names: tuple[str, ...]


def import_graph(graph: ir.Graph) -> Imported:
    """One straight-line graph as a Relax module; constants are baked in.

    Raises:
        UnsupportedError: a node has no lowering; names the operator, the node and the reason.
    """
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
                results = [expression(scope.values[str(v.name)]) for v in graph.outputs]
                answer = builder.emit_output(relax.Tuple(results))
            builder.emit_func_output(answer)
    return Imported(builder.get(), tuple(node_name(n) for n in nodes))


def _bind_parameters(graph: ir.Graph, scope: Scope) -> list[Any]:
    parameters: list[Any] = []
    for position, value in enumerate(graph.inputs):
        try:
            kind = type_of_value(value)
        except RefusalError as error:
            raise refusal(value.consumers()[0], str(error)) from error
        held = stored(kind)
        variable = relax.Var(f"p{position}", relax.TensorType(held.shape, held.dtype))
        is_plain = held == kind and not is_encoded(kind.dtype)
        scope.values[str(value.name)] = variable if is_plain else Encoded(variable, kind.dtype)
        parameters.append(variable)
    return parameters


def _import_node(builder: Any, node: ir.Node, position: int, scope: Scope) -> None:
    try:
        declared = tuple(type_of_value(v) if v.name else None for v in node.outputs)
        proto = ir.serde.serialize_node(node)
        results = NodeImporter(builder).lower(proto, scope, declared)
    except RefusalError as error:
        raise refusal(node, str(error)) from error
    for value, result in zip(node.outputs, results, strict=False):
        if isinstance(result, np.ndarray):
            scope.values[str(value.name)] = result
        elif value.name:
            variable = builder.emit(expression(result), name_hint=f"n{position}_")
            encoded = isinstance(result, Encoded)
            scope.values[value.name] = Encoded(variable, result.dtype) if encoded else variable
