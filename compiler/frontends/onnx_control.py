"""Nested `If`s as blocks: every `If` becomes a Branch whose join defines the `If`'s outputs."""

from __future__ import annotations

import onnx_ir as ir

from offramp.compiler.ir import Branch, Jump, Return, Successor
from offramp.compiler.ir.draft import Draft, Edge

ENTRY = "entry"


def read_branches(graph: ir.Graph) -> list[Draft]:
    """Drafts of all blocks, in topological order, the entry first.

    Args:
        graph: with shapes and types inferred; `If` is the only operator with subgraphs.
    """
    reader = _Reader()
    reader.region(ENTRY, graph, tuple(graph.inputs), None)
    return reader.drafts


def _branch(operands: tuple[int, ...], successors: tuple[Successor, ...]) -> Branch:
    return Branch(operands[0], *successors)


def _return(operands: tuple[int, ...], successors: tuple[Successor, ...]) -> Return:
    return Return(operands)


def _jump(operands: tuple[int, ...], successors: tuple[Successor, ...]) -> Jump:
    return Jump(successors[0])


class _Reader:
    def __init__(self) -> None:
        self.drafts: list[Draft] = []
        self._ifs = 0

    def region(
        self, name: str, graph: ir.Graph, bound: tuple[ir.Value, ...], join: str | None
    ) -> None:
        """Blocks of one graph; its outputs go to the block `join`, or are the answer."""
        nodes: list[ir.Node] = []
        for node in graph:
            if node.op_type != "If":
                nodes.append(node)
                continue
            name, bound, nodes = (
                self._fork(Draft(name, nodes, (), (), _branch, bound), node),
                tuple(node.outputs),
                [],
            )
        results = tuple(graph.outputs)
        if join is None:
            self.drafts.append(Draft(name, nodes, results, (), _return, bound))
        else:
            self.drafts.append(Draft(name, nodes, (), (Edge(join, results),), _jump, bound))

    def _fork(self, draft: Draft, node: ir.Node) -> str:
        """Close `draft` with the Branch that `node` is; returns the name of the join."""
        self._ifs += 1
        prefix = f"if{self._ifs}"
        join = f"{prefix}_join"
        condition = node.inputs[0]
        draft.operands = () if condition is None else (condition,)
        arms = {
            f"{prefix}_then": node.attributes["then_branch"].as_graph(),
            f"{prefix}_else": node.attributes["else_branch"].as_graph(),
        }
        draft.edges = tuple(
            Edge(name) if len(arm) else Edge(join, tuple(arm.outputs)) for name, arm in arms.items()
        )
        self.drafts.append(draft)
        for name, arm in arms.items():
            if len(arm):
                self.region(name, arm, (), join)
        return join
