"""What a caller of the generated code must know, kept beside it as `interface.json`."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from offramp.compiler.errors import InternalError, UserError
from offramp.compiler.ir import Exit
from offramp.compiler.plan import (
    BlockPlan,
    KernelCall,
    Plan,
    Storage,
    copied_bytes,
    distinct_constants,
)

FILE = "interface.json"


@dataclass(frozen=True)
class Tensor:
    """An input or output: its shape (batch axis 1 included, if there is one) and NumPy dtype."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class ExitPoint:
    """An early exit: the block that ends in it, its criterion, and its default threshold."""

    block: str
    criterion: str
    threshold: float


@dataclass(frozen=True)
class Layer:
    """One kernel call: its block and symbol, the ONNX nodes that it computes, and its work.

    weights: bytes of the constants that it reads; those that calls share count for each.
    """

    block: str
    kernel: str
    nodes: tuple[str, ...]
    macs: int
    weights: int


@dataclass(frozen=True)
class Part:
    """What lies in one memory of a board: `arena` bytes of activations, `weights` of copies."""

    memory: str
    arena: int
    weights: int

    @property
    def identifier(self) -> str:
        """The memory's name as part of a C identifier."""
        return re.sub(r"\W+", "_", self.memory)


@dataclass(frozen=True)
class Interface:
    """The generated code from outside.

    macs: multiply-accumulates of a sample that leaves at each exit, the final output last; the
        dearer arm where branches differ.
    arena: bytes of the arena, inputs and answers included, a multiple of `alignment`.
    weights: bytes of constants.
    layers: all kernel calls, block by block.
    parts: the memories of a board that the network was compiled for, those with an arena first;
        empty if it was compiled for any board.
    """

    name: str
    target: str
    batched: bool
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    exits: tuple[ExitPoint, ...]
    macs: tuple[int, ...]
    blocks: tuple[str, ...]
    arena: int
    alignment: int
    weights: int
    layers: tuple[Layer, ...]
    parts: tuple[Part, ...] = ()

    @property
    def copied(self) -> int:
        """Bytes of weights that are copied into RAM."""
        return sum(part.weights for part in self.parts)

    def write(self, folder: Path) -> None:
        """Write `interface.json`."""
        (folder / FILE).write_text(json.dumps(asdict(self), indent=1) + "\n")


def read(folder: Path) -> Interface:
    """The interface of the code in `folder`.

    Raises:
        UserError: there is none.
    """
    path = folder / FILE
    if not path.is_file():
        raise UserError(f"{folder} holds no generated code: {FILE} is missing; compile the model")
    data: dict[str, Any] = json.loads(path.read_text())
    for key in ("inputs", "outputs"):
        data[key] = tuple(Tensor(t["name"], tuple(t["shape"]), t["dtype"]) for t in data[key])
    data["exits"] = tuple(ExitPoint(**point) for point in data["exits"])
    data["macs"], data["blocks"] = tuple(data["macs"]), tuple(data["blocks"])
    data["layers"] = tuple(
        Layer(**{**layer, "nodes": tuple(layer["nodes"])}) for layer in data["layers"]
    )
    data["parts"] = tuple(Part(**part) for part in data["parts"])
    return Interface(**data)


def describe(plan: Plan, alignment: int) -> Interface:
    """The interface of the code that a plan becomes.

    Raises:
        InternalError: the plan's name is no C identifier, or its memory is not planned.
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", plan.name):
        raise InternalError(f"a Program's name becomes a C identifier, found {plan.name!r}")
    if plan.memory.status == "none":
        raise InternalError(f"plan {plan.name!r} has no memory plan: run plan_memory first")
    entry, last = plan.blocks[0], plan.blocks[-1]
    parts = _parts(plan, alignment)
    arena = sum(part.arena for part in parts) if parts else _aligned(plan.memory.peak, alignment)
    return Interface(
        name=plan.name,
        target=plan.target,
        batched=plan.batched,
        inputs=_tensors(plan, plan.input_names, entry.parameters),
        outputs=_tensors(
            plan, plan.output_names, tuple(last.operands[p] for p in answer_values(last))
        ),
        exits=tuple(
            ExitPoint(block.name, block.terminator.criterion, block.terminator.threshold)
            for block in plan.blocks
            if isinstance(block.terminator, Exit)
        ),
        macs=_macs_at_answers(plan),
        blocks=tuple(block.name for block in plan.blocks),
        arena=arena,
        alignment=alignment,
        weights=sum(constant.nbytes for constant in distinct_constants(plan)),
        layers=tuple(
            Layer(block.name, call.kernel, call.nodes, call.macs, _weights(plan, call))
            for block in plan.blocks
            for call in block.calls
        ),
        parts=parts,
    )


def _parts(plan: Plan, alignment: int) -> tuple[Part, ...]:
    copied = copied_bytes(plan, alignment)
    arenas = {a.memory: _aligned(a.bytes, alignment) for a in plan.memory.arenas}
    return tuple(
        Part(memory, arenas.get(memory, 0), copied.get(memory, 0))
        for memory in dict.fromkeys([*arenas, *copied])
    )


def _aligned(size: int, alignment: int) -> int:
    return -(-size // alignment) * alignment


def _weights(plan: Plan, call: KernelCall) -> int:
    read = [plan.buffers[name] for name in dict.fromkeys(call.reads)]
    return sum(buffer.nbytes for buffer in read if buffer.storage is Storage.CONSTANT)


def answer_values(block: BlockPlan) -> tuple[int, ...]:
    """Operand positions of the answer of a block that ends in an Exit or Return."""
    values: tuple[int, ...] = getattr(block.terminator, "values", ())
    return values


def _tensors(plan: Plan, names: tuple[str, ...], buffers: tuple[str, ...]) -> tuple[Tensor, ...]:
    pairs = zip(names, (plan.buffers[b] for b in buffers), strict=True)
    return tuple(Tensor(name, buffer.shape, buffer.dtype) for name, buffer in pairs)


def _macs_at_answers(plan: Plan) -> tuple[int, ...]:
    spent: dict[str, int] = {plan.blocks[0].name: 0}
    found: list[int] = []
    for block in plan.blocks:
        total = spent[block.name] + sum(call.macs for call in block.calls)
        if answer_values(block):
            found.append(total)
        for successor in block.terminator.successors:
            spent[successor.block] = max(spent.get(successor.block, 0), total)
    return tuple(found)
