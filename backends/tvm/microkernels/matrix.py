"""Tiles of convolutions and dense layers: a small matrix product over strided rows.

    out[p * out_pixel + f] = act(bias[f] + residual[p * out_pixel + f]
        + sum over rows r, steps k of in[p * in_pixel + r * in_row + k] * w[r * w_row + k * F + f])

One `vldmia` loads up to eight consecutive weights or four inputs: 72 instructions for 64
multiply-accumulates, where a compiler, which knows only single loads, needs about 96.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from offramp.backends.tvm.microkernels.activation import Activation
from offramp.backends.tvm.microkernels.assembly import (
    CHUNK,
    CLOBBERS,
    GUARD,
    REGISTERS,
    quoted,
    span,
)


@dataclass(frozen=True)
class MatrixTile:
    """Structure of a microkernel for `pixels` by `filters` outputs.

    rest: length of one contiguous run modulo `unroll`, computed after the loop. loops: whether a
    run is at least `unroll` long. residual: whether a tensor of the output's shape (perhaps the
    output itself) is added. activation: of the sums.
    """

    pixels: int
    filters: int
    rest: int
    loops: bool
    residual: bool
    activation: Activation

    @property
    def unroll(self) -> int:
        """Reduction steps of one round: as many inputs of each pixel are loaded at once."""
        return unroll(self.pixels, self.filters)

    @property
    def name(self) -> str:
        """The C function's name."""
        flags = "_loop" * self.loops + "_residual" * self.residual + self.activation.suffix
        return f"tile_{self.pixels}x{self.filters}_{self.rest}{flags}"

    def source(self) -> str:
        """The C definition: assembly for Arm with a floating-point unit, loops elsewhere."""
        return _FUNCTION.format(
            name=self.name,
            guard=GUARD,
            assembly=quoted(self._assembly()),
            pointers="".join(f"  const float *x{p} = in + {p} * in_pixel;\n" for p in self._pixels),
            outputs=", ".join([f'[x{p}] "+r"(x{p})' for p in self._pixels]),
            clobbers=CLOBBERS,
            pixels=self.pixels,
            filters=self.filters,
            unroll=self.unroll,
            rest=self.rest,
            start="residual[p * out_pixel + f] + bias[f]" if self.residual else "bias[f]",
            unused="" if self.residual else "  (void)residual;\n",
            residual=', [residual] "r"(residual)' if self.residual else "",
            result=self.activation.in_c("sum"),
        )

    @property
    def _pixels(self) -> range:
        return range(self.pixels)

    def _sum(self, pixel: int, filter_: int) -> int:
        return pixel * self.filters + filter_

    def _assembly(self) -> Iterator[str]:
        """Registers: sums, then `unroll` inputs of each pixel, then a few weights."""
        for pixel in self._pixels:
            yield from _transfer("vldmia", "%[bias]", self._sum(pixel, 0), self.filters)
        if self.residual:
            yield from self._add_residual()
        yield "cmp %[rows], #0"
        yield "ble 3f"
        yield "2:"
        if self.loops:
            yield "ldr %[count], [%[constants]]"
            yield "1:"
            yield from self._round(self.unroll)
            yield "subs %[count], %[count], #1"
            yield "bne 1b"
        if self.rest:
            yield from self._round(self.rest)
        yield "ldr %[count], [%[constants], #4]"
        yield from (f"add %[x{p}], %[x{p}], %[count]" for p in self._pixels)
        yield "ldr %[count], [%[constants], #8]"
        yield "add %[w], %[w], %[count]"
        yield "subs %[rows], %[rows], #1"
        yield "bne 2b"
        yield "3:"
        yield from self._finish()

    def _round(self, steps: int) -> Iterator[str]:
        """Multiply-accumulate `steps` inputs of every pixel."""
        inputs = self.pixels * self.filters
        weights = inputs + self.pixels * self.unroll
        for pixel in self._pixels:
            first = inputs + pixel * self.unroll
            yield f"vldmia %[x{pixel}]!, {span(first, steps)}"
        for step in range(steps):
            for start in range(0, self.filters, CHUNK):
                count = min(CHUNK, self.filters - start)
                yield f"vldmia %[w]!, {span(weights, count)}"
                for pixel in self._pixels:
                    item = inputs + pixel * self.unroll + step
                    for i in range(count):
                        yield f"vfma.f32 s{self._sum(pixel, start + i)}, s{item}, s{weights + i}"

    def _add_residual(self) -> Iterator[str]:
        spare = self.pixels * self.filters
        room = min(REGISTERS - spare, CHUNK)
        yield "mov %[count], %[residual]"
        for pixel in self._pixels:
            for start in range(0, self.filters, room):
                count = min(room, self.filters - start)
                yield from _transfer("vldmia", "%[count]", spare, count, offset=4 * start)
                for i in range(count):
                    total = self._sum(pixel, start + i)
                    yield f"vadd.f32 s{total}, s{total}, s{spare + i}"
            if pixel + 1 < self.pixels:
                yield "add %[count], %[count], %[out_pixel]"

    def _finish(self) -> Iterator[str]:
        count = self.pixels * self.filters
        yield from self.activation.in_assembly(count, "%[count]")
        for pixel in self._pixels:
            yield from _transfer("vstmia", "%[out]", self._sum(pixel, 0), self.filters)
            if pixel + 1 < self.pixels:
                yield "add %[out], %[out], %[out_pixel]"


def unroll(pixels: int, filters: int) -> int:
    """Inputs of each pixel that fit in registers beside the sums and the weights."""
    room = REGISTERS - pixels * filters - min(filters, CHUNK)
    return max(n for n in (1, 2, 4) if n * pixels <= room)


def _transfer(
    operation: str, pointer: str, first: int, count: int, offset: int = 0
) -> Iterator[str]:
    """Load or store consecutive registers; with an offset, one by one."""
    if offset == 0:
        yield f"{operation} {pointer}, {span(first, count)}"
        return
    single = {"vldmia": "vldr", "vstmia": "vstr"}[operation]
    for i in range(count):
        yield f"{single} s{first + i}, [{pointer}, #{offset + 4 * i}]"


_FUNCTION = """\
static void {name}(float *out, const float *in, const float *w, const float *bias,
                   const float *residual, int32_t rows, int32_t steps, int32_t in_row,
                   int32_t w_row, int32_t in_pixel, int32_t out_pixel) {{
{unused}{guard}
{pointers}  const int32_t constants[] = {{steps / {unroll}, 4 * (in_row - steps),
                               4 * (w_row - steps * {filters})}};
  int32_t count;
  __asm volatile(
{assembly}
      : {outputs}, [w] "+r"(w), [rows] "+r"(rows), [out] "+r"(out), [count] "=&r"(count)
      : [bias] "r"(bias), [constants] "r"(constants), [out_pixel] "r"(4 * out_pixel){residual}
      : "cc", "memory", {clobbers});
#else
  for (int32_t p = 0; p < {pixels}; ++p)
    for (int32_t f = 0; f < {filters}; ++f) {{
      float sum = {start};
      for (int32_t r = 0; r < rows; ++r)
        for (int32_t k = 0; k < steps; ++k)
          sum += in[p * in_pixel + r * in_row + k] * w[r * w_row + k * {filters} + f];
      out[p * out_pixel + f] = {result};
    }}
#endif
}}
"""
