"""Blocks under construction: their nodes may still read values of other blocks.

A front end or a pass that cuts a graph into blocks leaves values crossing the cuts. `close` turns
every such value into a parameter, passed along each edge that leads to a use (liveness on an
acyclic graph), and gives every block its own initializers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import onnx_ir as ir

from offramp.compiler.errors import InternalError
from offramp.compiler.ir.clone import clone_nodes, clone_value
from offramp.compiler.ir.names import fresh
from offramp.compiler.ir.program import Annotations, Block
from offramp.compiler.ir.terminators import Successor, Terminator


@dataclass(frozen=True)
class Edge:
    """One successor: its block, and the values passed to the values bound there."""

    block: str
    values: tuple[ir.Value, ...] = ()


@dataclass
class Draft:
    """A block whose nodes and terminator may read any value that is computed on the way to it.

    nodes: in topological order; they stay as they are, the finished block holds copies.
    bound: values that exist from here on: graph inputs, or the values that a join defines.
    edges: as many as the terminator has successors.
    operands: values that the terminator reads besides those passed along edges.
    finish: builds the terminator from operand positions and successors.
    captured: values of earlier blocks that become parameters in this order even if not used here.
    """

    name: str
    nodes: list[ir.Node]
    operands: tuple[ir.Value, ...]
    edges: tuple[Edge, ...]
    finish: Callable[[tuple[int, ...], tuple[Successor, ...]], Terminator]
    bound: tuple[ir.Value, ...] = ()
    captured: tuple[ir.Value, ...] = ()
    annotations: Annotations = field(default_factory=Annotations)


def close(drafts: list[Draft], opset_imports: dict[str, int]) -> dict[str, Block]:
    """Finished blocks by name.

    Args:
        drafts: in topological order, the entry first.
        opset_imports: set on every block's graph.

    Raises:
        InternalError: the entry reads a value that nothing defines.
    """
    live = _live_in(drafts)
    entry = drafts[0]
    if live[entry.name]:
        names = ", ".join(repr(value.name) for value in live[entry.name])
        raise InternalError(f"block {entry.name!r} reads {names}, which no earlier block defines")
    return {draft.name: _block(draft, live, opset_imports) for draft in drafts}


def is_constant(value: ir.Value) -> bool:
    """Whether `value` is an initializer, of whatever graph."""
    return value.const_value is not None and value.producer() is None


def _live_in(drafts: list[Draft]) -> dict[str, list[ir.Value]]:
    """Values of earlier blocks that each block needs, its declared captures first."""
    live: dict[str, list[ir.Value]] = {}
    for draft in reversed(drafts):
        made = {value for node in draft.nodes for value in node.outputs}
        made.update(draft.bound)
        needed: dict[ir.Value, None] = dict.fromkeys(draft.captured)
        reads = [value for node in draft.nodes for value in node.inputs if value is not None]
        reads += draft.operands
        for edge in draft.edges:
            reads += [*edge.values, *live[edge.block]]
        needed.update(dict.fromkeys(v for v in reads if v not in made and not is_constant(v)))
        live[draft.name] = list(needed)
    return live


def _block(draft: Draft, live: dict[str, list[ir.Value]], opset_imports: dict[str, int]) -> Block:
    parameters = [*draft.bound, *live[draft.name]]
    mapping = {value: _parameter(value) for value in parameters}
    inputs = [mapping[value] for value in parameters]
    passed = [[*edge.values, *live[edge.block]] for edge in draft.edges]
    operands = [*draft.operands, *(value for values in passed for value in values)]
    constants = _own_constants(draft.nodes, operands, mapping, {value.name for value in inputs})
    nodes = clone_nodes(draft.nodes, mapping)
    outputs = [mapping[value] for value in operands]
    graph = ir.Graph(
        inputs,
        outputs,
        nodes=nodes,
        initializers=constants,
        name=draft.name,
        opset_imports=dict(opset_imports),
    )
    return Block(draft.name, graph, _terminator(draft, passed), draft.annotations)


def _parameter(value: ir.Value) -> ir.Value:
    parameter = clone_value(value)
    parameter.const_value = None
    return parameter


def _own_constants(
    nodes: list[ir.Node],
    operands: list[ir.Value],
    mapping: dict[ir.Value, ir.Value],
    taken: set[str | None],
) -> list[ir.Value]:
    """Initializers of this block for every constant it reads; extends `mapping`."""
    constants: list[ir.Value] = []
    reads = [value for node in nodes for value in node.inputs if value is not None]
    for value in [*reads, *operands]:
        if value in mapping or not is_constant(value):
            continue
        own = clone_value(value)
        own.name = fresh(value.name or "constant", taken)
        taken.add(own.name)
        mapping[value] = own
        constants.append(own)
    return constants


def _terminator(draft: Draft, passed: list[list[ir.Value]]) -> Terminator:
    position = len(draft.operands)
    successors: list[Successor] = []
    for edge, values in zip(draft.edges, passed, strict=True):
        args = tuple(range(position, position + len(values)))
        successors.append(Successor(edge.block, args))
        position += len(values)
    return draft.finish(tuple(range(len(draft.operands))), tuple(successors))
