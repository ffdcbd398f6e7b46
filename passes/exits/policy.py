"""Policies: which heads answer in which order, when a sample leaves, and what that costs.

A policy's answers build on each other where that pays, as in Zero Time Waste (Wolczyk et al. 2021):
the logits of an answer are the head's own plus a weight times those of the answer before; so are
the final answer's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from offramp.cost_models.base import CostModel
from offramp.passes.exits.candidates import nodes_cost
from offramp.passes.exits.criteria import Criterion
from offramp.passes.exits.heads import HeadGraph
from offramp.passes.exits.result import Spent
from offramp.passes.exits.task import Task
from offramp.passes.exits.writer import NodeWriter

Logits = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Stage:
    """One exit of a policy.

    head: index into the heads considered. criterion: fitted. weight: of the answer before.
    """

    head: int
    criterion: Criterion
    weight: float = 0.0


@dataclass(frozen=True)
class Policy:
    """Exits in the order in which they are met, and the weight of the last one's answer in the
    final answer (0: the final answer is the full network's)."""

    stages: tuple[Stage, ...]
    final_weight: float = 0.0


@dataclass(frozen=True)
class Observed:
    """What a policy's answers and scores are on N samples, whatever the thresholds.

    scores: [exits, N]. right: [exits + 1, N], the last row is the final answer's. full: [N], the
    network given is right. spent: by a sample that leaves at each exit; last: the final answer.
    """

    scores: npt.NDArray[np.float32]
    right: npt.NDArray[np.bool_]
    full: npt.NDArray[np.bool_]
    spent: tuple[Spent, ...]

    def taken(self, thresholds: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """Index of the exit taken, [N, settings]; `thresholds` is [settings, exits]."""
        passes = self.scores.T[:, None, :].astype(np.float64) >= thresholds[None]
        last = np.ones((*passes.shape[:2], 1), np.bool_)
        return np.asarray(np.concatenate([passes, last], axis=2).argmax(axis=2), np.int64)

    def early(self, taken: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Whether the answer given is right, [N, settings]."""
        return np.asarray(np.take_along_axis(self.right.T, taken, axis=1), np.bool_)

    def expected(self, taken: npt.NDArray[np.int64]) -> list[Spent]:
        """Mean cost of a sample under each setting."""
        exits = range(len(self.spent))
        rates = np.stack([(taken == i).mean(axis=0) for i in exits], axis=1)
        return [
            Spent(
                sum(float(r) * s.macs for r, s in zip(row, self.spent, strict=True)),
                sum(float(r) * s.value for r, s in zip(row, self.spent, strict=True)),
            )
            for row in rates
        ]

    def values(self) -> npt.NDArray[np.float64]:
        """Cost by exit in the model's unit, [exits + 1]."""
        return np.array([spent.value for spent in self.spent])

    def rows(self, index: npt.NDArray[np.int64]) -> Observed:
        """The same for some of the samples."""
        return Observed(self.scores[:, index], self.right[:, index], self.full[index], self.spent)


def answers(policy: Policy, heads: Sequence[Logits]) -> list[Logits]:
    """Logits of every exit's answer."""
    found: list[Logits] = []
    for stage in policy.stages:
        own = heads[stage.head]
        if stage.weight:
            own = np.asarray(own + np.float32(stage.weight) * found[-1], np.float32)
        found.append(own)
    return found


def observe(
    policy: Policy,
    heads: Sequence[Logits],
    full: Logits,
    *,
    reference: npt.NDArray[np.int64],
    truth: npt.NDArray[np.int64],
    spent: tuple[Spent, ...],
) -> Observed:
    """Answers and scores of a policy.

    Args:
        policy: its stages refer to `heads`.
        heads: logits of all heads, [N, classes] each.
        full: logits of the final answer before earlier answers are added.
        reference: classes [N] that the network given says. truth: classes [N].
        spent: see `policy_costs`.
    """
    given = answers(policy, heads)
    scores = [
        stage.criterion.score(given[: position + 1]) for position, stage in enumerate(policy.stages)
    ]
    final = full + np.float32(policy.final_weight) * given[-1] if policy.final_weight else full
    right = [logits.argmax(axis=1) == truth for logits in (*given, final)]
    return Observed(np.stack(scores), np.stack(right), reference == truth, spent)


@dataclass(frozen=True)
class Prices:
    """What costs of policies are added up from.

    graphs: the heads. whole: cost of the full network. step: of going on to one more block.
    """

    task: Task
    opsets: dict[str, int]
    model: CostModel
    graphs: tuple[HeadGraph, ...]
    whole: Spent
    step: float

    @cached_property
    def heads(self) -> tuple[Spent, ...]:
        """Cost of each head by itself."""
        return tuple(self._cost(graph.nodes) for graph in self.graphs)

    @cached_property
    def _nodes(self) -> dict[ir.Node, Spent]:
        nodes = {node for graph in self.graphs for node in graph.nodes}
        return {node: nodes_cost([node], self.model) for node in nodes}

    def _cost(self, nodes: Iterable[ir.Node]) -> Spent:
        return sum((self._nodes[node] for node in nodes), Spent(0.0, 0.0))

    def costs(self, policy: Policy) -> tuple[Spent, ...]:
        """Cost of a sample that leaves at each exit, and of one that stays to the end.

        Layers that several heads share are paid by the first.
        """
        extra, found, run = Spent(0.0, 0.0), list[Spent](), set[ir.Node]()
        for position, stage in enumerate(policy.stages):
            nodes = self.graphs[stage.head].nodes
            extra += self._cost(node for node in nodes if node not in run)
            extra += self._verdict(policy, position) + Spent(0.0, self.step)
            run.update(nodes)
            found.append(self.graphs[stage.head].point.spent + extra)
        return (*found, self.whole + extra + self._final(policy))

    def _verdict(self, policy: Policy, position: int) -> Spent:
        """Cost of an exit's answer and score, given the logits of its head."""
        write = NodeWriter(self.opsets, "price")
        given = [_stand_in(self.task.logits) for _ in policy.stages[: position + 1]]
        if policy.stages[position].weight:
            scaled = write.op("Mul", given[position - 1], write.constant([1.0]))
            given[position] = write.op("Add", given[position], scaled)
        if self.task.tail is not None:
            write.softmax(given[position])
        policy.stages[position].criterion.emit(write, given)
        return nodes_cost(write.nodes, self.model)

    def _final(self, policy: Policy) -> Spent:
        if not policy.final_weight:
            return Spent(0.0, 0.0)
        write = NodeWriter(self.opsets, "price")
        scaled = write.op("Mul", _stand_in(self.task.logits), write.constant([1.0]))
        write.op("Add", _stand_in(self.task.logits), scaled)
        return nodes_cost(write.nodes, self.model)


def _stand_in(logits: ir.Value) -> ir.Value:
    return ir.Value(name="logits", type=logits.type, shape=logits.shape)
