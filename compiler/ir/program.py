"""The IR: a structured, acyclic control-flow graph of straight-line ONNX blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import onnx_ir as ir

from offramp.compiler.ir.terminators import Exit, Successor, Terminator


@dataclass(frozen=True)
class Annotations:
    """Measured facts that ride along with a block; `None` means not measured.

    reach: probability that a sample reaches this block, in [0, 1].
    rate: fraction of all samples that leave at this block's exit, in [0, 1].
    accuracy: accuracy (or agreement, without labels) of the samples that leave here.
    """

    reach: float | None = None
    rate: float | None = None
    accuracy: float | None = None


@dataclass
class Block:
    """One straight-line graph and how it ends.

    The graph's inputs are the block's parameters; it refers to no value of another block. The
    graph's outputs are the terminator's operands: `terminator` holds positions in them.
    """

    name: str
    graph: ir.Graph
    terminator: Terminator
    annotations: Annotations = field(default_factory=Annotations)

    @property
    def parameters(self) -> tuple[ir.Value, ...]:
        """The values a predecessor passes, in order."""
        return tuple(self.graph.inputs)

    def operand(self, position: int) -> ir.Value:
        """The value at one operand position of the terminator."""
        return self.graph.outputs[position]

    def operands(self, positions: tuple[int, ...]) -> tuple[ir.Value, ...]:
        """The values at several operand positions of the terminator."""
        return tuple(self.graph.outputs[p] for p in positions)

    def arguments(self, successor: Successor) -> tuple[ir.Value, ...]:
        """The values passed along one edge to the parameters of `successor.block`."""
        return self.operands(successor.args)


@dataclass
class Program:
    """A network with control flow; the first block of `blocks` is the entry.

    name: a C identifier, used for symbols and files.
    blocks: by name, in topological order; the entry's parameters are the network's inputs.
    output_names: names of the answer, as many as every Return and Exit has values.
    opset_imports: ONNX operator set versions, shared by all blocks.
    batched: the leading axis of every input counts samples and is 1 here; the meaning of the
        Program at batch N is N independent runs. False for networks without a batch axis.
    """

    name: str
    blocks: dict[str, Block]
    output_names: tuple[str, ...]
    opset_imports: dict[str, int]
    batched: bool = True

    @property
    def entry(self) -> Block:
        """The block that runs first."""
        return next(iter(self.blocks.values()))

    @property
    def inputs(self) -> tuple[ir.Value, ...]:
        """The network's inputs: the entry's parameters."""
        return self.entry.parameters

    @property
    def exits(self) -> tuple[Block, ...]:
        """Blocks that end in an Exit, in topological order: position = exit index."""
        return tuple(b for b in self.blocks.values() if isinstance(b.terminator, Exit))

    def edges(self) -> Iterator[tuple[Block, Successor]]:
        """Every control-flow edge, from its source block."""
        for block in self.blocks.values():
            for successor in block.terminator.successors:
                yield block, successor

    def __or__(self, transform: Callable[[Program], Program]) -> Program:
        """`program | transform`: apply a transformation, such as a pass."""
        return transform(self)
