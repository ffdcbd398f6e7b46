"""What integer microkernels for Helium, Arm's vectors for microcontrollers, have in common.

A vector has 16 bytes. Sums of four outputs stand in the lanes of one, and are scaled together; the
tables that they are scaled with lie accordingly, four biases, four multipliers and, if scaling is
exact, four shifts.
"""

from __future__ import annotations

from collections.abc import Iterator

from offramp.backends.tvm.integer.scaling import Scaling

LANES = 4
"""Sums of 32 bits in a vector."""

BYTES = 16
"""Of a vector."""

GUARD = "#if defined(__ARM_FEATURE_MVE)"


def saved(vectors: int) -> Iterator[str]:
    """Begin a function that uses all core registers and as many vectors."""
    yield "push {r4-r11, lr}"
    yield f"vpush {{d8-d{2 * vectors - 1}}}"


def saved_bytes(vectors: int) -> int:
    """What that takes of the stack."""
    return 4 * 9 + 16 * (vectors - 4)


def restored(vectors: int) -> Iterator[str]:
    """End it."""
    yield f"vpop {{d8-d{2 * vectors - 1}}}"
    yield "pop {r4-r11, lr}"


def words(scaling: Scaling) -> int:
    """Words of a scale table for an output."""
    return 3 if scaling.exact else 2


def scaled(
    scaling: Scaling, sums: str, multipliers: str, shifts: str, scratch: str
) -> Iterator[str]:
    """Sums to outputs without a zero point."""
    if scaling.shift:
        yield f"vshl.i32 {sums}, {sums}, #{scaling.shift}"
    if scaling.exact:
        yield from scaled_exactly(sums, multipliers, shifts, scratch)
    else:
        yield f"vrmulh.s32 {sums}, {sums}, {multipliers}"


def scaled_exactly(sums: str, multipliers: str, shifts: str, scratch: str) -> Iterator[str]:
    """Sums times multipliers of 31 bits, shifted, as gemmlowp rounds them.

    A shift to the right rounds halves up, so negative numbers that are shifted lose one first;
    bit 31 of `number & -shift` tells which.
    """
    yield f"vqrdmulh.s32 {sums}, {sums}, {multipliers}"
    yield f"vand {scratch}, {sums}, {shifts}"
    yield f"vshr.s32 {scratch}, {scratch}, #31"
    yield f"vqadd.s32 {sums}, {sums}, {scratch}"
    yield f"vrshl.s32 {sums}, {sums}, {shifts}"


def filled(register: str, value: int) -> str:
    """All lanes of a vector are one number of [-256, 255]."""
    instruction, bits = ("vmov", value) if value >= 0 else ("vmvn", ~value)
    return f"{instruction}.i32 {register}, #{bits}"


_SCALE = """\
static inline int32_t {name}_scaled(int32_t sum, int32_t multiplier, int32_t shift) {{
  const int64_t product = (int64_t)(sum * (1 << {shift})) * multiplier;
{rounding}}}
"""

_ONCE = """\
  (void)shift;
  return (int32_t)((product + 0x80000000LL) >> 32);
"""
_TWICE = """\
  const int32_t high = (int32_t)((product + 0x40000000) >> 31);
  return (int32_t)(((int64_t)high + ((1LL << -shift) >> 1) - (high < 0 && shift < 0)) >> -shift);
"""


def scale_in_c(name: str, scaling: Scaling) -> str:
    """A C function `NAME_scaled` that does to one sum what `scaled` does to a vector."""
    rounding = _TWICE if scaling.exact else _ONCE
    return _SCALE.format(name=name, shift=scaling.shift, rounding=rounding)
