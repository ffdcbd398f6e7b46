"""Inner loops in Arm assembly, with the same loops in C for every other compiler.

All sums stay in floating-point registers, and load-multiple instructions feed them. C files call a
microkernel as a static function defined above the kernels.
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
        """Its static C definition: assembly for Arm with a floating-point unit, else loops."""
        ...
