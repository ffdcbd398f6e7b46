"""Integer depthwise convolutions: all channels of one output, four at a time.

Two taps of a channel are one dual multiply: bytes of four channels are widened for both taps and
interleaved, weights lie as pairs of 16 bits. A last tap without partner is multiplied alone.

Rows of the input up to the output's own may be read from copies, the last `kept` rows in a ring:
then outputs may overwrite the input.
"""

from __future__ import annotations

from dataclasses import dataclass

from offramp.backends.tvm.integer.scaling import Scaling
from offramp.backends.tvm.microkernels.integer_gather import WIDEN

INTRINSICS = """\
#ifndef OFFRAMP_DUAL
#define OFFRAMP_DUAL
#define pair_low(a, b) ((int32_t)(((uint32_t)(a) & 0xffffu) | (uint32_t)(b) << 16))
#define pair_high(a, b) ((int32_t)(((uint32_t)(b) & 0xffff0000u) | (uint32_t)(a) >> 16))
#if defined(__ARM_FEATURE_SIMD32)
#define dual(a, b, sum) __smlad(a, b, sum)
#define low_by_low(a, b, sum) __smlabb(a, b, sum)
#define high_by_low(a, b, sum) __smlatb(a, b, sum)
#define saturated(value) __ssat(value, 8)
static inline int32_t scaled(int32_t sum, const int32_t *by, int32_t zero) {
  int32_t value;
  __asm("smmlar %0, %1, %2, %3" : "=r"(value) : "r"(sum), "r"(by[0]), "r"(zero));
  return value;
}
#else
#define dual(a, b, sum) \\
  ((sum) + (int16_t)(a) * (int16_t)(b) + ((a) >> 16) * ((b) >> 16))
#define low_by_low(a, b, sum) ((sum) + (int16_t)(a) * (int16_t)(b))
#define high_by_low(a, b, sum) ((sum) + ((a) >> 16) * (int16_t)(b))
#define saturated(value) ((value) < -128 ? -128 : (value) > 127 ? 127 : (value))
static inline int32_t scaled(int32_t sum, const int32_t *by, int32_t zero) {
  return (int32_t)(((int64_t)sum * by[0] + (int64_t)zero * 4294967296 + 0x80000000LL) >> 32);
}
#endif
static inline int32_t scaled_exactly(int32_t sum, const int32_t *by, int32_t zero) {
  const int32_t high = (int32_t)(((int64_t)sum * by[0] + 0x40000000) >> 31);
  return ((high + ((1 << by[1]) >> 1) + (by[2] & (high >> 31))) >> by[1]) + zero;
}
static inline int8_t bounded(int32_t value, int32_t low, int32_t high) {
  if (low == -128 && high == 127) return (int8_t)saturated(value);
  return (int8_t)(value < low ? low : value > high ? high : value);
}
#endif
"""
"""Portable spelling of `smlad`, `smlabb`, `smlatb`, `ssat`, `pkhbt`, `pkhtb` and `smmlar`, and a
clamp."""


@dataclass(frozen=True)
class IntegerDepthwise:
    """Structure of a microkernel. taps: of the whole window. scaling: of the sums."""

    taps: int
    scaling: Scaling

    @property
    def name(self) -> str:
        """The C function's name."""
        return f"integer_depthwise_{self.taps}_{self.scaling.name}"

    def source(self) -> str:
        """The C definition."""
        pairs = "".join(_PAIR.format(t=t, u=t + 1) for t in range(0, self.taps - 1, 2))
        single = _SINGLE.format(t=self.taps - 1) if self.taps % 2 else ""
        words = self.scaling.words
        scale = "scaled_exactly" if self.scaling.exact else "scaled"
        scaled = [
            f"{scale}(s{i} * {1 << self.scaling.shift}, scales + {words * i + 1}, zero)"
            for i in range(4)
        ]
        store = "".join(
            f"    out[c + {i}] = bounded({value}, {self.scaling.low}, {self.scaling.high});\n"
            for i, value in enumerate(scaled)
        )
        return (
            WIDEN
            + INTRINSICS
            + _FUNCTION.format(
                name=self.name, taps=self.taps, body=pairs + single, store=store, words=words
            )
        )


@dataclass(frozen=True)
class KeepRow:
    """Copies a row of the input before outputs overwrite it."""

    name: str = "integer_keep_row"

    def source(self) -> str:
        """The C definition."""
        return _KEEP_ROW


_KEEP_ROW = """\
static void integer_keep_row(void *to, const void *from, int32_t bytes) {
  memcpy(to, from, (size_t)bytes);
}
"""

_PAIR = """\
    {{
      const uint32_t a = four_bytes(taps[{t}] + c), b = four_bytes(taps[{u}] + c);
      const int32_t a0 = widen_even(a), a1 = widen_odd(a), b0 = widen_even(b), b1 = widen_odd(b);
      s0 = dual(pair_low(a0, b0), w[0], s0);
      s1 = dual(pair_low(a1, b1), w[1], s1);
      s2 = dual(pair_high(a0, b0), w[2], s2);
      s3 = dual(pair_high(a1, b1), w[3], s3);
      w += 4;
    }}
"""

_SINGLE = """\
    {{
      const uint32_t a = four_bytes(taps[{t}] + c);
      const int32_t a0 = widen_even(a), a1 = widen_odd(a);
      s0 += (int16_t)a0 * (int16_t)w[0];
      s1 += (int16_t)a1 * (int16_t)w[1];
      s2 += (a0 >> 16) * (w[0] >> 16);
      s3 += (a1 >> 16) * (w[1] >> 16);
      w += 2;
    }}
"""

_FUNCTION = """\
static void {name}(int8_t *out, const int8_t *in, const void *scratch, const int32_t *w,
                   const int32_t *scales, int32_t row, int32_t column, int32_t rows,
                   int32_t columns, int32_t channels, int32_t column_taps, int32_t row_dilation,
                   int32_t column_dilation, int32_t zero, int32_t own, int32_t kept) {{
  const int8_t *const zeros = scratch, *const ring = zeros + channels;
  const int8_t *taps[{taps}];
  for (int32_t i = 0, y = row; i < {taps}; y += row_dilation) {{
    const int32_t is_row = y >= 0 && y < rows, is_kept = kept > 0 && y <= own;
    const int8_t *line = zeros;
    if (is_row) line = (is_kept ? ring : in) + (is_kept ? y % kept : y) * columns * channels;
    for (int32_t t = 0, x = column; t < column_taps; ++t, ++i, x += column_dilation)
      taps[i] = is_row && x >= 0 && x < columns ? line + x * channels : zeros;
  }}
  for (int32_t c = 0; c < channels; c += 4, scales += 4 * {words}) {{
    int32_t s0 = scales[0], s1 = scales[{words}];
    int32_t s2 = scales[2 * {words}], s3 = scales[3 * {words}];
{body}{store}  }}
}}
"""
