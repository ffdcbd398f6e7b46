"""Sums of two tensors of which one, or the sum, has 16 bits."""

from __future__ import annotations

from dataclasses import dataclass

from offramp.backends.tvm.microkernels.dual import INTRINSICS


@dataclass(frozen=True)
class WideAdd:
    """Structure of a microkernel.

    bits: of the addends and the sum. low, high: bounds of the sum. shift: to the right, of the
    scaled sum in 64 bits.
    """

    bits: tuple[int, int, int]
    low: int
    high: int
    shift: int

    @property
    def name(self) -> str:
        """The C function's name."""
        bits = "_".join(map(str, self.bits))
        return f"wide_add_{bits}_{self.shift}_{self.low}to{self.high}".replace("-", "m")

    def source(self) -> str:
        """The C definition."""
        left, right, out = (f"int{bits}_t" for bits in self.bits)
        text = _FUNCTION.format(
            name=self.name,
            left=left,
            right=right,
            out=out,
            bounded="bounded" if self.bits[2] == 8 else "bounded_16",
            low=self.low,
            high=self.high,
            shift=self.shift,
            half=f"INT64_C({1 << (self.shift - 1)})",
        )
        return INTRINSICS + text


_FUNCTION = """\
static void {name}({out} *out, const {left} *left, const {right} *right, int32_t count,
                   int32_t left_zero, int32_t left_factor, int32_t right_zero,
                   int32_t right_factor, int32_t zero) {{
  for (int32_t i = 0; i < count; ++i) {{
    const int64_t a = (int64_t)(left[i] - left_zero) * left_factor;
    const int64_t b = (int64_t)(right[i] - right_zero) * right_factor;
    out[i] = {bounded}((int32_t)((a + b + {half}) >> {shift}) + zero, {low}, {high});
  }}
}}
"""
