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
    alias_of: another buffer that this one is a view of (same address, same byte size), or None.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    storage: Storage = Storage.ARENA
    data: npt.NDArray[np.generic] | None = None
    alias_of: str | None = None

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
    """

    kernel: str
    arguments: tuple[str, ...]
    outputs: int = 1
    in_place: tuple[tuple[int, int], ...] = ()
    workspace: int = 0
    nodes: tuple[str, ...] = ()
    macs: int = 0

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
class MemoryPlan:
    """Arena offsets in bytes, with proof status.

    offsets: by buffer name; views and workspaces ("<block>.<call index>.workspace") included.
    peak: bytes of the arena. lower_bound: bytes that no plan can undercut.
    status: "optimal" or "feasible". seconds: time spent planning.
    """

    offsets: dict[str, int]
    peak: int
    lower_bound: int
    status: str
    seconds: float


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
    found: dict[bytes, Buffer] = {}
    for buffer in plan.buffers.values():
        if buffer.storage is Storage.CONSTANT and buffer.data is not None:
            found.setdefault(buffer.data.tobytes(), buffer)
    return tuple(found.values())
