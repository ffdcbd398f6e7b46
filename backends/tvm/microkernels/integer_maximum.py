"""Maxima of integers over a window; of bytes, four channels at a time."""

from __future__ import annotations

from dataclasses import dataclass

from offramp.backends.tvm.microkernels.dual import WIDEN


@dataclass(frozen=True)
class IntegerMaximum:
    """Structure of a microkernel; outputs may lie on taps of their own. low, high: their bounds.
    bits: of inputs and outputs."""

    low: int
    high: int
    bits: int = 8

    @property
    def name(self) -> str:
        """The C function's name."""
        bits = "" if self.bits == 8 else f"_{self.bits}bits"
        return f"integer_maximum_{self.low}to{self.high}{bits}".replace("-", "m")

    def source(self) -> str:
        """The C definition: `ssub8` and `sel` take the larger of four bytes each."""
        fours = self._fours() if self.bits == 8 else ""
        values = {"name": self.name, "item": f"int{self.bits}_t", "fours": fours}
        text = _FUNCTION.format(low=self.low, high=self.high, **values)
        return WIDEN + _LARGER + text

    def _fours(self) -> str:
        high = "" if self.high == 127 else _AT_MOST.format(high=_repeated(self.high))
        return _FOURS.format(bounded=high, low_word=_repeated(self.low))


def _repeated(byte: int) -> str:
    """A word of four equal bytes, in C."""
    return f"0x{(byte & 0xFF) * 0x01010101:08x}u"


_LARGER = """\
#if defined(__ARM_FEATURE_SIMD32) && !defined(OFFRAMP_LARGER)
#define OFFRAMP_LARGER
static inline uint32_t larger_bytes(uint32_t a, uint32_t b) {
  uint32_t value;
  __asm("ssub8 %0, %1, %2\\n\\tsel %0, %1, %2" : "=&r"(value) : "r"(a), "r"(b) : "cc");
  return value;
}
#endif
"""

_AT_MOST = """\
    value = ~larger_bytes(~value, ~{high});
"""

_FOURS = """\
#if defined(__ARM_FEATURE_SIMD32)
  for (; c + 4 <= channels; c += 4) {{
    const int8_t *start = first + c;
    uint32_t value = {low_word};
    for (int32_t r = 0; r < down; ++r, start += line) {{
      const int8_t *from = start;
      for (int32_t t = 0; t < across; ++t, from += step)
        value = larger_bytes(value, four_bytes(from));
    }}
{bounded}    memcpy(out + c, &value, 4);
  }}
#endif
"""

_FUNCTION = """\
static void {name}({item} *out, const {item} *in, int32_t row, int32_t column, int32_t rows,
                   int32_t columns, int32_t channels, int32_t row_taps, int32_t column_taps,
                   int32_t row_dilation, int32_t column_dilation) {{
  const int32_t top = row < 0 ? (-row + row_dilation - 1) / row_dilation : 0;
  const int32_t left = column < 0 ? (-column + column_dilation - 1) / column_dilation : 0;
  const {item} *first = in + ((row + top * row_dilation) * columns + column +
                              left * column_dilation) * channels;
  int32_t down = (rows - 1 - row) / row_dilation + 1 - top;
  int32_t across = (columns - 1 - column) / column_dilation + 1 - left;
  down = down < row_taps - top ? down : row_taps - top;
  across = across < column_taps - left ? across : column_taps - left;
  const int32_t line = row_dilation * columns * channels, step = column_dilation * channels;
  int32_t c = 0;
{fours}  for (; c < channels; ++c) {{
    const {item} *start = first + c;
    int32_t value = {low};
    for (int32_t r = 0; r < down; ++r, start += line) {{
      const {item} *from = start;
      for (int32_t t = 0; t < across; ++t, from += step)
        value = *from > value ? *from : value;
    }}
    out[c] = ({item})(value > {high} ? {high} : value);
  }}
}}
"""
