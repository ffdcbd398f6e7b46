"""Integer depthwise convolutions: all channels of one output, four at a time.

Two taps of a channel are one dual multiply: bytes of four channels are widened for both taps and
interleaved, weights lie as pairs of 16 bits. A last tap without partner is multiplied alone.

Rows of the input up to the output's own may be read from copies, the last `kept` rows in a ring:
then outputs may overwrite the input.
"""

from __future__ import annotations

from dataclasses import dataclass

from offramp.backends.tvm.integer.scaling import Scaling
from offramp.backends.tvm.microkernels.dual import INTRINSICS, WIDEN


@dataclass(frozen=True)
class IntegerDepthwise:
    """Structure of a microkernel. taps: of the whole window. scaling: of the sums. bits: of the
    inputs."""

    taps: int
    scaling: Scaling
    bits: int = 8

    @property
    def name(self) -> str:
        """The C function's name."""
        bits = "" if self.bits == 8 else f"_of_{self.bits}bits"
        return f"integer_depthwise_{self.taps}_{self.scaling.name}{bits}"

    def source(self) -> str:
        """The C definition."""
        pair, last = (_PAIR, _SINGLE) if self.bits == 8 else (_WIDE_PAIR, _WIDE_SINGLE)
        pairs = "".join(pair.format(t=t, u=t + 1) for t in range(0, self.taps - 1, 2))
        single = last.format(t=self.taps - 1) if self.taps % 2 else ""
        words = self.scaling.words
        scale = "scaled_exactly" if self.scaling.exact else "scaled"
        clamp = "bounded" if self.scaling.bits == 8 else "bounded_16"
        scaled = [
            f"{scale}(s{i} * {1 << self.scaling.shift}, scales + {words * i + 1}, zero)"
            for i in range(4)
        ]
        store = "".join(
            f"    out[c + {i}] = {clamp}({value}, {self.scaling.low}, {self.scaling.high});\n"
            for i, value in enumerate(scaled)
        )
        return (
            WIDEN
            + INTRINSICS
            + _FUNCTION.format(
                name=self.name,
                result=f"int{self.scaling.bits}_t",
                item=f"int{self.bits}_t",
                taps=self.taps,
                body=pairs + single,
                store=store,
                words=words,
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

_WIDE_PAIR = """\
    {{
      const uint32_t a01 = two_halves(taps[{t}] + c), a23 = two_halves(taps[{t}] + c + 2);
      const uint32_t b01 = two_halves(taps[{u}] + c), b23 = two_halves(taps[{u}] + c + 2);
      s0 = dual(pair_low(a01, b01), w[0], s0);
      s1 = dual(pair_high(a01, b01), w[1], s1);
      s2 = dual(pair_low(a23, b23), w[2], s2);
      s3 = dual(pair_high(a23, b23), w[3], s3);
      w += 4;
    }}
"""

_WIDE_SINGLE = """\
    {{
      const int16_t *a = taps[{t}] + c;
      s0 += a[0] * (int16_t)w[0];
      s1 += a[1] * (int16_t)w[1];
      s2 += a[2] * (w[0] >> 16);
      s3 += a[3] * (w[1] >> 16);
      w += 2;
    }}
"""

_FUNCTION = """\
static void {name}({result} *out, const {item} *in, const void *scratch, const int32_t *w,
                   const int32_t *scales, int32_t row, int32_t column, int32_t rows,
                   int32_t columns, int32_t channels, int32_t column_taps, int32_t row_dilation,
                   int32_t column_dilation, int32_t zero, int32_t own, int32_t kept) {{
  const {item} *const zeros = scratch, *const ring = zeros + channels;
  const {item} *taps[{taps}];
  for (int32_t i = 0, y = row; i < {taps}; y += row_dilation) {{
    const int32_t is_row = y >= 0 && y < rows, is_kept = kept > 0 && y <= own;
    const {item} *line = zeros;
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
