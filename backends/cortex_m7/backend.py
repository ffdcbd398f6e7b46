"""The Cortex-M7 target as one object of the `Backend` interface."""

from __future__ import annotations

from pathlib import Path

from offramp.backends.base import LoweredProgram
from offramp.backends.cortex_m7.emit import emit
from offramp.backends.cortex_m7.run import CortexM7Runner


class CortexM7Backend:
    """Implements `Backend`."""

    def emit(self, lowered: LoweredProgram, folder: Path) -> None:
        """Write C sources, header, Makefile, board support and `interface.json`."""
        emit(lowered, folder)

    def load(self, folder: Path) -> CortexM7Runner:
        """Build the firmware of the emulated board."""
        return CortexM7Runner(folder)


BACKEND = CortexM7Backend()
