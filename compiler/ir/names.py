"""Names that are not taken."""

from __future__ import annotations

from collections.abc import Collection

import onnx_ir as ir


def fresh(name: str, taken: Collection[str | None]) -> str:
    """`name`, or `name_1`, `name_2`, ... if it is taken."""
    candidate, suffix = name, 0
    while candidate in taken:
        suffix += 1
        candidate = f"{name}_{suffix}"
    return candidate


def make_names_unique(model: ir.Model) -> None:
    """Give every value of a model and its subgraphs a name of its own, and every node a name.

    Names of the model's inputs and outputs stay. Values of sibling branches get different names
    too, which ONNX does not ask for, but which lets metadata refer to values by name.
    """
    from onnx_ir.passes.common import NameFixPass

    graph = model.graph
    taken: set[str | None] = {""}
    done: set[ir.Value] = set()
    for value in (*graph.inputs, *graph.outputs):
        if value not in done and not value.is_initializer():
            value.name = fresh(str(value.name), taken)
            taken.add(value.name)
            done.add(value)
    for inner in (graph, *graph.subgraphs()):
        _rename_values(inner, taken, done)
    absent = [v for node in graph.all_nodes() for v in node.outputs if _is_left_out(v)]
    NameFixPass()(model)
    for value in absent:
        value.name = ""


def _is_left_out(value: ir.Value) -> bool:
    """Whether a node does not give this output: ONNX leaves its name empty."""
    return not value.name and not value.uses() and not value.is_graph_output()


def _rename_values(graph: ir.Graph, taken: set[str | None], done: set[ir.Value]) -> None:
    constants = tuple(graph.initializers.values())
    graph.initializers.clear()
    made = (value for node in graph for value in node.outputs if not _is_left_out(value))
    for value in (*graph.inputs, *constants, *made):
        if value not in done:
            value.name = fresh(value.name or "value", taken)
            taken.add(value.name)
            done.add(value)
    for value in constants:
        graph.register_initializer(value)
