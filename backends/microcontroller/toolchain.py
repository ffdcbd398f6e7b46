"""What differs between processor families: their tools and their part of the board support."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Toolchain:
    """A GNU toolchain, an emulator, and the files that start the firmware.

    package: Python package whose templates hold `board/startup.c` (from reset to `main`; ends with
        status 99 when the processor faults) and `board/processor.h` (semihosting calls, the
        measured call, a timer).
    prefix: of the programs of GCC and binutils. library: GCC's option for its C library.
    emulator: of QEMU. options: of the emulator, to start firmware as the board would.
    packages: Debian's, with all of these. preparation: what an application must do before the
        first call, a sentence in Markdown; may be empty.
    """

    package: str
    prefix: str
    library: str
    emulator: str
    options: tuple[str, ...]
    packages: tuple[str, ...]
    preparation: str

    def program(self, name: str) -> str:
        """The name of a program of GCC or binutils."""
        return self.prefix + name
