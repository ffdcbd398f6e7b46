"""Machine-independent costs of nodes, blocks and ways through a Program."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import onnx_ir as ir

from offramp.compiler.ir.cfg import reach_probabilities, trunk
from offramp.compiler.ir.macs import node_macs, shape_of
from offramp.compiler.ir.program import Block, Program
from offramp.compiler.ir.terminators import Exit, Return


@dataclass(frozen=True)
class Cost:
    """What one sample costs; expectations may be fractional.

    macs: multiply-accumulates.
    parameters: elements of weights read (shapes, axes and other int64 constants are none).
    activation_bytes: bytes of all node outputs, each written once.
    """

    macs: float = 0
    parameters: float = 0
    activation_bytes: float = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.macs + other.macs,
            self.parameters + other.parameters,
            self.activation_bytes + other.activation_bytes,
        )

    def __mul__(self, weight: float) -> Cost:
        return Cost(self.macs * weight, self.parameters * weight, self.activation_bytes * weight)


def node_cost(node: ir.Node) -> Cost:
    """Cost of one node.

    Raises:
        UnsupportedError: a shape is unknown.
    """
    written = sum(_bytes(node, value) for value in node.outputs if value.name)
    return Cost(node_macs(node), _weights({v for v in node.inputs if v is not None}), written)


def block_cost(block: Block) -> Cost:
    """Cost of running one block once; a weight that several nodes read counts once."""
    nodes = [node_cost(node) for node in block.graph]
    return Cost(
        sum(cost.macs for cost in nodes),
        _weights(set(block.graph.initializers.values())),
        sum(cost.activation_bytes for cost in nodes),
    )


def expected_cost(program: Program) -> Cost:
    """Cost of a sample on average: each block weighted by its probability of being reached."""
    reach = reach_probabilities(program)
    return sum((block_cost(b) * reach[b.name] for b in program.blocks.values()), Cost())


def exit_costs(program: Program) -> tuple[Cost, ...]:
    """Cost of a sample that leaves at each exit, in the order of `exit_index`; last: the Return.

    Everything on the way is included: heads of the exits passed, and the arms of Branches and
    Switches weighted by how often a sample that comes by takes them.
    """
    reach = reach_probabilities(program)
    always = trunk(program)
    spent, passing = Cost(), 1.0
    found: list[Cost] = []
    for name, block in program.blocks.items():
        if name in always:
            passing = reach[name]
            spent += block_cost(block)
        elif passing > 0:
            spent += block_cost(block) * (reach[name] / passing)
        if isinstance(block.terminator, Exit | Return):
            found.append(spent)
    return tuple(found)


def _weights(values: set[ir.Value]) -> int:
    tensors = [v.const_value for v in values if v.const_value is not None]
    return sum(t.size for t in tensors if t.dtype != ir.DataType.INT64)


def _bytes(node: ir.Node, value: ir.Value) -> int:
    bits = 0 if value.dtype is None else value.dtype.bitwidth
    return (prod(shape_of(node, value)) * bits + 7) // 8
