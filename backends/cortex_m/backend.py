"""The Cortex-M targets as one object of the `Backend` interface."""

from __future__ import annotations

from pathlib import Path

from offramp.backends.base import LoweredProgram
from offramp.backends.cortex_m.emit import emit
from offramp.backends.cortex_m.run import CortexMRunner


class CortexMBackend:
    """Implements `Backend`."""

    def emit(self, lowered: LoweredProgram, folder: Path) -> None:
        """Write C sources, header, Makefile, board support and `interface.json`."""
        emit(lowered, folder)

    def load(self, folder: Path) -> CortexMRunner:
        """Build the firmware of the emulated board."""
        return CortexMRunner(folder)


BACKEND = CortexMBackend()
