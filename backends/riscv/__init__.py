"""RISC-V microcontrollers: C sources with weights in flash, and support for an emulated board."""

from __future__ import annotations

from offramp.backends.microcontroller.backend import MicrocontrollerBackend
from offramp.backends.microcontroller.toolchain import Toolchain

BACKEND = MicrocontrollerBackend(
    Toolchain(
        package="offramp.backends.riscv",
        prefix="riscv64-unknown-elf-",
        library="--specs=picolibc.specs",
        emulator="qemu-system-riscv32",
        options=("-bios", "none"),
        packages=(
            "gcc-riscv64-unknown-elf",
            "picolibc-riscv64-unknown-elf",
            "qemu-system-misc",
        ),
        preparation="",
    )
)
