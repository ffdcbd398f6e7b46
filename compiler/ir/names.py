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
    NameFixPass()(model)


def _rename_values(graph: ir.Graph, taken: set[str | None], done: set[ir.Value]) -> None:
    constants = tuple(graph.initializers.values())
    graph.initializers.clear()
    made = (value for node in graph for value in node.outputs if value.name != "")
    for value in (*graph.inputs, *constants, *made):
        if value not in done:
            value.name = fresh(value.name or "value", taken)
            taken.add(value.name)
            done.add(value)
    for value in constants:
        graph.register_initializer(value)
