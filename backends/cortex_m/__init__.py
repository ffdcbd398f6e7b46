"""Arm Cortex-M: C sources with weights in flash, and support for emulated boards."""

from __future__ import annotations

from offramp.backends.microcontroller.backend import MicrocontrollerBackend
from offramp.backends.microcontroller.toolchain import Toolchain

BACKEND = MicrocontrollerBackend(
    Toolchain(
        package="offramp.backends.cortex_m",
        prefix="arm-none-eabi-",
        library="--specs=nano.specs",
        emulator="qemu-system-arm",
        options=(),
        packages=("gcc-arm-none-eabi", "libnewlib-arm-none-eabi", "qemu-system-arm"),
        preparation="Switch the floating-point unit on before the first call.",
    )
)
