"""How C functions for cores without 64-bit accumulation scale, round and clamp sums of products.

`smmlar` and 64-bit additions are many instructions there. Where a sum has room for it, it is
doubled beforehand, which leaves the bit that decides how to round in the high word: three
instructions scale and round it. Shift, bounds and zero point are arguments, so that layers share
code.
"""

from __future__ import annotations

from dataclasses import dataclass

from offramp.backends.tvm.integer.scaling import EXACT_WORDS, WORDS, Scaling

ROUNDING = """\
#ifndef OFFRAMP_ROUNDING
#define OFFRAMP_ROUNDING
#if defined(__GNUC__) && !defined(__clang__)
#define SHARED_CODE __attribute__((noinline, noclone, optimize("no-schedule-insns")))
#else
#define SHARED_CODE
#endif
static inline int32_t high_word(int32_t a, int32_t b) {
  return (int32_t)(((int64_t)a * b) >> 32);
}
static inline int32_t halved(int32_t value) { return (value + 1) >> 1; }
static inline int32_t product(int32_t a, int32_t b, int32_t bits) {
  return (int32_t)(((int64_t)a * b + (int64_t)(1u << (bits - 1))) >> bits);
}
static inline int32_t shifted(int32_t value, int32_t by, int32_t half, int32_t mask) {
  return (value + half + (mask & (value >> 31))) >> by;
}
static inline int32_t between(int32_t value, int32_t low, int32_t high) {
  return value < low ? low : value > high ? high : value;
}
#endif
"""
"""`halved(high_word(2 * s, m))` is `product(s, m, 32)` and `halved(high_word(4 * s, m))` is
`product(s, m, 31)`: s * m / 2^bits, halves rounded up. `shifted` is a division by a power of two as
gemmlowp rounds it. `SHARED_CODE` keeps functions from being copied for arguments, and instructions
in the order of the source: GCC would move loads up until there are more values than registers."""

PARAMETERS = "int32_t left, int32_t low, int32_t high, int32_t zero"
"""C parameters for a scaling; `arguments` has their values."""


def arguments(scaling: Scaling) -> tuple[int, int, int, int]:
    """Shift to the left, lower and upper bound, zero point."""
    room = 0 if not scaling.has_room else 2 if scaling.exact else 1
    return scaling.shift + room, scaling.low, scaling.high, scaling.zero


@dataclass(frozen=True)
class Rounding:
    """What of a scaling is structure: whether it is exact, and whether sums have room."""

    exact: bool
    has_room: bool

    @classmethod
    def of(cls, scaling: Scaling) -> Rounding:
        """The structure of a scaling."""
        return cls(scaling.exact, scaling.has_room)

    @property
    def name(self) -> str:
        """What it adds to the name of a C function."""
        return f"{'exact' if self.exact else 'once'}{'_room' if self.has_room else ''}"

    @property
    def words(self) -> int:
        """Words of the scale table for a channel."""
        return EXACT_WORDS if self.exact else WORDS

    def declared(self) -> str:
        """C declarations of what `scaled` reads of the table `scales` of a channel."""
        if not self.exact:
            return "const int32_t factor = scales[1];"
        return (
            "const int32_t factor = scales[1], by = scales[2], mask = scales[3]; "
            "const int32_t half = (1 << by) >> 1;"
        )

    def scaled(self, total: str) -> str:
        """The C expression of an output before it is clamped; `total` is unsigned."""
        moved = f"(int32_t)({total} << left)"
        if self.exact:
            high = "halved(high_word({}, factor))" if self.has_room else "product({}, factor, 31)"
            return f"shifted({high.format(moved)}, by, half, mask) + zero"
        if self.has_room:
            return f"halved(high_word({moved}, factor) + 2 * zero)"
        return f"product({moved}, factor, 32) + zero"

    def bounded(self, total: str) -> str:
        """The C expression of an output."""
        return f"(int8_t)between({self.scaled(total)}, low, high)"
