"""The x86-64 target as one object of the `Backend` interface."""

from __future__ import annotations

from pathlib import Path

from offramp.backends.base import LoweredProgram
from offramp.backends.x86_64.emit import emit
from offramp.backends.x86_64.run import X86Runner


class X86Backend:
    """Implements `Backend`."""

    def emit(self, lowered: LoweredProgram, folder: Path) -> None:
        """Write the shared library, its header, the loader and `interface.json`."""
        emit(lowered, folder)

    def load(self, folder: Path) -> X86Runner:
        """Load the shared library into this process."""
        return X86Runner(folder)


BACKEND = X86Backend()
