"""The firmware of the emulated board: built by the artifact's Makefile, run in QEMU."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from offramp.backends import tools
from offramp.backends.driver.interface import Interface
from offramp.backends.microcontroller.toolchain import Toolchain
from offramp.backends.qemu.counter import DATA, Counter, Counts, build_plugin, symbols
from offramp.compiler import targets
from offramp.compiler.errors import InternalError, ToolError

Array = npt.NDArray[Any]
SECONDS = 64e-9
"""That an instruction takes at `-icount shift=6`."""


@dataclass(frozen=True)
class Session:
    """What one run of the firmware said.

    outputs: in order, `[N, *shape]`. ticks: of the processor's clock, meaningful under
    `-icount` only. stack: bytes that a run needed. counts: instructions.
    """

    outputs: list[Array]
    exit_index: Array
    confidence: Array
    ticks: Array
    stack: int
    counts: Counts


class Firmware:
    """Built on construction into a scratch folder that lives as long as this object.

    Raises:
        ToolError: make, a compiler or QEMU is missing, or the build failed.
    """

    def __init__(self, folder: Path, interface: Interface, toolchain: Toolchain) -> None:
        for tool in ("make", toolchain.program("gcc"), toolchain.emulator, "gcc"):
            tools.require(tool)
        self.interface = interface
        self.toolchain = toolchain
        board = targets.get(interface.target).board
        if board is None:
            raise InternalError(f"target {interface.target!r} has no board to run on")
        self._machine = board.machine
        self._scratch = tempfile.TemporaryDirectory(prefix="offramp-")
        self._build = Path(self._scratch.name)
        tools.run(["make", "-j2", "-C", folder, f"BUILD={self._build}"], timeout=600)
        self.elf = self._build / f"{interface.name}.elf"
        found = symbols(self.elf, toolchain.program("nm"))
        self._counter = Counter(
            build_plugin(self._build, toolchain.emulator),
            found,
            entry=f"{interface.name}_run",
            leave="measured_run_returned",
            owners=_owners(folder, interface, {symbol.name for symbol in found}),
        )

    def run(
        self,
        arrays: list[Array],
        thresholds: Array,
        *options: str,
        timeout: float | None = None,
        traffic: bool = False,
    ) -> Session:
        """Run all samples in one QEMU session; `options` go to QEMU.

        timeout: seconds; by default a minute and two seconds per sample. traffic: also count
        what is loaded and stored, by array.

        Raises:
            ToolError: QEMU failed or hung, or the firmware faulted.
        """
        counter = self._counter
        if traffic:
            arrays_in_memory = symbols(self.elf, self.toolchain.program("nm"), DATA)
            counter = replace(counter, objects=arrays_in_memory)
        samples = len(arrays[0]) if arrays else 1
        self._write_input(arrays, thresholds, samples)
        written, counted = self._build / "output.bin", self._build / "counts.txt"
        written.unlink(missing_ok=True)
        command = [self.toolchain.emulator, "-M", self._machine, *self.toolchain.options]
        command += ["-nographic", "-monitor", "none", "-serial", "none"]
        command += ["-semihosting-config", "enable=on,target=native", "-kernel", str(self.elf)]
        command += counter.options(counted)
        limit = 60.0 + 2.0 * samples if timeout is None else timeout
        _run_qemu([*command, *options], self._build, limit)
        return self._read_output(written.read_bytes(), samples, counter.read(counted))

    def sections(self) -> dict[str, int]:
        """Bytes of each section of the ELF file."""
        listing = tools.run([self.toolchain.program("size"), "-A", self.elf])
        return {name: int(size) for name, size in re.findall(r"^(\.\S+)\s+(\d+)", listing, re.M)}

    def _write_input(self, arrays: list[Array], thresholds: Array, samples: int) -> None:
        with (self._build / "input.bin").open("wb") as file:
            file.write(np.uint32(samples).tobytes())
            file.write(thresholds.astype("<f4").tobytes())
            for sample in range(samples):
                for array in arrays:
                    file.write(array[sample].tobytes())

    def _read_output(self, data: bytes, samples: int, counts: Counts) -> Session:
        fields = [("exit_index", "<i4"), ("confidence", "<f4"), ("ticks", "<u4")]
        fields += [
            (f"output{i}", tensor.dtype, tensor.shape)  # type: ignore[misc]
            for i, tensor in enumerate(self.interface.outputs)
        ]
        record = np.dtype(fields)
        if len(data) != samples * record.itemsize + 4 or len(counts.runs) != samples:
            raise ToolError(
                f"the firmware answered {len(data)} bytes and {len(counts.runs)} counted runs for "
                f"{samples} samples, expected {samples * record.itemsize + 4} bytes"
            )
        records = np.frombuffer(data[:-4], record)
        outputs = [records[f"output{i}"] for i in range(len(self.interface.outputs))]
        return Session(
            [np.ascontiguousarray(output) for output in outputs],
            records["exit_index"],
            records["confidence"],
            records["ticks"],
            int(np.frombuffer(data[-4:], "<u4")[0]),
            counts,
        )


def _owners(folder: Path, interface: Interface, present: set[str]) -> tuple[str, ...]:
    """The driver's functions, as far as they were not inlined, and the kernels that it calls."""
    source = (folder / f"{interface.name}.c").read_text()
    kernels: list[str] = re.findall(r"^void (\w+)\([^)]*\);$", source, re.MULTILINE)
    blocks: list[str] = re.findall(r"^static int (block_\d+)\(", source, re.MULTILINE)
    owners = [f"{interface.name}_run", *kernels, *blocks]
    return tuple(owner for owner in owners if owner in present)


def _run_qemu(command: list[str], folder: Path, timeout: float) -> None:
    try:
        tools.run(command, folder=folder, timeout=timeout)
    except ToolError as error:
        reasons = {"code 99": "the processor faulted", "code 98": "a file transfer failed"}
        for code, reason in reasons.items():
            if code in str(error):
                raise ToolError(f"the firmware stopped in QEMU: {reason}") from error
        raise
