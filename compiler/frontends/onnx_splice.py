"""Move the nodes of a subgraph into the graph around it, in place of the node that holds it."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir


def splice(
    graph: ir.Graph, node: ir.Node, body: ir.Graph, arguments: Sequence[ir.Value]
) -> tuple[tuple[ir.Node, ...], list[ir.Value]]:
    """Put the nodes of `body` before `node`, with `arguments` for its inputs.

    Args:
        graph: the graph that `node` is in.
        body: consumed; its names must be distinct from those in `graph`.

    Returns:
        The nodes moved, and what stands for the outputs of `body`.
    """
    substitutes = dict(zip(body.inputs, arguments, strict=True))
    results = [substitutes.get(value, value) for value in body.outputs]
    body.outputs.clear()
    for parameter, argument in substitutes.items():
        ir.convenience.replace_all_uses_with(parameter, argument)
    for constant in tuple(body.initializers.values()):
        body.initializers.pop(str(constant.name))
        graph.register_initializer(constant)
    nodes = tuple(body)
    body.remove(nodes)
    graph.insert_before(node, nodes)
    return nodes, results


def fresh_copy(body: ir.Graph, suffix: str) -> ir.Graph:
    """A copy of `body` whose values and nodes have `suffix` after their names."""
    copy = body.clone(allow_outer_scope_values=True)
    for graph in (copy, *copy.subgraphs()):
        for value in tuple(graph.initializers.values()):
            graph.initializers.pop(str(value.name))
            value.name = f"{value.name}{suffix}"
            graph.register_initializer(value)
        for node in graph:
            node.name = f"{node.name}{suffix}"
            for value in node.outputs:
                value.name = f"{value.name}{suffix}" if value.name else value.name
    return copy


def redirect(graph: ir.Graph, node: ir.Node, results: Sequence[ir.Value]) -> None:
    """Make `results` stand for the outputs of `node`, and remove it."""
    for output, result in zip(node.outputs, results, strict=True):
        if not output.is_graph_output():
            ir.convenience.replace_all_uses_with(output, result)
            continue
        name, output.name = output.name, f"{output.name}_replaced"
        same = ir.Value(name=name, type=result.type, shape=result.shape)
        graph.insert_before(node, ir.Node("", "Identity", [result], outputs=[same]))
        ir.convenience.replace_all_uses_with(output, same, replace_graph_outputs=True)
    graph.remove(node, safe=True)
    _release(node)


def _release(node: ir.Node) -> None:
    """Let go of the values that the subgraphs of a removed node read."""
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            for inner in attribute.as_graph().all_nodes():
                for position in range(len(inner.inputs)):
                    inner.replace_input_with(position, None)
