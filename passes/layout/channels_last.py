"""Move activations to channels-last layout, as vector units and microcontrollers want them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import onnx_ir as ir

from offramp.compiler.ir import (
    Block,
    Branch,
    Exit,
    Jump,
    Program,
    Return,
    Successor,
    Switch,
    Terminator,
)
from offramp.compiler.ir.fingerprint import fingerprint
from offramp.passes.base import Pass, PassResult
from offramp.passes.layout.block_rewriter import BlockRewriter


@dataclass(frozen=True)
class ChannelsLast(Pass):
    """op(x) = first(last(op(first(last(x))))) for every spatial operator.

    `last` moves the channel axis to the end, `first` back to position 1. The inner pair stays
    with the operator, which a back end compiles as one channels-last kernel; the outer pair
    spreads from there, through elementwise operators, concatenations, reductions and block
    parameters, so that transposes that move data remain only where a network really changes its
    mind. Inputs and answers keep their layout.
    """

    def call(self, program: Program) -> PassResult:
        """Rewrite all blocks, predecessors first."""
        rewriters: dict[str, BlockRewriter] = {}
        for block in program.blocks.values():
            rewriters[block.name] = BlockRewriter(block, _layouts(program, block, rewriters))
            rewriters[block.name].rewrite()
        blocks = {name: _finish(rewriter, rewriters) for name, rewriter in rewriters.items()}
        result = replace(program, blocks=blocks)
        if fingerprint(result) == fingerprint(program):
            return PassResult(program, modified=False)
        return PassResult(result, modified=True)


def _layouts(program: Program, block: Block, done: dict[str, BlockRewriter]) -> tuple[bool, ...]:
    """Which parameters of `block` every predecessor can pass channels-last."""
    arguments = [
        (done[source.name], source.arguments(successor))
        for source, successor in program.edges()
        if successor.block == block.name
    ]
    return tuple(
        bool(arguments) and all(rewriter.has_last(values[i]) for rewriter, values in arguments)
        for i in range(len(block.parameters))
    )


def _finish(rewriter: BlockRewriter, rewriters: dict[str, BlockRewriter]) -> Block:
    """The new block; its edges pass what the successors' parameters expect."""
    block = rewriter.block
    outputs: list[ir.Value] = []

    def place(position: int) -> int:
        outputs.append(rewriter.in_first(block.operand(position)))
        return len(outputs) - 1

    def forward(successor: Successor) -> Successor:
        start = len(outputs)
        for position, is_last in zip(
            successor.args, rewriters[successor.block].layouts, strict=True
        ):
            value = block.operand(position)
            outputs.append(rewriter.in_last(value) if is_last else rewriter.in_first(value))
        return Successor(successor.block, tuple(range(start, len(outputs))))

    terminator = _rebuilt(block.terminator, place, forward)
    return replace(block, graph=rewriter.finish(outputs), terminator=terminator)


def _rebuilt(
    terminator: Terminator,
    place: Callable[[int], int],
    forward: Callable[[Successor], Successor],
) -> Terminator:
    """The same terminator over operands put in place anew, in the order of its fields."""
    match terminator:
        case Return(values, confidence):
            placed = tuple(place(p) for p in values)
            return Return(placed, None if confidence is None else place(confidence))
        case Exit(values, score):
            placed = tuple(place(p) for p in values)
            return replace(
                terminator, values=placed, score=place(score), else_=forward(terminator.else_)
            )
        case Branch(when, then, else_):
            return Branch(place(when), forward(then), forward(else_))
        case Switch(index, cases):
            return Switch(place(index), tuple(forward(case) for case in cases))
        case Jump(to):
            return Jump(forward(to))
