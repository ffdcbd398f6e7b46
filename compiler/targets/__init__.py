"""What each machine is, as data: one TOML file a target."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources

from offramp.compiler.errors import UserError


@dataclass(frozen=True)
class Memory:
    """One memory of a board: `bytes` at address `origin`."""

    name: str
    origin: int
    bytes: int


@dataclass(frozen=True)
class Board:
    """An emulated board.

    machine: QEMU's name for it. clock: of its processor, in hertz. processor: in words. flags: of
    GCC, for its processor.
    """

    machine: str
    clock: int
    processor: str
    flags: str


@dataclass(frozen=True)
class Extension:
    """A wider processor of the same family, recognised when the code runs.

    processor: its name, as LLVM's `mcpu` and GCC's `__builtin_cpu_supports` spell it.
    """

    processor: str
    vector_lanes: int
    registers: int


@dataclass(frozen=True)
class Target:
    """A machine that code is emitted for.

    llvm: TVM/LLVM target attributes (mtriple, mcpu, mattr, mfloat-abi), or empty for C output.
    cost_unit: what costs on this target are counted in ("ns" or "instructions").
    vector_lanes: float32 lanes of one vector register (1: scalar FPU). registers: how many.
    alignment: bytes that arena offsets and constants are multiples of.
    fma_latency: multiply-accumulates that must be in flight to keep the units busy.
    max_unrolled: multiply-accumulates in the body of an innermost loop.
    panel: output channels that packed weights keep together; 0: as many as a register tile has.
    microkernels: the family of backends/tvm/microkernels that C output may use: "arm", "helium"
        (the same with Arm's vectors for microcontrollers) or "riscv"; empty for none. With one,
        8-bit operators are computed in integers.
    float_maximum: the floating-point unit has one instruction for a maximum (Arm: FPv5).
    board: on which emitted code is emulated; None where it runs on this machine.
    extension: kernels are compiled for this processor as well, and chosen at run time.
    tile_overhead: issue slots spent around one register tile.
    cost: coefficients of the analytical cost model, by kernel kind (units per MAC, element, call).
    """

    name: str
    description: str
    llvm: dict[str, object]
    cost_unit: str
    vector_lanes: int
    registers: int
    alignment: int
    fma_latency: int
    max_unrolled: int
    tile_overhead: int
    cost: dict[str, dict[str, float]]
    memories: tuple[Memory, ...] = ()
    panel: int = 0
    microkernels: str = ""
    float_maximum: bool = True
    extension: Extension | None = None
    board: Board | None = None

    def extended(self) -> Target | None:
        """The same target with its extension as the processor, if it has one."""
        if self.extension is None:
            return None
        return replace(
            self,
            llvm={**self.llvm, "mcpu": self.extension.processor},
            vector_lanes=self.extension.vector_lanes,
            registers=self.extension.registers,
            extension=None,
        )


def names() -> tuple[str, ...]:
    """All known targets."""
    files = resources.files("offramp.compiler.targets").iterdir()
    return tuple(sorted(f.name.removesuffix(".toml") for f in files if f.name.endswith(".toml")))


@cache
def get(name: str) -> Target:
    """The target called `name`.

    Raises:
        UserError: there is no such target.
    """
    if name not in names():
        raise UserError(f"unknown target {name!r}: expected one of {', '.join(names())}")
    text = resources.files("offramp.compiler.targets").joinpath(f"{name}.toml").read_text()
    data = tomllib.loads(text)
    memories = tuple(Memory(**m) for m in data.pop("memories", []))
    extension = Extension(**data.pop("extension")) if "extension" in data else None
    board = Board(**data.pop("board")) if "board" in data else None
    return Target(name=name, memories=memories, extension=extension, board=board, **data)
