"""What a network decides: where its class scores are, or why it cannot have exits."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from offramp.compiler.ir import Program, Return

TAILS = ("Softmax", "LogSoftmax")
"""Operators after the logits that keep the order of the classes."""


@dataclass(frozen=True)
class Task:
    """A classification by a straight-line network.

    logits: [1, classes], before the softmax at the end, if there is one.
    tail: operator type that turns logits into scores; None if the logits are the scores.
    quantiser: the QuantizeLinear that turns scores into the answer; None if they are the answer.
    """

    graph: ir.Graph
    logits: ir.Value
    tail: str | None
    classes: int
    quantiser: ir.Node | None = None


class NoExitsError(Exception):
    """Exits are refused for a reason that the user should read; compilation goes on."""


def task_of(program: Program) -> Task:
    """The decision that `program` takes.

    Raises:
        NoExitsError: it has control flow already, several outputs, or no class scores.
    """
    if len(program.blocks) > 1 or not isinstance(program.entry.terminator, Return):
        raise NoExitsError("the network has control flow already: exits go into straight lines")
    if not program.batched:
        raise NoExitsError("the network has no batch axis: there are no samples that could leave")
    if len(program.output_names) != 1:
        names = ", ".join(program.output_names)
        raise NoExitsError(
            f"the network has {len(program.output_names)} outputs ({names}): an "
            "early answer needs a single output of class scores"
        )
    output = program.entry.operand(program.entry.terminator.values[0])
    quantiser = _quantiser(output)
    scores = output if quantiser is None or quantiser.inputs[0] is None else quantiser.inputs[0]
    classes = _classes(scores)
    producer = scores.producer()
    if producer is not None and producer.op_type in TAILS and producer.inputs[0] is not None:
        graph, logits = program.entry.graph, producer.inputs[0]
        return Task(graph, logits, producer.op_type, classes, quantiser)
    return Task(program.entry.graph, scores, None, classes, quantiser)


def _quantiser(output: ir.Value) -> ir.Node | None:
    """The quantisation, by one scale that is known, that computes the answer."""
    node = output.producer()
    if node is None or node.op_type != "QuantizeLinear":
        return None
    scales = [None if value is None else value.const_value for value in node.inputs[1:]]
    return node if all(scale is not None and scale.size == 1 for scale in scales) else None


def _classes(output: ir.Value) -> int:
    shape = () if output.shape is None else tuple(output.shape.numpy())
    if len(shape) != 2 or shape[1] < 2 or output.dtype != ir.DataType.FLOAT:
        raise NoExitsError(
            f"output {output.name!r} is {output.dtype} {list(shape)}: an early answer needs "
            "float32 class scores of shape [1, classes]; this looks like a regression"
        )
    return int(shape[1])
