"""Where an exit may sit: tensors that every path to the answer crosses, priced."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import onnx_ir as ir

from offramp.compiler.ir.cfg import dominating_values
from offramp.compiler.ir.macs import node_macs
from offramp.cost_models.base import CostModel
from offramp.passes.exits.result import Spent
from offramp.passes.exits.task import Task

LATEST = 0.9
"""No exit where more than this fraction of the cost is spent already: nothing is left to save."""

SPACING = 0.02
"""Points nearer than this fraction of the cost count as one; the last of them is taken, since it
comes after the activation."""


@dataclass(frozen=True)
class Point:
    """A tensor that dominates the logits.

    position: number of nodes that run before an exit here. spent: their cost.
    """

    value: ir.Value
    position: int
    spent: Spent

    @property
    def name(self) -> str:
        """The tensor's name."""
        return str(self.value.name)

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's static shape, batch axis included."""
        return () if self.value.shape is None else tuple(self.value.shape.numpy())


def candidate_points(task: Task, model: CostModel) -> list[Point]:
    """Points of a network where an exit could pay, in the order of computation."""
    return points_along(task.graph.inputs, list(task.graph), task.logits, model)


def points_along(
    inputs: Iterable[ir.Value], nodes: list[ir.Node], logits: ir.Value, model: CostModel
) -> list[Point]:
    """The same for straight-line `nodes` from `inputs` to `logits`, from the first work on."""
    spent = running_cost(nodes, model)
    whole = spent[-1].value
    order = {node: index for index, node in enumerate(nodes)}
    found: list[Point] = []
    for value in dominating_values(inputs, nodes, [logits]):
        producer = value.producer()
        if producer is None or value.dtype != ir.DataType.FLOAT or value is logits:
            continue
        position = _last_needed(value, order) + 1
        point = Point(value, position, spent[position])
        if not _does_work(nodes[:position]) or point.spent.value > LATEST * whole:
            continue
        if found and point.spent.value - found[-1].spent.value < SPACING * whole:
            found.pop()
        found.append(point)
    return found


def running_cost(nodes: list[ir.Node], model: CostModel) -> list[Spent]:
    """Cost of the first 0, 1, 2, ... nodes."""
    total = [Spent(0.0, 0.0)]
    for node in nodes:
        total.append(total[-1] + Spent(node_macs(node), model.node(node)))
    return total


def nodes_cost(nodes: list[ir.Node], model: CostModel) -> Spent:
    """Cost of some nodes."""
    return running_cost(nodes, model)[-1]


def _last_needed(value: ir.Value, order: dict[ir.Node, int]) -> int:
    """Index of the node that makes `value`; as it dominates, all before it are needed or unused."""
    producer = value.producer()
    return -1 if producer is None else order[producer]


def _does_work(nodes: list[ir.Node]) -> bool:
    """Whether anything was computed: a reshaped input is no feature."""
    return any(node_macs(node) for node in nodes)
