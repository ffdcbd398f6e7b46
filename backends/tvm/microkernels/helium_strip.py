"""Collect the inputs of neighbouring outputs of an integer convolution, each of them once.

Windows of neighbours overlap. A strip holds the columns of an image that a tile of outputs reads,
column by column, of each the rows of the window: a window is a part of it, with its steps in the
order window column, window row and channel. Taps outside the image get the zero point.
"""

from __future__ import annotations

from dataclasses import dataclass

from offramp.backends.tvm.microkernels.helium import GUARD
from offramp.backends.tvm.microkernels.helium_gather import COPY


@dataclass(frozen=True)
class HeliumStrip:
    """The gathering function for channels in sixteens; there is one."""

    name: str = "helium_strip"

    def source(self) -> str:
        """The C definition."""
        return COPY + _STREWN + _STRIP


_STREWN = f"""\
{GUARD}
static inline int8_t *strewn(int8_t *to, const int8_t *from, int32_t vectors, int32_t step,
                             int32_t pitch) {{
  __asm volatile("wls lr, %2, 2f\\n"
                 "1: vldrb.8 q0, [%1]\\n"
                 "add %1, %1, %3\\n"
                 "vstrb.8 q0, [%0]\\n"
                 "add %0, %0, %4\\n"
                 "le lr, 1b\\n"
                 "2:\\n"
                 : "+r"(to), "+r"(from) : "r"(vectors), "r"(step), "r"(pitch)
                 : "q0", "lr", "memory");
  return to;
}}
#else
static inline int8_t *strewn(int8_t *to, const int8_t *from, int32_t vectors, int32_t step,
                             int32_t pitch) {{
  for (int32_t i = 0; i < vectors; ++i, to += pitch) memcpy(to, from + i * step, 16);
  return to;
}}
#endif
"""
"""Vectors from places `step` bytes apart to places `pitch` bytes apart."""

_STRIP = """\
__attribute__((noinline))
static void helium_strip(
    int8_t *to, const int8_t *in, int32_t row, int32_t column, int32_t rows, int32_t columns,
    int32_t channels, int32_t row_taps, int32_t row_dilation, int32_t zero, int32_t count) {
  int8_t outside[16];
  filled(outside, zero, 16);
  const int32_t pitch = row_taps * channels, room = columns - column;
  const int32_t before = column >= 0 ? 0 : -column < count ? -column : count;
  const int32_t end = room < before ? before : room < count ? room : count;
  for (int32_t r = 0, y = row; r < row_taps; ++r, y += row_dilation) {
    const int32_t is_row = y >= 0 && y < rows;
    const int32_t first = is_row ? before : count, last = is_row ? end : count;
    const int8_t *from = is_row ? in + (y * columns + column + first) * channels : in;
    for (int32_t c = 0; c < channels; c += 16, to += 16) {
      int8_t *x = strewn(to, outside, first, 0, pitch);
      x = strewn(x, from + c, last - first, channels, pitch);
      strewn(x, outside, count - last, 0, pitch);
    }
  }
}
"""
