"""The interface of a target: emit code, load it again, run it, measure it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from offramp.backends.driver.interface import Interface
from offramp.compiler.plan import Plan

Array = npt.NDArray[Any]


class Kernels(Protocol):
    """The compiled kernels that a plan calls: `void symbol(T *argument, ..., void *workspace)`."""

    def prototypes(self) -> str:
        """C declarations of all kernels, one a line."""
        ...

    def to_c(self) -> str:
        """Self-contained C99 source that defines all kernels."""
        ...

    def to_object(self, path: Path) -> None:
        """Write a position-independent ELF object for the target."""
        ...


class LoweredProgram(Protocol):
    """A Program as kernel calls, its memory planned, and the kernels called."""

    @property
    def plan(self) -> Plan:
        """What runs, in which order and at which address."""
        ...

    @property
    def kernels(self) -> Kernels:
        """What the plan calls."""
        ...


@dataclass(frozen=True)
class Answers:
    """What a network answered to N samples.

    outputs: by name, N samples along the batch axis.
    exit_index: int64 `[N]`, the number of early exits for the final output.
    confidence: float32 `[N]`, the score of the exit taken; NaN where there is none.
    cost: float64 `[N]` in the target's cost unit, or None where running does not tell.
    """

    outputs: dict[str, Array]
    exit_index: npt.NDArray[np.int64]
    confidence: npt.NDArray[np.float32]
    cost: npt.NDArray[np.float64] | None = None


@dataclass(frozen=True)
class ExitCost:
    """The measured cost of a sample that leaves at one exit; `macs` of the dearest way there."""

    exit_index: int
    value: float
    unit: str
    macs: int
    source: str = "measured"


@dataclass(frozen=True)
class Ram:
    """Bytes of memory: the arena (inputs and answers included), other .data and .bss, the stack,
    and copies of weights.
    """

    arena: int
    static: int
    stack: int
    weights: int = 0

    @property
    def total(self) -> int:
        """All of it."""
        return self.arena + self.static + self.stack + self.weights


@dataclass(frozen=True)
class Flash:
    """Bytes of read-only storage: code (with its small tables) and weights."""

    code: int
    weights: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.code + self.weights


@dataclass(frozen=True)
class Bench:
    """One measurement of emitted code.

    per_exit: in order of exit index, the final output last.
    blocks: cost of each block that ran, by name, in the same unit; of the run to the end.
    kernels: cost of each kernel by symbol, where the target can tell.
    """

    per_exit: tuple[ExitCost, ...]
    ram: Ram
    flash: Flash
    blocks: dict[str, float] = field(default_factory=dict[str, float])
    kernels: dict[str, float] = field(default_factory=dict[str, float])


class Runner(Protocol):
    """Loaded code, ready to run natively or in the target's emulator."""

    @property
    def interface(self) -> Interface:
        """Names, shapes and types of inputs and outputs; exits and blocks."""
        ...

    def run(self, inputs: Mapping[str, Array], thresholds: npt.ArrayLike | None = None) -> Answers:
        """Answer every sample of the batch on its own; `thresholds` replaces the compiled ones.

        Raises:
            UserError: inputs that do not fit, see `check_inputs`.
            ToolError: the device or its tools failed.
        """
        ...

    def bench(self, inputs: Mapping[str, Array]) -> Bench:
        """Measure cost per exit by forcing every exit in turn, and memory.

        Raises:
            UserError: inputs that do not fit, see `check_inputs`.
            ToolError: the device or its tools failed.
        """
        ...


class Backend(Protocol):
    """A target: how code is emitted for it and how that code is run."""

    def emit(self, lowered: LoweredProgram, folder: Path) -> None:
        """Write all files of the code into an existing folder.

        Raises:
            InternalError: the memory plan is missing or wrong.
            ToolError: a compiler is missing or failed.
        """
        ...

    def load(self, folder: Path) -> Runner:
        """Load code that `emit` wrote.

        Raises:
            UserError: there is no code of this target in the folder.
            ToolError: a compiler or emulator is missing.
        """
        ...
