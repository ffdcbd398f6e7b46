"""Sums of 8-bit integers, and means."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from offramp.backends.tvm.microkernels.dual import INTRINSICS, WIDEN
from offramp.backends.tvm.microkernels.rounding import ROUNDING


class Elementwise(Enum):
    """What is computed.

    ADD: `clamp((a * left + b * right + offset) >> shift)`. MEAN: of `rows` by `columns` positions,
    for each channel. The exact ones as TFLite's reference kernels: addends and sum are scaled, each
    rounded; means round halves away from zero.
    """

    ADD = "integer_add"
    MEAN = "integer_mean"
    EXACT_ADD = "exact_add"
    EXACT_MEAN = "exact_mean"


@dataclass(frozen=True)
class IntegerElementwise:
    """Structure of a microkernel. low, high: bounds of the outputs. bits: of inputs and outputs;
    means know 16, too."""

    kind: Elementwise
    low: int
    high: int
    bits: tuple[int, int] = (8, 8)

    @property
    def name(self) -> str:
        """The C function's name."""
        bits = "" if self.bits == (8, 8) else "_{}_{}bits".format(*self.bits)
        return f"{self.kind.value}_{self.low}to{self.high}{bits}".replace("-", "m")

    def source(self) -> str:
        """The C definition."""
        text = _TEMPLATES[self.kind].format(
            name=self.name,
            low=self.low,
            high=self.high,
            item=f"int{self.bits[0]}_t",
            result=f"int{self.bits[1]}_t",
            bounded="bounded" if self.bits[1] == 8 else "bounded_16",
        )
        return WIDEN + INTRINSICS + ROUNDING + text


_EXACT_ADD = """\
static void {name}(int8_t *out, const int8_t *left, const int8_t *right, const int32_t *scales,
                   int32_t count, int32_t left_zero, int32_t right_zero, int32_t zero) {{
  const int32_t m0 = scales[0], by0 = scales[1], half0 = (1 << by0) >> 1, mask0 = scales[2];
  const int32_t m1 = scales[3], by1 = scales[4], half1 = (1 << by1) >> 1, mask1 = scales[5];
  const int32_t m2 = scales[6], by2 = scales[7], half2 = (1 << by2) >> 1, mask2 = scales[8];
  for (int32_t i = 0; i < count; ++i) {{
    const int32_t a0 = halved(high_word((left[i] - left_zero) * (1 << 22), m0));
    const int32_t b0 = halved(high_word((right[i] - right_zero) * (1 << 22), m1));
    const int32_t sum = shifted(a0, by0, half0, mask0) + shifted(b0, by1, half1, mask1);
    const int32_t value = shifted(halved(high_word(sum * 4, m2)), by2, half2, mask2);
    out[i] = bounded(value + zero, {low}, {high});
  }}
}}
"""

_EXACT_MEAN = """\
static void {name}({result} *out, const {item} *in, int32_t rows, int32_t columns, int32_t in_row,
                   int32_t channels) {{
  const int32_t count = rows * columns;
  for (int32_t c = 0; c < channels; ++c) {{
    int32_t sum = 0;
    for (int32_t r = 0; r < rows; ++r) {{
      const {item} *from = in + r * in_row + c;
      for (int32_t t = 0; t < columns; ++t, from += channels) sum += *from;
    }}
    out[c] = {bounded}((sum + (sum > 0 ? count / 2 : -(count / 2))) / count, {low}, {high});
  }}
}}
"""

_ADD = """\
static void {name}(int8_t *out, const int8_t *left, const int8_t *right, int32_t count,
                   int32_t factors, int32_t offset, int32_t shift) {{
  int32_t i = 0;
  for (; i + 4 <= count; i += 4) {{
    const uint32_t a = four_bytes(left + i), b = four_bytes(right + i);
    const int32_t a0 = widen_even(a), a1 = widen_odd(a), b0 = widen_even(b), b1 = widen_odd(b);
    out[i] = bounded(dual(pair_low(a0, b0), factors, offset) >> shift, {low}, {high});
    out[i + 1] = bounded(dual(pair_low(a1, b1), factors, offset) >> shift, {low}, {high});
    out[i + 2] = bounded(dual(pair_high(a0, b0), factors, offset) >> shift, {low}, {high});
    out[i + 3] = bounded(dual(pair_high(a1, b1), factors, offset) >> shift, {low}, {high});
  }}
  for (; i < count; ++i)
    out[i] = bounded(dual(pair_low(left[i], right[i]), factors, offset) >> shift, {low}, {high});
}}
"""

_MEAN = """\
static void {name}({result} *out, const {item} *in, int32_t rows, int32_t columns, int32_t in_row,
                   int32_t channels, int32_t bias, int32_t left, int32_t factor, int32_t zero) {{
  for (int32_t c = 0; c < channels; ++c) {{
    int32_t sum = bias;
    for (int32_t r = 0; r < rows; ++r) {{
      const {item} *from = in + r * in_row + c;
      for (int32_t t = 0; t < columns; ++t, from += channels) sum += *from;
    }}
    out[c] = {bounded}(scaled(sum * (1 << left), &factor, zero), {low}, {high});
  }}
}}
"""

_TEMPLATES = {
    Elementwise.ADD: _ADD,
    Elementwise.MEAN: _MEAN,
    Elementwise.EXACT_ADD: _EXACT_ADD,
    Elementwise.EXACT_MEAN: _EXACT_MEAN,
}
