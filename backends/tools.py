"""Running compilers, emulators and devices, so that every way they fail is one clear message."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from offramp.compiler.errors import ToolError

_PACKAGES = {
    "gcc": "gcc",
    "nm": "binutils",
    "size": "binutils",
    "arm-none-eabi-gcc": "gcc-arm-none-eabi and libnewlib-arm-none-eabi",
    "arm-none-eabi-nm": "binutils-arm-none-eabi",
    "arm-none-eabi-size": "binutils-arm-none-eabi",
    "qemu-system-arm": "qemu-system-arm",
    "riscv64-unknown-elf-gcc": "gcc-riscv64-unknown-elf and picolibc-riscv64-unknown-elf",
    "riscv64-unknown-elf-nm": "binutils-riscv64-unknown-elf",
    "riscv64-unknown-elf-size": "binutils-riscv64-unknown-elf",
    "qemu-system-riscv32": "qemu-system-misc",
    "make": "make",
}


def require(tool: str) -> str:
    """The path of a program.

    Raises:
        ToolError: it is not installed; names the Debian package that has it.
    """
    path = shutil.which(tool)
    if path is None:
        package = _PACKAGES.get(tool, tool)
        raise ToolError(f"{tool} was not found on PATH: install {package} (Debian packages)")
    return path


def run(
    command: Sequence[str | Path], *, folder: Path | None = None, timeout: float = 300.0
) -> str:
    """Run a program to its end; returns its standard output.

    timeout: seconds after which it counts as hanging and is stopped.

    Raises:
        ToolError: it is missing, fails, or hangs; quotes the end of its error output.
    """
    program, *arguments = command
    words = [require(str(program)), *map(str, arguments)]
    try:
        done = subprocess.run(
            words, cwd=folder, capture_output=True, text=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ToolError(
            f"{program} did not finish within {timeout:.0f} s and was stopped: {' '.join(words)}"
        ) from error
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()[-2000:]
        raise ToolError(f"{program} failed with exit code {done.returncode}:\n{said}")
    return done.stdout
