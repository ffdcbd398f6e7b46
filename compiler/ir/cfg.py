"""The control-flow graph as networkx sees it: joins, reach probabilities, dominating values."""

from __future__ import annotations

from typing import Any

from offramp.compiler.ir.program import Program
from offramp.compiler.ir.terminators import Branch, Switch

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
