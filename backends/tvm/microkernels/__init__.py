"""Inner loops that no compiler would form: C functions, which C files define above their kernels.

For Arm they are assembly, with the same loops in C for every other compiler: all sums stay in
registers, and load-multiple instructions feed them. For RISC-V they are C that packs operands, two
in a word.
"""

from __future__ import annotations

from typing import Protocol


class Microkernel(Protocol):
    """A C function by structure; equal structures share one."""

    @property
    def name(self) -> str:
        """The C function's name, which tells the structure."""
        ...

    def source(self) -> str:
        """Its static C definition: assembly for Arm with what it needs, else C."""
        ...
