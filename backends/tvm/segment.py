"""A piece of a block's graph as a graph of its own."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from offramp.compiler.ir.clone import clone_nodes, clone_value


def segment_graph(nodes: Sequence[ir.Node], opset_imports: dict[str, int]) -> ir.Graph:
    """A graph of copies of `nodes` (in topological order), with all value names kept.

    Its inputs are the values read from elsewhere, constants become its initializers, its outputs
    are the values that somebody else reads.
    """
    inside = {value for node in nodes for value in node.outputs}
    outside = dict.fromkeys(
        value
        for node in nodes
        for value in node.inputs
        if value is not None and value not in inside
    )
    mapping = {value: clone_value(value) for value in outside}
    copies = clone_nodes(nodes, mapping)
    members = set(nodes)
    results = [
        value
        for node in nodes
        for value in node.outputs
        if value.is_graph_output() or any(user not in members for user in value.consumers())
    ]
    return ir.Graph(
        [mapping[value] for value in outside if value.const_value is None],
        [mapping[value] for value in results],
        nodes=copies,
        initializers=[mapping[value] for value in outside if value.const_value is not None],
        name="segment",
        opset_imports=dict(opset_imports),
    )
