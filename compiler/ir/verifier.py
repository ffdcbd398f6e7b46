"""The rules that every Program keeps; passes are checked against them after they ran."""

from __future__ import annotations

import math
from collections.abc import Iterator

import onnx_ir as ir

from offramp.compiler.errors import InternalError
from offramp.compiler.ir import onnx_form as form
from offramp.compiler.ir.program import Block, Program
from offramp.compiler.ir.terminators import Branch, Exit, Return, Successor, Switch
from offramp.compiler.ir.verify_block import block_violations
from offramp.compiler.ir.verify_flow import order_violations, region_violations

SHOWN = 10
"""How many violations one message lists."""

_FLOATS = (
    ir.DataType.FLOAT,
    ir.DataType.DOUBLE,
    ir.DataType.FLOAT16,
    ir.DataType.BFLOAT16,
)
_BOOLEAN = (ir.DataType.BOOL,)
_INDICES = (ir.DataType.INT64, ir.DataType.INT32)


def verify(program: Program) -> None:
    """Refuse a Program that breaks a rule of the IR.

    Raises:
        InternalError: lists what is wrong, with block, value and node names.
    """
    found = violations(program)
    if found:
        more = [f"... and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
        lines = "\n  ".join([*found[:SHOWN], *more])
        raise InternalError(f"program {program.name!r} is malformed:\n  {lines}")


def violations(program: Program) -> list[str]:
    """What is wrong with a Program, one sentence each; empty for a right one.

    Later rules take earlier ones for granted, so the first group that finds something is all that
    is reported.
    """
    groups = (_header, _blocks, order_violations, _operands, _edges, _answers, region_violations)
    for group in groups:
        if found := list(group(program)):
            return found
    return []


def _header(program: Program) -> Iterator[str]:
    if not program.name.isidentifier():
        yield f"the name {program.name!r} is no identifier"
    if not program.blocks:
        yield "there are no blocks"
        return
    for name, block in program.blocks.items():
        if not name or name != block.name:
            yield f"block {block.name!r} is registered as {name!r}"
    names = list(program.output_names)
    if program.exits:
        names += [form.EXIT_INDEX_OUTPUT, form.CONFIDENCE_OUTPUT]
    names += [str(value.name) for value in program.inputs]
    if not program.output_names or not all(names) or len(set(names)) != len(names):
        yield f"names of inputs and outputs must be distinct and not empty, found {names}"


def _blocks(program: Program) -> Iterator[str]:
    owners: dict[ir.Graph, str] = {}
    for block in program.blocks.values():
        if block.graph in owners:
            yield f"blocks {owners[block.graph]!r} and {block.name!r} share one graph"
        owners[block.graph] = block.name
        for problem in block_violations(block, program.opset_imports):
            yield f"block {block.name!r}: {problem}"


def _operands(program: Program) -> Iterator[str]:
    for block in program.blocks.values():
        count = len(block.graph.outputs)
        wrong = [p for p in block.terminator.operands if not 0 <= p < count]
        if wrong:
            yield f"block {block.name!r} has {count} operands, its terminator reads {wrong}"
            continue
        for problem in _terminator(block):
            yield f"block {block.name!r}: {problem}"


def _terminator(block: Block) -> Iterator[str]:
    match block.terminator:
        case Exit() as end:
            yield from _one_element(block.operand(end.score), "the score", _FLOATS)
            if math.isnan(end.threshold):
                yield "the threshold is not a number"
            if not end.criterion:
                yield "the exit names no criterion"
        case Return(confidence=int(position)):
            yield from _one_element(block.operand(position), "the confidence", _FLOATS)
        case Branch() as end:
            yield from _one_element(block.operand(end.when), "the condition", _BOOLEAN)
        case Switch() as end:
            yield from _one_element(block.operand(end.index), "the index", _INDICES)
            if len(end.cases) < 2:
                yield f"a switch needs two cases or more, found {len(end.cases)}"
        case _:
            pass


def _edges(program: Program) -> Iterator[str]:
    for block, successor in program.edges():
        for problem in _edge(block, successor, program.blocks[successor.block]):
            yield f"edge {block.name!r} to {successor.block!r}: {problem}"


def _edge(block: Block, successor: Successor, to: Block) -> Iterator[str]:
    passed = block.arguments(successor)
    if len(passed) != len(to.parameters):
        yield f"{len(passed)} arguments for {len(to.parameters)} parameters"
        return
    for argument, parameter in zip(passed, to.parameters, strict=True):
        if _signature(argument) != _signature(parameter):
            yield (
                f"argument {argument.name!r} is {_signature(argument)}, parameter "
                f"{parameter.name!r} is {_signature(parameter)}"
            )


def _answers(program: Program) -> Iterator[str]:
    expected: list[str] = []
    for block in program.blocks.values():
        if not isinstance(block.terminator, Exit | Return):
            continue
        found = [_signature(value) for value in block.operands(block.terminator.values)]
        if len(found) != len(program.output_names):
            expected_count = len(program.output_names)
            yield f"block {block.name!r} answers {len(found)} of {expected_count} outputs"
        elif found != (expected or found):
            yield f"block {block.name!r} answers {found}, other blocks {expected}"
        expected = expected or found


def _signature(value: ir.Value) -> str:
    return f"{value.dtype}{list(value.shape or ())}"


def _one_element(value: ir.Value, what: str, accepted: tuple[ir.DataType, ...]) -> Iterator[str]:
    size = math.prod(value.shape.numpy()) if value.shape is not None else 0
    if size != 1 or value.dtype not in accepted:
        kinds = " or ".join(str(dtype) for dtype in accepted)
        yield f"{what} {value.name!r} is {_signature(value)}: expected one element of {kinds}"
