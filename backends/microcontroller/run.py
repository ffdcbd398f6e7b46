"""Run and measure the firmware in QEMU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from offramp.backends.base import Answers, Array, Bench, ExitCost, Flash, Ram
from offramp.backends.driver import interface as interfaces
from offramp.backends.microcontroller.firmware import Firmware, Session
from offramp.backends.microcontroller.toolchain import Toolchain
from offramp.backends.samples import check_inputs, check_thresholds, forcing, gather
from offramp.compiler.errors import ToolError


class FirmwareRunner:
    """Implements `Runner`; costs are instructions, counted exactly."""

    def __init__(self, folder: Path, toolchain: Toolchain) -> None:
        self.interface = interfaces.read(folder)
        self.firmware = Firmware(folder, self.interface, toolchain)

    def run(self, inputs: Mapping[str, Array], thresholds: npt.ArrayLike | None = None) -> Answers:
        """Answer every sample of the batch, in one QEMU session."""
        arrays = check_inputs(self.interface, inputs)
        chosen = check_thresholds(self.interface, thresholds)
        session = self.firmware.run(list(arrays.values()), chosen)
        return gather(
            self.interface,
            session.outputs,
            session.exit_index,
            session.confidence,
            np.array(session.counts.runs, np.float64),
        )

    def bench(self, inputs: Mapping[str, Array]) -> Bench:
        """Mean instructions per exit over the samples; kernels of the run to the end."""
        arrays = list(check_inputs(self.interface, inputs).values())
        exits = range(len(self.interface.exits) + 1)
        sessions = [self._forced(exit_index, arrays) for exit_index in exits]
        final, samples = sessions[-1], len(sessions[-1].exit_index)
        return Bench(
            per_exit=tuple(
                ExitCost(
                    exit_index,
                    float(np.mean(sessions[exit_index].counts.runs)),
                    "instructions",
                    self.interface.macs[exit_index],
                )
                for exit_index in exits
            ),
            ram=self._ram(max(session.stack for session in sessions)),
            flash=self._flash(),
            kernels={name: n / samples for name, n in final.counts.owners.items()},
        )

    def traffic(self, inputs: Mapping[str, Array]) -> dict[str, float]:
        """Bytes that a run to the end loads and stores, by array: mean over the samples."""
        arrays = list(check_inputs(self.interface, inputs).values())
        last = forcing(self.interface, len(self.interface.exits))
        counts = self.firmware.run(arrays, last, traffic=True).counts
        return {name: n / len(counts.runs) for name, n in counts.objects.items() if n}

    def _forced(self, exit_index: int, arrays: list[Array]) -> Session:
        session = self.firmware.run(arrays, forcing(self.interface, exit_index))
        if (session.exit_index != exit_index).any():
            raise ToolError(
                f"cannot force exit {exit_index} of {self.interface.name}: on these samples its "
                "score is not a number; bench with other samples"
            )
        return session

    def _ram(self, stack: int) -> Ram:
        sections = self.firmware.sections()
        static = sections.get(".data", 0) + sections.get(".bss", 0)
        arena, copied = self.interface.arena, self.interface.copied
        return Ram(arena, static - arena - copied, stack, copied)

    def _flash(self) -> Flash:
        sections = self.firmware.sections()
        code = sum(sections.get(name, 0) for name in (".text", ".ARM.exidx", ".data"))
        return Flash(code, sections.get(".weights", 0))
