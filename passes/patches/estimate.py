"""About how many bytes a block needs: quick, and enough to tell which bands are worth a plan."""

from __future__ import annotations

from itertools import accumulate
from math import prod

import onnx_ir as ir

from offramp.passes.layout import rules
from offramp.passes.patches.rows import activations, is_constant

MOVES = rules.VIEWS | {"Slice", "Transpose"}
"""Operators whose results take no memory of their own; most transposes vanish with the layout."""


def bytes_in_use(graph: ir.Graph) -> int:
    """The most bytes in use at a time, in the given order.

    Tensors inside kernels take none: in quantised networks the real ones, in others those that one
    elementwise operator reads. What is put together lies where its parts do.
    """
    nodes = list(graph)
    is_quantised = any(node.op_type == "QuantizeLinear" for node in nodes)
    joined = {v for node in nodes if node.op_type == "Concat" for v in node.inputs}
    first, last = _lifetimes(graph, nodes)
    change = [0] * (len(nodes) + 2)
    for value, start in first.items():
        if value in joined or is_constant(value) or _is_inside(value, is_quantised):
            continue
        size = prod(rules.static_shape(value)) * (value.dtype or ir.DataType.FLOAT).numpy().itemsize
        change[start] += size
        change[last.get(value, start) + 1] -= size
    return max(accumulate(change))


def _lifetimes(
    graph: ir.Graph, nodes: list[ir.Node]
) -> tuple[dict[ir.Value, int], dict[ir.Value, int]]:
    """The steps at which values that have memory of their own are first and last in use."""
    first: dict[ir.Value, int] = dict.fromkeys(graph.inputs, 0)
    last: dict[ir.Value, int] = {}
    place = {value: value for value in graph.inputs}
    for step, node in enumerate(nodes):
        read = [place[v] for v in activations(node) if v in place]
        for value in node.outputs:
            place[value] = read[0] if node.op_type in MOVES and read else value
            first.setdefault(place[value], step)
        if node.op_type == "Concat":
            first[node.outputs[0]] = min(first[value] for value in read)
        last |= dict.fromkeys(read, step)
    last |= {place[value]: len(nodes) for value in graph.outputs if value in place}
    return first, last


def _is_inside(value: ir.Value, is_quantised: bool) -> bool:
    node = value.producer()
    if node is None or value.dtype is None or not value.dtype.is_floating_point():
        return False
    if is_quantised:
        return True
    readers = value.consumers()
    return len(readers) == 1 and readers[0].op_type in rules.ELEMENTWISE
