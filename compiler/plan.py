"""The Plan: what runs, in which order and at which address; plain data, checked before emission.

A backend lowers every block of a Program to kernel calls over named buffers; the memory planner
gives each arena buffer an offset; the emitter writes the driver from nothing else than a Plan.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from math import prod

import numpy as np
import numpy.typing as npt

from offramp.compiler.ir import Terminator


class Storage(Enum):
    """Where the bytes of a buffer live."""

    ARENA = "arena"
    """Activations, inputs and answers: an offset in the arena."""
    CONSTANT = "constant"
    """Weights: read-only data of the artifact, deduplicated by content."""


@dataclass(frozen=True)
class Buffer:
    """A dense, row-major array with a physical shape.

    dtype: NumPy name ("float32", "int64", "bool", ...).
    data: the contents, for constants only.
    alias_of: another buffer that this one is a view of, of all its bytes or of a part, or None.
    offset: where the view begins in it, in bytes.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    storage: Storage = Storage.ARENA
    data: npt.NDArray[np.generic] | None = None
    alias_of: str | None = None
    offset: int = 0

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return prod(self.shape) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class KernelCall:
    """One call `kernel(arguments..., workspace)` of a bare C function over raw pointers.

    kernel: symbol in the kernel library; equal kernels share one symbol.
    arguments: buffer names, inputs and constants first, then outputs.
    outputs: how many of the last arguments are written.
    in_place: pairs (output, input) of argument positions that may share one address, because the
        kernel has read whatever lies under a byte of the output for the last time when it writes
        that byte; their sizes may differ.
    workspace: bytes of scratch the kernel wants while it runs, passed as last argument if not 0.
    nodes: ONNX nodes computed here, for reports and error messages.
    macs: multiply-accumulates.
    traffic: bytes that the kernel loads and stores, by argument, the workspace last if there is
        one; empty if it passes over everything once.
    """

    kernel: str
    arguments: tuple[str, ...]
    outputs: int = 1
    in_place: tuple[tuple[int, int], ...] = ()
    workspace: int = 0
    nodes: tuple[str, ...] = ()
    macs: int = 0
    traffic: tuple[int, ...] = ()

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of the buffers read."""
        return self.arguments[: len(self.arguments) - self.outputs]

    @property
    def writes(self) -> tuple[str, ...]:
        """Names of the buffers written."""
        return self.arguments[len(self.arguments) - self.outputs :]


@dataclass(frozen=True)
class BlockPlan:
    """The kernel calls of one block.

    parameters: the buffer of each block parameter.
    operands: the buffer of each terminator operand (each output position of the block's graph).
    """

    name: str
    calls: tuple[KernelCall, ...]
    parameters: tuple[str, ...]
    operands: tuple[str, ...]
    terminator: Terminator


@dataclass(frozen=True)
class Arena:
    """The part of the arena that lies in one memory of a board: an array of its own.

    start: offset of its first byte, in the arena as a whole. bytes: its size.
    """

    memory: str
    start: int
    bytes: int


@dataclass(frozen=True)
class Access:
    """What loads and stores of activations and weights cost, waiting for the memories included.

    cycles: expected in one inference, blocks weighted by how often samples reach them.
    lower_bound: cycles that no choice of memories can undercut. status: "optimal" or "feasible".
    """

    cycles: float
    lower_bound: float
    status: str


@dataclass(frozen=True)
class MemoryPlan:
    """Arena offsets in bytes, with proof status.

    offsets: by buffer name; views and workspaces ("<block>.<call index>.workspace") included.
    peak: bytes of the arena. lower_bound: bytes that no plan can undercut.
    status: "optimal" or "feasible". seconds: time spent planning.
    arenas: its parts, one behind another, where it was planned for the memories of a board; empty
        if the arena is one array. copied: constants that are read from a copy in a memory of the
        board, by buffer name. access: what the choice of memories costs, where there was one.
    """

    offsets: dict[str, int]
    peak: int
    lower_bound: int
    status: str
    seconds: float
    arenas: tuple[Arena, ...] = ()
    copied: dict[str, str] = field(default_factory=dict[str, str])
    access: Access | None = None

    def arena_at(self, offset: int) -> Arena | None:
        """The part in which a byte lies; None if the arena is one array."""
        inside = (a for a in self.arenas if a.start <= offset < a.start + a.bytes)
        return next(inside, None)


@dataclass(frozen=True)
class Plan:
    """A lowered Program: blocks in topological order, the first is the entry.

    A parameter with a single incoming edge is an alias of the argument passed to it; at a join the
    driver copies each arm's arguments into the join's parameter buffers.
    """

    name: str
    target: str
    buffers: dict[str, Buffer]
    blocks: tuple[BlockPlan, ...]
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    batched: bool
    memory: MemoryPlan = field(default_factory=lambda: MemoryPlan({}, 0, 0, "none", 0.0))


def distinct_constants(plan: Plan) -> tuple[Buffer, ...]:
    """The constants that become data of the artifact: one of each content."""
    return tuple(equal[0] for equal in equal_constants(plan))


def equal_constants(plan: Plan) -> tuple[tuple[Buffer, ...], ...]:
    """All constants with data, those of equal content together."""
    found: dict[bytes, list[Buffer]] = {}
    for buffer in plan.buffers.values():
        if buffer.storage is Storage.CONSTANT and buffer.data is not None:
            found.setdefault(buffer.data.tobytes(), []).append(buffer)
    return tuple(map(tuple, found.values()))


def copied_bytes(plan: Plan, alignment: int) -> dict[str, int]:
    """Bytes by memory of the copies of constants in it, each aligned."""
    found: dict[str, int] = {}
    for first, *_ in equal_constants(plan):
        memory = plan.memory.copied.get(first.name)
        if memory is not None:
            found[memory] = found.get(memory, 0) + -(-first.nbytes // alignment) * alignment
    return found
