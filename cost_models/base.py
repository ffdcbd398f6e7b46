"""The interface of every cost model: what a node, a block or a Program costs on one target."""

from __future__ import annotations

from typing import Protocol

import onnx_ir as ir

from offramp.compiler.ir import Block, Program
from offramp.compiler.ir.cfg import reach_probabilities


class CostModel(Protocol):
    """Predicts cost on one target, for one sample.

    Costs are non-negative floats in `unit`, the target's `cost_unit`: "ns" of one thread's CPU
    time, or "instructions" executed. They add up: the cost of a block is that of its nodes plus
    the driver's share. A model never answers with NaN or infinity: where it cannot tell, because
    a shape is unknown, it raises UnsupportedError naming the node.
    """

    @property
    def unit(self) -> str:
        """What costs are counted in."""
        ...

    def node(self, node: ir.Node) -> float:
        """Cost of one ONNX node, as part of a fused kernel where backends fuse it."""
        ...

    def block(self, block: Block) -> float:
        """Cost of running one block once, its terminator included."""
        ...


def expected_cost(model: CostModel, program: Program) -> float:
    """Cost of one sample on average: each block weighted by its probability of being reached."""
    reach = reach_probabilities(program)
    return sum(model.block(block) * reach[name] for name, block in program.blocks.items())
