"""Sums and means of 8-bit integers."""

from __future__ import annotations

from dataclasses import dataclass

from offramp.backends.tvm.microkernels.integer_depthwise import INTRINSICS
from offramp.backends.tvm.microkernels.integer_gather import WIDEN


@dataclass(frozen=True)
class IntegerAdd:
    """`out = clamp((a * left + b * right + offset) >> shift)`; low, high: the bounds."""

    low: int
    high: int

    @property
    def name(self) -> str:
        """The C function's name."""
        return f"integer_add_{self.low}to{self.high}".replace("-", "m")

    def source(self) -> str:
        """The C definition."""
        return WIDEN + INTRINSICS + _ADD.format(name=self.name, low=self.low, high=self.high)


@dataclass(frozen=True)
class IntegerMean:
    """Means over `rows` by `columns` positions of all channels; low, high: the bounds."""

    low: int
    high: int

    @property
    def name(self) -> str:
        """The C function's name."""
        return f"integer_mean_{self.low}to{self.high}".replace("-", "m")

    def source(self) -> str:
        """The C definition."""
        return WIDEN + INTRINSICS + _MEAN.format(name=self.name, low=self.low, high=self.high)


@dataclass(frozen=True)
class ExactAdd:
    """A sum as TFLite's reference kernel computes it: addends and sum are scaled, each rounded."""

    low: int
    high: int

    @property
    def name(self) -> str:
        """The C function's name."""
        return f"exact_add_{self.low}to{self.high}".replace("-", "m")

    def source(self) -> str:
        """The C definition."""
        return WIDEN + INTRINSICS + _EXACT_ADD.format(name=self.name, low=self.low, high=self.high)


@dataclass(frozen=True)
class ExactMean:
    """A mean as TFLite's reference kernel computes it: halves are rounded away from zero."""

    low: int
    high: int

    @property
    def name(self) -> str:
        """The C function's name."""
        return f"exact_mean_{self.low}to{self.high}".replace("-", "m")

    def source(self) -> str:
        """The C definition."""
        return WIDEN + INTRINSICS + _EXACT_MEAN.format(name=self.name, low=self.low, high=self.high)


_EXACT_ADD = """\
static void {name}(int8_t *out, const int8_t *left, const int8_t *right, const int32_t *scales,
                   int32_t count, int32_t left_zero, int32_t right_zero, int32_t zero) {{
  for (int32_t i = 0; i < count; ++i) {{
    const int32_t a = scaled_exactly((left[i] - left_zero) * (1 << 20), scales, 0);
    const int32_t b = scaled_exactly((right[i] - right_zero) * (1 << 20), scales + 3, 0);
    out[i] = bounded(scaled_exactly(a + b, scales + 6, zero), {low}, {high});
  }}
}}
"""

_EXACT_MEAN = """\
static void {name}(int8_t *out, const int8_t *in, int32_t rows, int32_t columns, int32_t in_row,
                   int32_t channels) {{
  const int32_t count = rows * columns;
  for (int32_t c = 0; c < channels; ++c) {{
    int32_t sum = 0;
    for (int32_t r = 0; r < rows; ++r) {{
      const int8_t *from = in + r * in_row + c;
      for (int32_t t = 0; t < columns; ++t, from += channels) sum += *from;
    }}
    out[c] = bounded((sum + (sum > 0 ? count / 2 : -(count / 2))) / count, {low}, {high});
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
static void {name}(int8_t *out, const int8_t *in, int32_t rows, int32_t columns, int32_t in_row,
                   int32_t channels, int32_t bias, int32_t factor, int32_t zero) {{
  for (int32_t c = 0; c < channels; ++c) {{
    int32_t sum = bias;
    for (int32_t r = 0; r < rows; ++r) {{
      const int8_t *from = in + r * in_row + c;
      for (int32_t t = 0; t < columns; ++t, from += channels) sum += *from;
    }}
    out[c] = bounded(scaled(sum, &factor, zero), {low}, {high});
  }}
}}
"""
