"""Collect the inputs of a tile of integer convolution outputs, widened to 16 bits if they are 8.

Four neighbouring inputs become two words, (0, 2) and (1, 3), as `integer_matrix` wants them;
the words of the tile's pixels lie beside each other. Taps outside the image get the zero point, so
that sums over a window need no cases.
"""

from __future__ import annotations

from dataclasses import dataclass

from offramp.backends.tvm.microkernels.dual import WIDEN


@dataclass(frozen=True)
class IntegerGather:
    """Structure of a gathering function.

    pixels: of a tile. whole: channels come in fours. bits: of the inputs. lines: for other
    channels, of bytes: (rows of the window, bytes of each) if these are to be copied at once where
    the image has them, else None.
    """

    pixels: int
    whole: bool
    bits: int = 8
    lines: tuple[int, int] | None = None

    @property
    def name(self) -> str:
        """The C function's name."""
        bits = "" if self.bits == 8 else f"_{self.bits}bits"
        lines = "" if self.lines is None else "_{}x{}".format(*self.lines)
        return f"integer_gather_{self.pixels}{'_fours' if self.whole else ''}{bits}{lines}"

    def source(self) -> str:
        """The C definition."""
        text = _HEAD.replace("KEPT", "" if self.whole else ", int32_t kept")
        text += _FOURS if self.whole else ("" if self.lines is None else _LINES) + _SINGLES
        values = {"NAME": self.name, "PIXELS": str(self.pixels), **_ITEMS[self.bits]}
        if self.lines is not None:
            rows, line = self.lines
            filled = -(-rows * line // 4) * 4
            values |= {"ROWS": str(rows), "LINE": str(line), "FILLED": str(filled)}
        for placeholder, value in values.items():
            text = text.replace(placeholder, value)
        return WIDEN + text


@dataclass(frozen=True)
class KeepRows:
    """Copies the rows that a row of outputs is the first to read into a ring of as many as it
    reads."""

    name: str = "integer_keep_rows"

    def source(self) -> str:
        """The C definition."""
        return _KEEP_ROWS


_KEEP_ROWS = """\
static void integer_keep_rows(void *ring, const int8_t *in, int32_t row, int32_t rows,
                              int32_t line, int32_t taps, int32_t stride, int32_t pad) {
  const int32_t end = row * stride - pad + taps;
  for (int32_t y = row > 0 ? end - stride : 0; y < end && y < rows; ++y)
    memcpy((int8_t *)ring + y % taps * line, in + y * line, (size_t)line);
}
"""


_ITEMS = {
    8: {
        "ITEM": "int8_t",
        "LOADED": "const uint32_t word = four_bytes(four);",
        "EVEN": "widen_even(word)",
        "ODD": "widen_odd(word)",
    },
    16: {
        "ITEM": "int16_t",
        "LOADED": "const uint32_t word = two_halves(four), next = two_halves(four + 2);",
        "EVEN": "pair_low(word, next)",
        "ODD": "pair_high(word, next)",
    },
}
"""How four neighbours become two words, by their bits."""

_HEAD = """\
static void NAME(void *to, const ITEM *in, int32_t row, int32_t column, int32_t rows,
                 int32_t columns, int32_t channels, int32_t row_taps, int32_t column_taps,
                 int32_t row_dilation, int32_t column_dilation, int32_t stride, int32_t zeroKEPT) {
"""

_FOURS = """\
  const int32_t fill = (int32_t)((uint32_t)(zero & 0xffff) * 0x10001u);
  const int32_t last = column + (PIXELS - 1) * stride + (column_taps - 1) * column_dilation;
  const int32_t inside = column >= 0 && last < columns;
  int32_t *x = to;
  for (int32_t r = 0; r < row_taps; ++r) {
    const int32_t y = row + r * row_dilation;
    if (y < 0 || y >= rows) {
      for (int32_t i = 0; i < column_taps * channels / 2 * PIXELS; ++i) *x++ = fill;
      continue;
    }
    if (inside && column_dilation == 1) {
      const ITEM *from = in + (y * columns + column) * channels;
      for (int32_t i = 0; i < column_taps * channels; i += 4, from += 4, x += 2 * PIXELS)
        for (int32_t p = 0; p < PIXELS; ++p) {
          const ITEM *four = from + p * stride * channels;
          LOADED
          x[p] = EVEN;
          x[PIXELS + p] = ODD;
        }
      continue;
    }
    for (int32_t t = 0; t < column_taps; ++t, x += channels / 2 * PIXELS)
      for (int32_t p = 0; p < PIXELS; ++p) {
        const int32_t at = column + p * stride + t * column_dilation;
        int32_t *place = x + p;
        if (at < 0 || at >= columns) {
          for (int32_t c = 0; c < channels; c += 2, place += PIXELS) *place = fill;
          continue;
        }
        const ITEM *from = in + (y * columns + at) * channels;
        for (int32_t c = 0; c < channels; c += 4, place += 2 * PIXELS) {
          const ITEM *four = from + c;
          LOADED
          place[0] = EVEN;
          place[PIXELS] = ODD;
        }
      }
  }
}
"""

_LINES = """\
  const int32_t last = column + (PIXELS - 1) * stride + column_taps - 1;
  if (column >= 0 && last < columns) {
    int8_t window[FILLED];
    const int8_t *lines[ROWS];
    int32_t *words = to;
    memset(window + FILLED - 4, 0, 4);
    for (int32_t r = 0; r < ROWS; ++r) {
      const int32_t y = row + r * row_dilation, at_row = kept > 0 && y >= 0 ? y % kept : y;
      lines[r] = y < 0 || y >= rows ? 0 : in + (at_row * columns + column) * channels;
    }
    for (int32_t p = 0; p < PIXELS; ++p, ++words) {
      for (int32_t r = 0; r < ROWS; ++r)
        if (lines[r]) {
          memcpy(window + r * LINE, lines[r], LINE);
          lines[r] += stride * channels;
        } else {
          memset(window + r * LINE, (int)zero, LINE);
        }
      for (int32_t i = 0; i < FILLED / 4; ++i) {
        const uint32_t word = four_bytes(window + 4 * i);
        words[2 * i * PIXELS] = widen_even(word);
        words[(2 * i + 1) * PIXELS] = widen_odd(word);
      }
    }
    return;
  }
"""

_SINGLES = """\
  int16_t *x = to;
  int32_t k = 0;
  for (int32_t r = 0; r < row_taps; ++r) {
    const int32_t y = row + r * row_dilation, at_row = kept > 0 && y >= 0 ? y % kept : y;
    for (int32_t t = 0; t < column_taps; ++t)
      for (int32_t c = 0; c < channels; ++c, ++k)
        for (int32_t p = 0; p < PIXELS; ++p) {
          const int32_t at = column + p * stride + t * column_dilation;
          const int32_t inside = y >= 0 && y < rows && at >= 0 && at < columns;
          x[((k / 4 * 2 + k % 2) * PIXELS + p) * 2 + k / 2 % 2] =
              (int16_t)(inside ? in[(at_row * columns + at) * channels + c] : zero);
        }
  }
  for (; k % 4; ++k)
    for (int32_t p = 0; p < PIXELS; ++p)
      x[((k / 4 * 2 + k % 2) * PIXELS + p) * 2 + k / 2 % 2] = 0;
}
"""
