"""Collect the inputs of a tile of integer convolution outputs, as they are.

The inputs of a pixel lie in window row, window column and channel order, those of the next pixel
right behind them. Taps outside the image get the zero point, so that sums over a window need no
cases. Rows may be read from copies, the last `kept` of them in a ring (see `integer_gather`): then
outputs may overwrite the input. A tile reads whole vectors: what it finds behind the inputs of a
pixel has zero weights.
"""

from __future__ import annotations

from dataclasses import dataclass

from offramp.backends.tvm.microkernels.helium import GUARD


@dataclass(frozen=True)
class HeliumGather:
    """The gathering function; there is one."""

    name: str = "helium_gather"

    def source(self) -> str:
        """The C definition; loops of whole vectors end in a partial one (tail predication)."""
        return COPY + _GATHER


COPY = f"""\
#ifndef OFFRAMP_COPY
#define OFFRAMP_COPY
{GUARD}
static inline int8_t *copied(int8_t *to, const int8_t *from, int32_t bytes) {{
  int8_t *end = to;
  __asm volatile("wlstp.8 lr, %2, 2f\\n"
                 "1: vldrb.8 q0, [%1], #16\\n"
                 "vstrb.8 q0, [%0], #16\\n"
                 "letp lr, 1b\\n"
                 "2:\\n"
                 : "+r"(end), "+r"(from) : "r"(bytes) : "q0", "lr", "memory");
  return to + bytes;
}}
static inline int8_t *filled(int8_t *to, int32_t value, int32_t bytes) {{
  int8_t *end = to;
  __asm volatile("vdup.8 q0, %1\\n"
                 "wlstp.8 lr, %2, 2f\\n"
                 "1: vstrb.8 q0, [%0], #16\\n"
                 "letp lr, 1b\\n"
                 "2:\\n"
                 : "+r"(end) : "r"(value), "r"(bytes) : "q0", "lr", "memory");
  return to + bytes;
}}
#else
static inline int8_t *copied(int8_t *to, const int8_t *from, int32_t bytes) {{
  memcpy(to, from, (size_t)bytes);
  return to + bytes;
}}
static inline int8_t *filled(int8_t *to, int32_t value, int32_t bytes) {{
  memset(to, value, (size_t)bytes);
  return to + bytes;
}}
#endif
#endif
"""

_GATHER = """\
__attribute__((noinline))
static void helium_gather(
    void *to, const int8_t *in, int32_t row, int32_t column, int32_t rows, int32_t columns,
    int32_t channels, int32_t row_taps, int32_t column_taps, int32_t row_dilation,
    int32_t column_dilation, int32_t stride, int32_t zero, int32_t pixels, int32_t kept) {
  const int32_t run = column_dilation == 1 ? column_taps : 1;
  const int32_t line = columns * channels, last = row + (row_taps - 1) * row_dilation;
  const int32_t is_whole = row >= 0 && last < rows && run == column_taps;
  int8_t *x = to;
  for (int32_t p = 0; p < pixels; ++p, column += stride) {
    if (is_whole && column >= 0 && column + run <= columns) {
      for (int32_t r = 0, y = row; r < row_taps; ++r, y += row_dilation)
        x = copied(x, in + (kept > 0 ? y % kept : y) * line + column * channels, run * channels);
      continue;
    }
    for (int32_t r = 0, y = row; r < row_taps; ++r, y += row_dilation) {
      if (y < 0 || y >= rows) {
        x = filled(x, zero, column_taps * channels);
        continue;
      }
      const int8_t *const from = in + (kept > 0 ? y % kept : y) * line;
      for (int32_t t = 0, at = column; t < column_taps; t += run, at += column_dilation) {
        if (at >= 0 && at + run <= columns) {
          x = copied(x, from + at * channels, run * channels);
          continue;
        }
        const int32_t before = at < 0 ? (at + run < 0 ? run : -at) : 0, room = columns - at;
        const int32_t end = room < before ? before : room < run ? room : run;
        x = filled(x, zero, before * channels);
        x = copied(x, from + (at + before) * channels, (end - before) * channels);
        x = filled(x, zero, (run - end) * channels);
      }
    }
  }
}
"""
