"""Collect the inputs of a tile of convolution outputs, two pixels in a word: a + b * 2^16.

For each tap of the window and channel there are the words of all pairs of pixels, as
`paired_matrix` wants them. Taps outside the image get the zero point, so that sums over a window
need no cases.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PairedGather:
    """Structure of a gathering function. pixels: of a tile; an odd last one stands alone."""

    pixels: int

    @property
    def name(self) -> str:
        """The C function's name."""
        return f"paired_gather_{self.pixels}"

    def source(self) -> str:
        """The C definition."""
        pairs = -(-self.pixels // 2)
        return _FUNCTION.format(name=self.name, pixels=self.pixels, pairs=pairs)


_FUNCTION = """\
static void {name}(void *to, const int8_t *in, const void *outside, int32_t row,
                 int32_t column, int32_t rows, int32_t columns, int32_t channels, int32_t row_taps,
                 int32_t column_taps, int32_t row_dilation, int32_t column_dilation,
                 int32_t stride) {{
  const int8_t *const zeros = outside;
  uint32_t *words = to;
  for (int32_t r = 0, y = row; r < row_taps; ++r, y += row_dilation) {{
    const int8_t *const line = in + y * columns * channels;
    const int32_t is_row = y >= 0 && y < rows;
    for (int32_t t = 0, x = column; t < column_taps; ++t, x += column_dilation) {{
      for (int32_t p = 0, at = x; p < {pairs}; ++p, at += 2 * stride) {{
        const int32_t next = 2 * p + 1 < {pixels} ? at + stride : at;
        const int8_t *a = is_row && at >= 0 && at < columns ? line + at * channels : zeros;
        const int8_t *b = is_row && next >= 0 && next < columns ? line + next * channels : zeros;
        uint32_t *word = words + p;
        int32_t c = channels;
        for (; c >= 4; c -= 4, a += 4, b += 4, word += 4 * {pairs}) {{
          word[0] = (uint32_t)a[0] + ((uint32_t)b[0] << 16);
          word[{pairs}] = (uint32_t)a[1] + ((uint32_t)b[1] << 16);
          word[2 * {pairs}] = (uint32_t)a[2] + ((uint32_t)b[2] << 16);
          word[3 * {pairs}] = (uint32_t)a[3] + ((uint32_t)b[3] << 16);
        }}
        for (; c > 0; --c, word += {pairs}) *word = (uint32_t)*a++ + ((uint32_t)*b++ << 16);
      }}
      words += {pairs} * channels;
    }}
  }}
}}
"""
