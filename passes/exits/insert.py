"""Insert exits into a straight-line Program: one block per exit, ended by an Exit terminator."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from offramp.compiler.ir import Annotations, Exit, Program, Return, Successor, Terminator
from offramp.compiler.ir.clone import clone_block, clone_nodes
from offramp.compiler.ir.draft import Draft, Edge, close
from offramp.passes.base import Pass, PassResult
from offramp.passes.exits.criteria import Criterion
from offramp.passes.exits.heads import HeadGraph
from offramp.passes.exits.task import Task, task_of
from offramp.passes.exits.writer import NodeWriter


@dataclass(frozen=True)
class ExitSpec:
    """One exit to insert.

    head: trained; its point is a tensor of the Program, found by name.
    threshold: leave if the score is no less. Minus infinity: all that arrive leave, the rest of
        the network is cut off. Infinity: nobody leaves, the answer only serves later ones.
    weight: of the answer before, added to this head's logits.
    rate, accuracy, reach: measured, for annotations.
    """

    head: HeadGraph
    criterion: Criterion
    threshold: float
    weight: float = 0.0
    reach: float | None = None
    rate: float | None = None
    accuracy: float | None = None


@dataclass(frozen=True)
class InsertExits(Pass):
    """Splits the network after the points of the exits and adds heads, scores and Exits.

    A head sits in the block in which its feature is computed; its answer is passed on as a block
    argument where a later answer builds on it, and so are tensors of layers that it shares with a
    later head.

    exits: in the order in which they are met; points never go back.
    final_weight: of the last exit's answer in the final answer.
    final_reach: probability that a sample gets to the end, if measured.
    final_accuracy: of those that do, if measured.
    """

    exits: tuple[ExitSpec, ...]
    final_weight: float = 0.0
    final_reach: float | None = None
    final_accuracy: float | None = None

    def call(self, program: Program) -> PassResult:
        """The Program with exits.

        Raises:
            NoExitsError: `program` is no straight-line classification.
        """
        if not self.exits:
            return PassResult(program, False)
        copy = clone_block(program.entry)
        copied = replace(program, blocks={copy.name: copy})
        drafts = list(_Builder(self, copied, task_of(copied)).drafts())
        blocks = close(drafts, program.opset_imports)
        return PassResult(replace(program, blocks=blocks), True)


class _Builder:
    """Writes one draft per exit, and the rest of the network."""

    def __init__(self, options: InsertExits, program: Program, task: Task) -> None:
        self._options = options
        self._program = program
        self._task = task
        self._values = {str(v.name): v for node in task.graph for v in node.outputs}
        self._answers: list[ir.Value] = []
        self._written: dict[ir.Value, ir.Value] = {}

    def drafts(self) -> Iterator[Draft]:
        """The blocks in order; the first binds the network's inputs."""
        nodes, done = list(self._task.graph), 0
        names = [f"exit{i}" for i in range(len(self._options.exits))] + ["final"]
        for (name, after), spec in zip(itertools.pairwise(names), self._options.exits, strict=True):
            point = self._values[spec.head.point.name]
            producer = point.producer()
            stop = done if producer is None else max(done, nodes.index(producer) + 1)
            yield self._exit(name, after, spec, nodes[done:stop], point)
            if spec.threshold == -np.inf:
                return
            done = stop
        yield self._final(nodes[done:])

    def _exit(
        self, name: str, after: str, spec: ExitSpec, before: list[ir.Node], point: ir.Value
    ) -> Draft:
        write = NodeWriter(self._program.opset_imports, name)
        logits, nodes = self._instance(spec.head, point, name)
        if spec.weight:
            logits = _combine(write, logits, self._answers[-1], spec.weight)
        self._answers.append(logits)
        answer = self._tail(write, logits)
        score = spec.criterion.emit(write, self._answers)
        facts = Annotations(spec.reach, spec.rate, spec.accuracy)
        every = spec.threshold == -np.inf
        first = len(self._answers) == 1
        return Draft(
            name,
            _with_dequantisations([*before, *nodes, *write.nodes]),
            (answer, score),
            () if every else (Edge(after),),
            _returns if every else _exits(spec.threshold, spec.criterion.name),
            bound=tuple(self._task.graph.inputs) if first else (),
            annotations=facts,
        )

    def _final(self, nodes: list[ir.Node]) -> Draft:
        weight = self._options.final_weight
        output = self._program.entry.operand(self._program.entry.terminator.operands[0])
        facts = Annotations(self._options.final_reach, None, self._options.final_accuracy)
        if not weight:
            nodes = _with_dequantisations(nodes)
            return Draft("final", nodes, (output,), (), _returns, annotations=facts)
        write = NodeWriter(self._program.opset_imports, "final")
        end = self._task.logits.producer()
        kept = nodes[: nodes.index(end) + 1] if end is not None else nodes
        logits = _combine(write, self._task.logits, self._answers[-1], weight)
        answer = self._tail(write, logits)
        nodes = _with_dequantisations([*kept, *write.nodes])
        return Draft("final", nodes, (answer,), (), _returns, annotations=facts)

    def _instance(
        self, head: HeadGraph, point: ir.Value, name: str
    ) -> tuple[ir.Value, list[ir.Node]]:
        """Copies of a head's nodes that read `point`, with names of their own; layers shared with
        an earlier head are there already."""
        written = self._written
        written[head.feature] = point
        fresh = [node for node in head.nodes if node.outputs[0] not in written]
        for node in fresh:
            for value in node.inputs:
                if value is not None and value.const_value is not None:
                    written.setdefault(value, _renamed(value, name))
        nodes = clone_nodes(fresh, written)
        for node in nodes:
            node.name = f"{name}/{node.name}"
            for value in node.outputs:
                value.name = f"{name}/{value.name}"
        return written[head.logits], nodes

    def _tail(self, write: NodeWriter, logits: ir.Value) -> ir.Value:
        """The network's own way from logits to the answer."""
        tail, quantiser = self._task.tail, self._task.quantiser
        if tail == "Softmax":
            scores = write.softmax(logits)
        else:
            scores = logits if tail is None else write.op(tail, logits, axis=-1)
        if quantiser is None:
            return scores
        constants = [value.const_value for value in quantiser.inputs[1:] if value is not None]
        data = [tensor.numpy() for tensor in constants if tensor is not None]
        copies = [write.constant(array, array.dtype) for array in data]
        return write.op("QuantizeLinear", scores, *copies)


def _with_dequantisations(nodes: list[ir.Node]) -> list[ir.Node]:
    """The nodes of a block, which dequantises for itself what earlier blocks computed.

    So integers pass from block to block, and a kernel that reads them takes its scale from here.
    """
    made = {value for node in nodes for value in node.outputs}
    reads = (value for node in nodes for value in node.inputs if value is not None)
    before = [v.producer() for v in reads if v not in made]
    own = [node for node in before if node is not None and node.op_type == "DequantizeLinear"]
    return [*dict.fromkeys(own), *nodes]


def _combine(write: NodeWriter, own: ir.Value, before: ir.Value, weight: float) -> ir.Value:
    scaled = before if weight == 1.0 else write.op("Mul", before, write.constant([weight]))
    return write.op("Add", own, scaled)


def _renamed(value: ir.Value, name: str) -> ir.Value:
    return ir.Value(
        name=f"{name}/{value.name}",
        type=value.type,
        shape=value.shape,
        const_value=value.const_value,
    )


def _exits(
    threshold: float, criterion: str
) -> Callable[[tuple[int, ...], tuple[Successor, ...]], Terminator]:
    def finish(operands: tuple[int, ...], successors: tuple[Successor, ...]) -> Terminator:
        answer, score = operands
        return Exit((answer,), score, threshold, criterion, successors[0])

    return finish


def _returns(operands: tuple[int, ...], successors: tuple[Successor, ...]) -> Terminator:
    """The end of the network; a score that is there becomes the confidence."""
    del successors
    return Return(operands[:1], operands[1] if len(operands) > 1 else None)
