"""The control-flow graph as networkx sees it: joins, reach probabilities, dominating values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import onnx_ir as ir

from offramp.compiler.ir.program import Block, Program
from offramp.compiler.ir.terminators import Branch, Exit, Jump, Return, Switch

ANSWER = ""
"""Sink of the block graph: every Return and Exit leads here. No block has an empty name."""


def block_graph(program: Program) -> Any:
    """A `networkx.DiGraph` of block names, with the sink `ANSWER` after every Return and Exit."""
    import networkx as nx

    graph = nx.DiGraph()
    for block in program.blocks.values():
        graph.add_node(block.name)
        graph.add_edges_from((block.name, s.block) for s in block.terminator.successors)
        if block in program.exits or not block.terminator.successors:
            graph.add_edge(block.name, ANSWER)
    return graph


def joins(program: Program) -> dict[str, str]:
    """Where the arms of each Branch and Switch meet: block name → name of its join.

    The join is the immediate post-dominator. A block whose arms never meet again is left out;
    the verifier refuses such programs.
    """
    import networkx as nx

    forks = [b.name for b in program.blocks.values() if isinstance(b.terminator, Branch | Switch)]
    if not forks:
        return {}
    after = nx.immediate_dominators(block_graph(program).reverse(copy=False), ANSWER)
    return {fork: after[fork] for fork in forks if after.get(fork, ANSWER) != ANSWER}


def trunk(program: Program) -> list[str]:
    """Names of the blocks outside every Branch and Switch region, in topological order.

    A sample that does not leave at an exit passes all of them.
    """
    join_of = joins(program)
    names = [program.entry.name]
    while successors := program.blocks[names[-1]].terminator.successors:
        names.append(join_of.get(names[-1], successors[0].block))
    return names


def reach_probabilities(program: Program) -> dict[str, float]:
    """Probability that a sample reaches each block, in [0, 1].

    A block's own annotation counts where there is one. Otherwise it follows from its
    predecessors: an Exit keeps what does not leave by its annotated `rate` (nothing leaves where
    none was measured, so costs are upper bounds), and the unmeasured arms of a fork share equally
    what its measured arms leave. A join is reached as often as its fork.
    """
    reach: dict[str, float] = {program.entry.name: 1.0}
    after = {join: fork for fork, join in joins(program).items()}
    for block in program.blocks.values():
        here = _measured(program, block.name)
        if here is None:
            here = reach[after.get(block.name, block.name)]
        reach[block.name] = here
        match block.terminator:
            case Exit(else_=stay):
                reach[stay.block] = max(0.0, here - (block.annotations.rate or 0.0))
            case Jump(to):
                reach.setdefault(to.block, here)
            case Branch() | Switch():
                _share(program, block, here, reach)
            case Return():
                pass
    return reach


def dominating_values(
    inputs: Iterable[ir.Value], nodes: Iterable[ir.Node], outputs: Iterable[ir.Value]
) -> list[ir.Value]:
    """The tensors that every path from `inputs` to `outputs` through straight-line `nodes` crosses.

    In the order of computation; inputs are left out, a single output is the last one. What
    depends on constants alone lies on no path. These are the places where a network can be cut
    (and an exit attached) with one tensor crossing the cut.
    """
    import networkx as nx

    flow = nx.DiGraph()
    flow.add_nodes_from((_SOURCE, _SINK))
    flow.add_edges_from((_SOURCE, value) for value in inputs)
    for node in nodes:
        flow.add_edges_from((i, o) for i in node.inputs if i in flow for o in node.outputs)
    flow.add_edges_from((value, _SINK) for value in outputs if value in flow)
    before = nx.immediate_dominators(flow, _SOURCE)
    if _SINK not in before:
        return []
    chain: list[ir.Value] = []
    value = before[_SINK]
    while value is not _SOURCE:
        chain.append(value)
        value = before[value]
    return [value for value in reversed(chain) if value.producer() is not None]


_SOURCE = "source"
_SINK = "sink"


def _measured(program: Program, name: str) -> float | None:
    return program.blocks[name].annotations.reach


def _share(program: Program, block: Block, here: float, reach: dict[str, float]) -> None:
    """Spread `here` over the arms of a fork; an arm that is the join itself needs no entry."""
    join = joins(program)[block.name]
    arms = [s.block for s in block.terminator.successors]
    facts = {name: _measured(program, name) for name in arms if name != join}
    measured = {name: r for name, r in facts.items() if r is not None}
    unmeasured = [name for name in arms if name not in measured]
    rest = max(0.0, here - sum(measured.values())) / max(1, len(unmeasured))
    for name in arms:
        if name != join:
            reach[name] = measured.get(name, rest)
