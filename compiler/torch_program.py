"""A Program as a torch module: all exits answer for all samples, and all of it can be trained."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import onnx_ir as ir
import torch
from torch import Tensor, nn

from offramp.compiler.ir import Block, Branch, Exit, Program, Return, Successor, Switch
from offramp.compiler.torch_module import GraphModule, store


@dataclass(frozen=True)
class Answer:
    """What a Program answers at one place.

    block: the block that ends there.
    values: the network's outputs as given there, `[N, ...]` each.
    score: `[N]`, for exits and for a final answer that has a confidence; else None.
    reached: `[N]` bool, False where a Branch or Switch led around the block; None: all samples.
    """

    block: str
    values: tuple[Tensor, ...]
    score: Tensor | None
    reached: Tensor | None


@dataclass(frozen=True)
class _Arrival:
    """Arguments that reach a block, and which samples bring them (None: all)."""

    arguments: tuple[Tensor, ...]
    mask: Tensor | None


class ProgramModule(nn.Module):
    """A whole Program for training: every exit answers for every sample, whatever its score.

    graphs: one GraphModule per block, by name; tensors that blocks share are one
        Parameter. Both ways of a Branch run, and the join takes each sample's own.
    """

    def __init__(self, program: Program) -> None:
        """Read `program`, which is kept by reference and must not change afterwards.

        Raises:
            UnsupportedError: an operator has no torch function; names it and its node.
        """
        super().__init__()
        self.program = program
        shared: dict[int, nn.Parameter] = {}
        self.graphs = {
            name: GraphModule(block.graph, batched=program.batched, shared=shared)
            for name, block in program.blocks.items()
        }
        self.blocks = nn.ModuleList(self.graphs.values())

    def forward(self, *inputs: Tensor) -> tuple[Answer, ...]:
        """All answers: of every exit in order, then of the Return.

        Raises:
            UserError: the number or the shape of the inputs is wrong.
        """
        arrivals = {self.program.entry.name: _Arrival(inputs, None)}
        answers = []
        for name, block in self.program.blocks.items():
            arrival = arrivals.pop(name)
            operands = self.graphs[name].forward(*arrival.arguments)
            answer = _answer(block, operands, arrival.mask, self.program.batched)
            if answer is not None:
                answers.append(answer)
            for successor, taken in _ways(block, operands, self.program.batched):
                passed = _Arrival(
                    tuple(operands[position] for position in successor.args),
                    _both(arrival.mask, taken),
                )
                arrivals[successor.block] = _joined(arrivals.get(successor.block), passed)
        return tuple(answers)

    def store(self) -> Program:
        """The Program with the trained weights; blocks go on sharing tensors, never values."""
        stored: dict[int, ir.TensorProtocol] = {}
        blocks = {
            name: replace(block, graph=store(self.graphs[name], block.graph, stored))
            for name, block in self.program.blocks.items()
        }
        return replace(self.program, blocks=blocks)


def _answer(
    block: Block, operands: tuple[Tensor, ...], reached: Tensor | None, batched: bool
) -> Answer | None:
    terminator = block.terminator
    if isinstance(terminator, Exit):
        score: int | None = terminator.score
    elif isinstance(terminator, Return):
        score = terminator.confidence
    else:
        return None
    values = tuple(operands[position] for position in terminator.values)
    certainty = None if score is None else _per_sample(operands[score], batched)
    return Answer(block.name, values, certainty, reached)


def _ways(
    block: Block, operands: tuple[Tensor, ...], batched: bool
) -> Iterator[tuple[Successor, Tensor | None]]:
    """Successors with the samples that go there (None: all, also beyond an exit)."""
    match block.terminator:
        case Branch(when, then, else_):
            chosen = _per_sample(operands[when], batched).to(torch.bool)
            yield then, chosen
            yield else_, ~chosen
        case Switch(index, cases):
            chosen = _per_sample(operands[index], batched).clamp(0, len(cases) - 1)
            for position, case in enumerate(cases):
                yield case, chosen == position
        case terminator:
            yield from ((successor, None) for successor in terminator.successors)


def _per_sample(operand: Tensor, batched: bool) -> Tensor:
    """A one-element operand as `[N]`, or as a scalar in a network without a batch axis."""
    return operand.reshape(operand.shape[0] if batched else ())


def _both(mask: Tensor | None, other: Tensor | None) -> Tensor | None:
    if mask is None or other is None:
        return other if mask is None else mask
    return mask & other


def _joined(old: _Arrival | None, new: _Arrival) -> _Arrival:
    """Each sample's arguments from the edge that it took."""
    if old is None or old.mask is None or new.mask is None:
        return new
    mask = new.mask
    arguments = tuple(
        torch.where(mask.reshape(*mask.shape, *(1,) * (b.ndim - mask.ndim)), b, a)
        for a, b in zip(old.arguments, new.arguments, strict=True)
    )
    return _Arrival(arguments, old.mask | mask)
