"""Spelling of Arm floating-point assembly in GNU C."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

REGISTERS = 32
"""Single-precision registers, s0 to s31."""

CHUNK = 8
"""Values that one instruction loads at a time."""

CLOBBERS = ", ".join(f'"s{i}"' for i in range(REGISTERS))

GUARD = "#if defined(__thumb2__) && defined(__ARM_FP) && defined(__ARM_FEATURE_FMA)"
"""Thumb-2 with fused multiply-add. The assembler refuses `vmaxnm.f32` on units before FPv5."""


def span(first: int, count: int) -> str:
    """A list of consecutive registers."""
    return f"{{s{first}}}" if count == 1 else f"{{s{first}-s{first + count - 1}}}"


def chunks(count: int) -> Iterator[tuple[int, int]]:
    """(start, size) of pieces of at most `CHUNK` values."""
    for start in range(0, count, CHUNK):
        yield start, min(CHUNK, count - start)


def quoted(lines: Iterable[str]) -> str:
    """Lines of assembly as C string literals."""
    return "\n".join(f'      "{line}\\n"' for line in lines)
