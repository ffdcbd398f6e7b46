"""Run and measure a shared library in this process."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt

from offramp.backends import tools
from offramp.backends.base import Answers, Array, Bench, ExitCost, Flash, Ram
from offramp.backends.driver import interface as interfaces
from offramp.backends.samples import check_inputs, check_thresholds, forcing, gather
from offramp.backends.x86_64.loader import Network
from offramp.backends.x86_64.measure import Instruments, time_per_sample
from offramp.compiler.errors import ToolError, UserError

NEEDED_FLAGS = {"avx2", "fma", "bmi2"}


class X86Runner:
    """Implements `Runner` by calling the library through ctypes."""

    def __init__(self, folder: Path) -> None:
        self.interface = interfaces.read(folder)
        self._library = folder / f"lib{self.interface.name}.so"
        check_processor(processor_flags())
        try:
            self.network = Network(folder)
        except OSError as error:
            raise UserError(
                f"cannot load {self._library}: {error}; compile the model again on Linux"
            ) from error

    def run(self, inputs: Mapping[str, Array], thresholds: npt.ArrayLike | None = None) -> Answers:
        """Answer every sample of the batch on its own; one call into the library."""
        arrays = check_inputs(self.interface, inputs)
        chosen = check_thresholds(self.interface, thresholds)
        outputs, exit_index, confidence = self.network.run(list(arrays.values()), chosen)
        return gather(self.interface, outputs, exit_index, confidence)

    def bench(self, inputs: Mapping[str, Array]) -> Bench:
        """CPU time of one thread per exit and block; the median over repetitions."""
        arrays = list(check_inputs(self.interface, inputs).values())
        instruments = Instruments()
        to_the_end = forcing(self.interface, len(self.interface.exits))
        first = [array[:1] for array in arrays]
        return Bench(
            per_exit=tuple(
                self._exit_cost(exit_index, arrays)
                for exit_index in range(len(self.interface.exits) + 1)
            ),
            ram=self._ram(instruments.stack(self.network, to_the_end, first)),
            flash=self._flash(),
            blocks=instruments.blocks(self.network, to_the_end, first),
        )

    def _exit_cost(self, exit_index: int, arrays: list[Any]) -> ExitCost:
        thresholds = forcing(self.interface, exit_index)
        _, left, _ = self.network.run(arrays, thresholds)
        if (left != exit_index).any():
            raise ToolError(
                f"cannot force exit {exit_index} of {self.interface.name}: on these samples its "
                "score is not a number; bench with other samples"
            )
        nanoseconds = time_per_sample(self.network, thresholds, arrays)
        return ExitCost(exit_index, nanoseconds, "ns", self.interface.macs[exit_index])

    def _sections(self) -> tuple[int, int, int]:
        text, data, bss = tools.run(["size", self._library]).splitlines()[1].split()[:3]
        return int(text), int(data), int(bss)

    def _ram(self, stack: int) -> Ram:
        _, data, bss = self._sections()
        return Ram(self.interface.arena, data + bss - self.interface.arena, stack)

    def _flash(self) -> Flash:
        text, data, _ = self._sections()
        return Flash(text + data - self.interface.weights, self.interface.weights)


def processor_flags() -> set[str]:
    """Instruction-set extensions of this machine, as Linux names them; empty elsewhere."""
    listing = Path("/proc/cpuinfo")
    return set(listing.read_text().split()) if listing.is_file() else set()


def check_processor(flags: set[str]) -> None:
    """Refuse a processor on which the code would end in an illegal instruction.

    Raises:
        ToolError: it lacks an extension; says which.
    """
    missing = NEEDED_FLAGS - flags
    if missing:
        raise ToolError(
            "this machine cannot run code for x86-64: it needs Linux and a processor with "
            f"{', '.join(sorted(NEEDED_FLAGS))}; this one lacks {', '.join(sorted(missing))}"
        )
