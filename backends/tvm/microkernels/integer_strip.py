"""Integer depthwise convolutions, channel by channel, on a copy of the channel with its border.

The weights of a channel stay in registers, and an input is loaded once for all outputs of a row
that read it. Since a channel is copied before its outputs are written, these may overwrite it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from offramp.backends.tvm.microkernels.rounding import PARAMETERS, ROUNDING, Rounding

WIDEST = 6
"""Outputs of a full strip: their sums and nine weights fit in registers."""


@dataclass(frozen=True)
class CopyPlane:
    """Copies one channel of an image into the middle of a plane."""

    name: str = "integer_copy_plane"

    def source(self) -> str:
        """The C definition."""
        return _COPY


@dataclass(frozen=True)
class IntegerStrip:
    """Structure of a microkernel.

    width: outputs beside each other in the strip that one call computes. row_taps, column_taps:
    of the window. stride, dilation: along a row. rounding: of the sums.
    """

    width: int
    row_taps: int
    column_taps: int
    stride: int
    dilation: int
    rounding: Rounding

    @property
    def name(self) -> str:
        """The C function's name."""
        window = f"{self.row_taps}x{self.column_taps}_{self.stride}_{self.dilation}"
        return f"integer_strip_{self.width}_{window}_{self.rounding.name}"

    def source(self) -> str:
        """The C definition."""
        taps, outputs = range(self.row_taps * self.column_taps), range(self.width)
        results = [self.rounding.bounded(f"(uint32_t)s{p}") for p in outputs]
        stores = [f"    out[{p} * channels] = {results[p]};" for p in outputs]
        return ROUNDING + _FUNCTION.format(
            name=self.name,
            weights=", ".join(f"w{t} = w[{t}]" for t in taps),
            sums=", ".join(f"s{p} = scales[0]" for p in outputs),
            parameters=PARAMETERS,
            scale=self.rounding.declared(),
            products="\n".join(self._products()),
            stores="\n".join(stores),
        )

    def _products(self) -> Iterator[str]:
        for row in range(self.row_taps):
            yield f"    x = in + {row} * next_tap;"
            readers: dict[int, list[tuple[int, int]]] = {}
            for p in range(self.width):
                for t in range(self.column_taps):
                    readers.setdefault(p * self.stride + t * self.dilation, []).append((p, t))
            for column in sorted(readers):
                products = " ".join(
                    f"s{p} += v * w{row * self.column_taps + t};" for p, t in readers[column]
                )
                yield f"    {{ const int32_t v = x[{column}]; {products} }}"


_COPY = """\
static void integer_copy_plane(void *to, const int8_t *from, int32_t rows, int32_t columns,
                               int32_t channels, int32_t line) {
  int8_t *plane = to;
  for (int32_t y = 0; y < rows; ++y, plane += line) {
    int8_t *place = plane;
    int32_t x = columns;
    for (; x >= 4; x -= 4, place += 4) {
      place[0] = *from, from += channels;
      place[1] = *from, from += channels;
      place[2] = *from, from += channels;
      place[3] = *from, from += channels;
    }
    for (; x > 0; --x, from += channels) *place++ = *from;
  }
}
"""

_FUNCTION = """\
SHARED_CODE
static void {name}(int8_t *out, const void *plane, const int8_t *w, const int32_t *scales,
                   int32_t rows, int32_t next_row, int32_t next_tap, int32_t channels,
                   int32_t next_out, {parameters}) {{
  const int32_t {weights};
  {scale}
  const int8_t *in = plane;
  for (int32_t y = 0; y < rows; ++y, in += next_row, out += next_out) {{
    const int8_t *x;
    int32_t {sums};
{products}
{stores}
  }}
}}
"""
