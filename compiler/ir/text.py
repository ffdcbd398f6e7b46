"""The textual form of a Program: readable, stable, and parsed back by `parser.from_text`.

    program tiny opset 18 batched -> (y)

    entry(%x: float[1,4]) {reach = 1.0}:
      weight %w: float[4] = [1.0, 2.0, 3.0, 4.0]
      %h: float[1,4] = Mul(%x, %w) as "scale"
      %s: float[1,1] = ReduceMax(%h) {keepdims = 1}
      exit (%h) when %s >= 0.5 by max_softmax else rest(%h)

    rest(%p: float[1,4]):
      %q: float[1,4] = Neg(%p)
      return (%q)

Node metadata and doc strings are not part of it. Operands appear where the terminator uses them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Literal

import onnx_ir as ir

from offramp.compiler.ir.literals import (
    attribute_text,
    bare_name,
    float_text,
    tensor_text,
    type_text,
    typed_value,
    value_name,
)
from offramp.compiler.ir.program import Block, Program
from offramp.compiler.ir.terminators import Branch, Exit, Jump, Return, Successor, Switch

Weights = Literal["hash", "inline"]


def to_text(program: Program, *, weights: Weights = "hash") -> str:
    """The Program as text.

    Args:
        program: any Program, well formed or not.
        weights: "hash" writes tensors of more than 16 elements as SHA-256 (the text is then read
            back with those tensors at hand), "inline" writes every element.
    """
    inline = weights == "inline"
    blocks = ["\n".join(_block(block, inline)) for block in program.blocks.values()]
    return "\n\n".join([_header(program), *blocks]) + "\n"


def _header(program: Program) -> str:
    opsets = [
        f"opset {version}" if not domain else f"opset {bare_name(domain)} {version}"
        for domain, version in program.opset_imports.items()
    ]
    batched = ["batched"] if program.batched else []
    outputs = ", ".join(bare_name(name) for name in program.output_names)
    return " ".join(["program", bare_name(program.name), *opsets, *batched, f"-> ({outputs})"])


def _block(block: Block, inline: bool) -> Iterator[str]:
    parameters = ", ".join(typed_value(value) for value in block.parameters)
    facts = [
        f"{k} = {float_text(v)}" for k, v in asdict(block.annotations).items() if v is not None
    ]
    annotations = f" {{{', '.join(facts)}}}" if facts else ""
    yield f"{bare_name(block.name)}({parameters}){annotations}:"
    for value in block.graph.initializers.values():
        yield f"  weight {_weight(value, inline)}"
    for node in block.graph:
        yield f"  {_node(node, inline)}"
    yield f"  {_terminator(block)}"


def _weight(value: ir.Value, inline: bool) -> str:
    tensor = value.const_value
    if tensor is None:
        return f"{typed_value(value)} = missing"
    kind = type_text(tensor.dtype, tensor.shape)
    return f"{value_name(value)}: {kind} = {tensor_text(tensor, inline=inline)}"


def _node(node: ir.Node, inline: bool) -> str:
    outputs = ", ".join(typed_value(value) for value in node.outputs)
    domain = f"{bare_name(node.domain)}." if node.domain else ""
    inputs = ", ".join(value_name(value) for value in node.inputs)
    attributes = [attribute_text(a, inline=inline) for a in node.attributes.values()]
    braces = f" {{{', '.join(attributes)}}}" if attributes else ""
    name = f" as {bare_name(node.name)}" if node.name else ""
    return f"{outputs} = {domain}{node.op_type}({inputs}){braces}{name}"


def _terminator(block: Block) -> str:
    match block.terminator:
        case Return(values, confidence):
            score = "" if confidence is None else f" confidence {_operand(block, confidence)}"
            return f"return ({_operands(block, values)}){score}"
        case Exit(values, score, threshold, criterion, else_):
            return (
                f"exit ({_operands(block, values)}) when {_operand(block, score)} >= "
                f"{float_text(threshold)} by {bare_name(criterion)} else {_successor(block, else_)}"
            )
        case Branch(when, then, else_):
            return (
                f"branch {_operand(block, when)} then {_successor(block, then)} "
                f"else {_successor(block, else_)}"
            )
        case Switch(index, cases):
            listed = ", ".join(_successor(block, case) for case in cases)
            return f"switch {_operand(block, index)} of {listed}"
        case Jump(to):
            return f"jump {_successor(block, to)}"


def _successor(block: Block, successor: Successor) -> str:
    return f"{bare_name(successor.block)}({_operands(block, successor.args)})"


def _operands(block: Block, positions: tuple[int, ...]) -> str:
    return ", ".join(_operand(block, position) for position in positions)


def _operand(block: Block, position: int) -> str:
    return value_name(block.operand(position))
