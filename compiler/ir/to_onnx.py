"""Write a Program as one valid ONNX model of nested `If`s, which onnxruntime runs.

Weights live in the branch that uses them: outer-scope weights cost onnxruntime half of its layout
optimisations. `If` decides once for all samples, so the model has batch 1; `loop=True` wraps it in
one `Loop` over samples.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import onnx_ir as ir

from offramp.compiler.errors import InternalError, UserError
from offramp.compiler.ir import onnx_form as form
from offramp.compiler.ir.cfg import joins
from offramp.compiler.ir.clone import clone_nodes, clone_value
from offramp.compiler.ir.names import make_names_unique
from offramp.compiler.ir.onnx_scope import Scope, tensors_of_several_blocks
from offramp.compiler.ir.program import Block, Program
from offramp.compiler.ir.terminators import (
    Branch,
    Exit,
    Jump,
    Return,
    Successor,
    Switch,
)

IR_VERSION = 13
"""The newest file version that onnxruntime 1.31 reads."""


def to_onnx(program: Program, *, loop: bool = False) -> Any:
    """The Program as an `onnx.ModelProto`.

    Outputs are the Program's, and where it has exits also `exit_index` (int64, number of the exit
    taken, final answer = number of exits) and `confidence` (float32, the score of the exit taken;
    NaN for a final answer without score), each of shape [1] for one sample.

    Args:
        program: a verified Program.
        loop: inputs get a sample axis of free length N (the batch axis, or a new leading axis for
            a Program that is not batched) and outputs are stacked along it.

    Raises:
        UserError: control flow nests deeper than ONNX files can.
    """
    model = to_model(program, loop=loop)
    return ir.to_proto(model)


def to_model(program: Program, *, loop: bool = False) -> ir.Model:
    """Like `to_onnx`, as an `onnx_ir.Model`."""
    writer = _Writer(program)
    graph = writer.write_loop() if loop else writer.write()
    facts = {form.BATCHED: json.dumps(program.batched)}
    model = ir.Model(graph, ir_version=IR_VERSION, producer_name="offramp", metadata_props=facts)
    make_names_unique(model)
    writer.record_arguments()
    return model


class _Writer:
    """Emits blocks into nested scopes, substituting arguments for parameters."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._joins = joins(program)
        self._exit_index = {block.name: i for i, block in enumerate(program.exits)}
        self._top = Scope()
        self._outermost = tensors_of_several_blocks(program, form.SHARED_BYTES)
        self._captured: list[tuple[ir.Node, list[list[ir.Value]]]] = []

    def write(self) -> ir.Graph:
        inputs = [clone_value(value) for value in self._program.inputs]
        results = self._chain(self._program.entry.name, inputs, self._top, None)
        return self._top_graph(inputs, results)

    def write_loop(self) -> ir.Graph:
        from offramp.compiler.ir.onnx_loop import loop_over_samples

        def per_sample(samples: list[ir.Value], body: Scope) -> list[ir.Value]:
            return self._chain(self._program.entry.name, samples, body, None)

        inputs, results = loop_over_samples(self._program, self._top, per_sample)
        return self._top_graph(inputs, results)

    def record_arguments(self) -> None:
        """Note which values each branch captures; after the values have their final names."""
        for node, per_successor in self._captured:
            names = [[value.name for value in values] for values in per_successor]
            node.metadata_props[form.ARGUMENTS] = json.dumps(names)

    def _top_graph(self, inputs: list[ir.Value], results: list[ir.Value]) -> ir.Graph:
        names = list(self._program.output_names)
        if self._exit_index:
            names += [form.EXIT_INDEX_OUTPUT, form.CONFIDENCE_OUTPUT]
        marks = form.marks(self._program.entry, form.PASS)
        outputs = self._top.own(results, marks)
        for value, name in zip(outputs, names, strict=True):
            value.name = name
        graph = self._top.graph(self._program.name, inputs, outputs)
        graph.opset_imports.update(self._program.opset_imports)
        return graph

    def _chain(
        self, name: str, arguments: list[ir.Value], scope: Scope, stop: str | None
    ) -> list[ir.Value]:
        """Emit blocks from `name` on; the arguments of `stop`, or the answer if there is none."""
        while name != stop:
            block = self._program.blocks[name]
            operands = self._body(block, arguments, scope)
            match block.terminator:
                case Return() as end:
                    return self._answer(block, end, operands, scope)
                case Exit() as end:
                    return self._exit(block, end, operands, scope)
                case Jump(to):
                    name = to.block
                    arguments = [
                        scope.node("Identity", [operands[a]], form.marks(block, form.JUMP, (to,)))
                        for a in to.args
                    ]
                case Branch() as end:
                    name = self._joins[block.name]
                    arguments = self._branch(block, end, operands, scope)
                case Switch() as end:
                    name = self._joins[block.name]
                    arguments = self._switch(block, end, operands, scope)
        return arguments

    def _body(self, block: Block, arguments: list[ir.Value], scope: Scope) -> list[ir.Value]:
        mapping = dict(zip(block.parameters, arguments, strict=True))
        for value in block.graph.initializers.values():
            if not (value.uses() or value.is_graph_output()):
                continue
            outside = id(value.const_value) in self._outermost
            mapping[value] = (self._top if outside else scope).constant(value)
        scope.nodes.extend(clone_nodes(block.graph, mapping, form.marks(block)))
        return [mapping[value] for value in block.graph.outputs]

    def _answer(
        self, block: Block, end: Return, operands: list[ir.Value], scope: Scope
    ) -> list[ir.Value]:
        values = [operands[v] for v in end.values]
        if not self._exit_index:
            return values
        score = None if end.confidence is None else operands[end.confidence]
        index = len(self._exit_index)
        return [*values, *_provenance(scope, form.marks(block, form.ANSWER), index, score)]

    def _exit(
        self, block: Block, end: Exit, operands: list[ir.Value], scope: Scope
    ) -> list[ir.Value]:
        score = operands[end.score]
        marks = form.marks(block, form.EXIT, end.successors)
        marks |= {form.CRITERION: end.criterion, form.THRESHOLD: repr(end.threshold)}
        limit = scope.scalar(end.threshold, _dtype(score), f"{block.name}_threshold")
        leave = scope.node("GreaterOrEqual", [score, limit], marks)
        taken = Scope(scope)
        answer = form.marks(block, form.ANSWER)
        results = [operands[v] for v in end.values]
        results += _provenance(taken, answer, self._exit_index[block.name], score)
        then = taken.graph(f"{block.name}_exit", [], taken.own(results, answer))
        go_on = self._arm(block, end.else_, operands, scope, None)
        outputs = scope.fork(leave, then, go_on, marks)
        self._capture(outputs, end.successors, operands)
        return outputs

    def _branch(
        self, block: Block, end: Branch, operands: list[ir.Value], scope: Scope
    ) -> list[ir.Value]:
        join = self._joins[block.name]
        marks = form.marks(block, form.BRANCH, end.successors) | {form.JOIN: join}
        then = self._arm(block, end.then, operands, scope, join)
        else_ = self._arm(block, end.else_, operands, scope, join)
        outputs = scope.fork(operands[end.when], then, else_, marks)
        self._capture(outputs, end.successors, operands)
        return self._as_parameters(outputs, join)

    def _switch(
        self, block: Block, end: Switch, operands: list[ir.Value], scope: Scope
    ) -> list[ir.Value]:
        join = self._joins[block.name]
        marks = form.marks(block, form.SWITCH, end.cases) | {form.JOIN: join}
        scopes = [scope]
        for _ in end.cases[2:]:
            scopes.append(Scope(scopes[-1]))
        rest = self._arm(block, end.cases[-1], operands, scopes[-1], join)
        outputs: list[ir.Value] = []
        for number in reversed(range(len(end.cases) - 1)):
            inner = scopes[number]
            role = marks if number == 0 else form.marks(block, form.CASE)
            chosen = self._at_most(operands[end.index], number, inner, role)
            then = self._arm(block, end.cases[number], operands, inner, join)
            outputs = inner.fork(chosen, then, rest, role)
            rest = inner.graph(f"{block.name}_rest", [], outputs) if number else rest
        self._capture(outputs, end.cases, operands)
        return self._as_parameters(outputs, join)

    def _at_most(
        self, index: ir.Value, number: int, scope: Scope, marks: dict[str, str]
    ) -> ir.Value:
        """`index <= number`: nested from case 0 on, so that indices are clamped to the cases."""
        limit = scope.scalar(number, _dtype(index), "case")
        chosen = scope.node("LessOrEqual", [index, limit], marks)
        chosen.dtype = ir.DataType.BOOL
        return chosen

    def _arm(
        self,
        block: Block,
        successor: Successor,
        operands: list[ir.Value],
        scope: Scope,
        stop: str | None,
    ) -> ir.Graph:
        inner = Scope(scope)
        if inner.depth > form.MAX_NESTING:
            raise UserError(
                f"program {self._program.name!r} nests control flow deeper than {form.MAX_NESTING} "
                f"levels at block {block.name!r}, more than ONNX readers accept: use fewer exits"
            )
        arguments = [operands[a] for a in successor.args]
        results = self._chain(successor.block, arguments, inner, stop)
        return inner.graph(successor.block, [], inner.own(results, form.marks(block, form.PASS)))

    def _as_parameters(self, outputs: list[ir.Value], join: str) -> list[ir.Value]:
        for value, parameter in zip(outputs, self._program.blocks[join].parameters, strict=True):
            value.name = parameter.name
        return outputs

    def _capture(
        self, outputs: list[ir.Value], successors: tuple[Successor, ...], operands: list[ir.Value]
    ) -> None:
        node = outputs[0].producer()
        if node is not None:
            captured = [[operands[a] for a in successor.args] for successor in successors]
            self._captured.append((node, captured))


def _provenance(
    scope: Scope, marks: dict[str, str], index: int, score: ir.Value | None
) -> list[ir.Value]:
    """`exit_index` and `confidence` of one answer, each of shape [1]."""
    exit_index = scope.literal(np.array([index], np.int64), form.EXIT_INDEX_OUTPUT, marks)
    if score is None:
        nan = np.array([np.nan], np.float32)
        return [exit_index, scope.literal(nan, form.CONFIDENCE_OUTPUT, marks)]
    one = scope.literal(np.array([1], np.int64), "one", marks)
    flat = scope.node("Reshape", [score, one], marks | {form.ROLE: form.CONFIDENCE})
    flat.dtype, flat.shape = _dtype(score), ir.Shape([1])
    confidence = scope.node("Cast", [flat], marks, [ir.AttrInt64("to", ir.DataType.FLOAT)])
    confidence.dtype, confidence.shape = ir.DataType.FLOAT, ir.Shape([1])
    return [exit_index, confidence]


def _dtype(value: ir.Value) -> ir.DataType:
    if value.dtype is None:
        raise InternalError(f"value {value.name!r} has no type: verify the Program first")
    return value.dtype
