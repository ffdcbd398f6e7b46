"""The targets of one toolchain as one object of the `Backend` interface."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from offramp.backends.base import LoweredProgram
from offramp.backends.microcontroller.emit import emit
from offramp.backends.microcontroller.run import FirmwareRunner
from offramp.backends.microcontroller.toolchain import Toolchain


@dataclass(frozen=True)
class MicrocontrollerBackend:
    """Implements `Backend`."""

    toolchain: Toolchain

    def emit(self, lowered: LoweredProgram, folder: Path) -> None:
        """Write C sources, header, Makefile, board support and `interface.json`."""
        emit(lowered, self.toolchain, folder)

    def load(self, folder: Path) -> FirmwareRunner:
        """Build the firmware of the emulated board."""
        return FirmwareRunner(folder, self.toolchain)
